"""Nets that know their name and their images, and say which images they can process."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from minise.checks import Array
from minise.nn import Chain
from minise.nn.inference import Inference
from minise.nn.layer import Caches
from minise.ops import cost


class Images(NamedTuple):
    """The images that a net is for.

    Attributes
    ----------
    name : str
        Name of the net.
    size : (int, int)
        Rows and columns for which the net was built.
    fixed : bool
        Whether the net processes only images of this size, because of its dense layers.
    rebuild : callable
        rebuild(ops) returns the net, with other parameters, on another back end.
    """

    name: str
    size: tuple[int, int]
    fixed: bool
    rebuild: Callable[..., Chain]

    def smallest(self, side: int | None = None) -> int:
        """Return the side of the smallest square image that the net can process, at most `side`."""
        ops = cost.Shapes()
        net, low, high = self.rebuild(ops=ops), 0, max(self.size) if side is None else side
        while high - low > 1:  # high works, low does not
            middle = (low + high) // 2
            low, high = (low, middle) if _processes(net, ops, middle) else (middle, high)
        return high

    def explained(self, x: Array, error: ValueError) -> ValueError:
        """Return an error that names the images of the right size, or the error itself."""
        if getattr(x, "ndim", 0) != 4 or x.shape[1] != 3 or 0 in x.shape:
            return error
        rows, columns = x.shape[2:]
        wrong = f"{self.name}: images are {rows} x {columns}, expected"
        if self.fixed:
            fits = f"{self.size[0]} x {self.size[1]}"
            return ValueError(
                f"{wrong} {fits}: resize them, or build the net with size=({rows}, {columns}) "
                f"({error})"
            )
        smallest = self.smallest()
        if min(rows, columns) >= smallest:
            return error
        return ValueError(
            f"{wrong} at least {smallest} x {smallest}: resize them, or choose a net for small "
            f"images ({error})"
        )


class Net(Chain):
    """A net of `models.build`: a chain of layers that knows its name and its images."""

    images: Images

    def forward(self, x: Array, training: bool) -> tuple[Array, Caches]:
        """Return the logits and the caches; raise ValueError if the images are too small."""
        try:
            return super().forward(x, training)
        except ValueError as error:
            raise self.images.explained(x, error) from None

    folded = Chain.folded  # defines the same function as this forward, too

    def inference(self) -> Inference:
        """Return a fast function of x; see Layer."""
        images, run = self.images, super().inference()

        def checked(x: Array) -> Array:
            try:
                return run(x)
            except ValueError as error:
                raise images.explained(x, error) from None

        return checked

    @property
    def name(self) -> str:
        """The net's name, as in models.names()."""
        return self.images.name

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns of the images that the net is for."""
        return self.images.size


def _processes(net: Chain, ops: cost.Shapes, side: int) -> bool:
    """Return True if a net can process square images of a side."""
    try:
        Chain.forward(net, ops.shaped((1, 3, side, side), np.float32), training=False)
    except ValueError:
        return False
    return True

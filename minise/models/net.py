"""A net that knows its name and the size of its images, for errors about images of other sizes."""

from collections.abc import Callable
from contextlib import suppress
from functools import cache, lru_cache
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

    def smallest(self) -> int:
        """Return the number of rows of the smallest square image that the net can process."""
        return _nearest(_predicate(self.rebuild), 1, range(1, max(self.size) + 1))

    def explained(self, x: Array, error: ValueError) -> ValueError:
        """Return an error that suggests images that fit, or `error` if x is not the cause."""
        if getattr(x, "ndim", 0) != 4 or 0 in x.shape:
            return error
        if x.shape[1] != 3:
            last = "x.transpose(0, 3, 1, 2)" if x.shape[3] == 3 else "convert the images to RGB"
            return ValueError(
                f"{self.name}: x has shape {x.shape}, expected (N, 3, H, W): {last} ({error})"
            )
        rows, columns = x.shape[2:]
        wrong = f"{self.name}: images are {rows} x {columns}, expected"
        if self.fixed:
            fits = f"{self.size[0]} x {self.size[1]}"
            return ValueError(
                f"{wrong} {fits}: resize them, or build the net with "
                f"image_size=({rows}, {columns}) ({error})"
            )
        processes = _predicate(self.rebuild)
        sides = range(1, max(rows, columns, *self.size) + 1)
        smallest = _nearest(processes, 1, sides)
        if min(rows, columns) < smallest:
            fits, remedy = f"at least {smallest} x {smallest}", "choose a net for small images"
        else:
            sides = sides[smallest - 1 :]
            nearest = [_nearest(processes, side, sides) for side in (rows, columns)]
            if nearest == [rows, columns]:
                return error
            fits, remedy = f"a size such as {nearest[0]} x {nearest[1]}", "crop them"
        return ValueError(f"{wrong} {fits}: resize them, or {remedy} ({error})")


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


@lru_cache(maxsize=4)  # of nets for which an error was raised
def _predicate(rebuild: Callable[..., Chain]) -> Callable[[int], bool]:
    """Return a function of a number of rows: whether the net can process such square images."""
    ops = cost.Shapes()
    layers = [layer for _, layer in rebuild(ops=ops).children()]

    @cache  # most sides lead to the same shapes after a few strides
    def output(k: int, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        with suppress(ValueError):
            return layers[k].forward(ops.shaped(shape, np.float32), training=False)[0].shape
        return None

    def processes(side: int) -> bool:
        shape: tuple[int, ...] | None = (1, 3, side, side)
        for k in range(len(layers)):
            shape = output(k, shape) if shape else None
        return shape is not None

    return processes


def _nearest(processes: Callable[[int], bool], side: int, sides: range) -> int:
    """Return the side nearest to `side` that the net can process, or the last if it can none."""
    return next(filter(processes, sorted(sides, key=lambda other: abs(other - side))), sides[-1])

"""The base class of layers that call one op."""

import functools
import typing
from collections.abc import Sequence
from typing import Any, ClassVar

from minise.checks import Array
from minise.nn.layer import Caches, Grads, Layer
from minise.ops import reference
from minise.ops.backend import in_place


class OpLayer(Layer):
    """A layer whose forward and backward are one op.

    Attributes
    ----------
    op : str
        Name of the op: forward calls ops.<op>_forward.
    arrays : tuple of str
        Names of the parameters that the op takes after x, in order.
    keywords : tuple of str
        Names of the attributes that the op takes as keyword arguments.
    """

    op: ClassVar[str]
    arrays: ClassVar[tuple[str, ...]] = ()
    keywords: ClassVar[tuple[str, ...]] = ()
    defaults: ClassVar[dict[str, Any]] = {}  # settings that repr omits

    def settings(self, training: bool) -> dict[str, Any]:
        """Return the op's keyword arguments."""
        return {name: getattr(self, name) for name in self.keywords}

    def settings_text(self) -> str:
        """Return the settings that differ from the defaults."""
        names = dict.fromkeys(name for name in ("kernel", *self.keywords) if name in vars(self))
        values = ((name, getattr(self, name)) for name in names)
        shown = [f"{name}={value}" for name, value in values if value != self.defaults.get(name)]
        return ", ".join(shown)

    def inputs(self) -> list[Any]:
        """Return the parameters that the op takes after x; None for an absent one."""
        return [self.params.get(name) for name in self.arrays]

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return the op's output and cache."""
        forward = getattr(in_place(self.ops, training), f"{self.op}_forward")
        out, cache = forward(x, *self.inputs(), **self.settings(training))
        return out, cache

    def backward(
        self, dout: Array, cache: Any, plus: Array | None = None, needs_dx: bool = True
    ) -> tuple[Array | None, Grads]:
        """Return dx and the gradients of the parameters."""
        check_cache(self.op, cache)
        dx, *rest = getattr(self.ops, f"{self.op}_backward")(dout, cache)
        return self.add(dx, plus), self.named(rest)

    def named(self, gradients: Sequence[Any]) -> Grads:
        """Return the op's gradients, which are in the order of `arrays`, by name."""
        pairs = zip(self.arrays, gradients, strict=False)  # a mask, the last input, has no name
        return {name: gradient for name, gradient in pairs if name in self.params}


@functools.cache
def _ops_by_cache() -> dict[type, str]:
    """Return the name of the op for each cache class of the reference."""
    ops = [n.removesuffix("_forward") for n in vars(reference) if n.endswith("_forward")]
    hints = (typing.get_type_hints(getattr(reference, f"{op}_forward")) for op in ops)
    return {typing.get_args(hint["return"])[1]: op for hint, op in zip(hints, ops, strict=True)}


def check_cache(op: str, cache: Any) -> None:
    """Raise ValueError if a cache is another op's; accept any class that is not reference's."""
    kind = "a net" if isinstance(cache, Caches) else _ops_by_cache().get(type(cache), op)
    if kind != op or cache is None:
        received = "None" if cache is None else f"a {type(cache).__name__} of {kind}"
        raise ValueError(
            f"{op}: cache is {received}, expected the cache that this layer's forward returned "
            "with the output of which dout is the gradient"
        )

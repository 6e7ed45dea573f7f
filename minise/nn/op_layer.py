"""A layer that is one op: what all layers of layers.py have in common."""

import functools
import typing
from collections.abc import Sequence
from typing import Any, ClassVar

from minise.nn.layer import Caches, Grads, Layer
from minise.ops import reference
from minise.ops.checks import Array


class OpLayer(Layer):
    """A layer that is one op.

    Attributes
    ----------
    op : str
        Its name: forward calls ops.<op>_forward.
    arrays : tuple of str
        Names of the parameters that the op takes after x, in its order.
    keywords : tuple of str
        Names of the attributes that the op takes by keyword.
    """

    op: ClassVar[str]
    arrays: ClassVar[tuple[str, ...]] = ()
    keywords: ClassVar[tuple[str, ...]] = ()
    usual: ClassVar[dict[str, Any]] = {}  # what a repr leaves out

    def settings(self, training: bool) -> dict[str, Any]:
        """Return what the op takes by keyword."""
        return {name: getattr(self, name) for name in self.keywords}

    def settings_text(self) -> str:
        """Return the settings that are not as usual."""
        names = dict.fromkeys(name for name in ("kernel", *self.keywords) if name in vars(self))
        values = ((name, getattr(self, name)) for name in names)
        shown = [f"{name}={value}" for name, value in values if value != self.usual.get(name)]
        return ", ".join(shown)

    def inputs(self) -> list[Any]:
        """Return the parameters as the op takes them, after x."""
        return [self.params.get(name) for name in self.arrays]

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return what the op returns."""
        forward = getattr(self.ops, f"{self.op}_forward")
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
        """Return the op's gradients, which come in the order of its arrays, by name."""
        pairs = zip(self.arrays, gradients, strict=False)  # of a mask, which comes last, no name
        return {name: gradient for name, gradient in pairs if name in self.params}


@functools.cache
def _ops_by_cache() -> dict[type, str]:
    """Return the op of every class of caches in the reference."""
    ops = [n.removesuffix("_forward") for n in vars(reference) if n.endswith("_forward")]
    hints = (typing.get_type_hints(getattr(reference, f"{op}_forward")) for op in ops)
    return {typing.get_args(hint["return"])[1]: op for hint, op in zip(hints, ops, strict=True)}


def check_cache(op: str, cache: Any) -> None:
    """Refuse another op's cache; one of a user's own class is taken as it is."""
    kind = "a net" if isinstance(cache, Caches) else _ops_by_cache().get(type(cache), op)
    if kind != op or cache is None:
        came = "None" if cache is None else f"a {type(cache).__name__} of {kind}"
        raise ValueError(
            f"{op}: cache is {came}, expected what forward of this layer returned with the output "
            "that dout belongs to"
        )

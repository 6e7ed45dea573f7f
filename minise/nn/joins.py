"""Joins: functions that turn the outputs of several branches into one array.

out, cache = join.forward(outs, training)
douts      = join.backward(dout, cache)
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from minise.checks import Array
from minise.nn.layer import Module
from minise.nn.streams import Rng, draws_from, next_draw
from minise.ops import reference
from minise.ops.backend import Backend, shaped


class Join(Module):
    """A differentiable function of several arrays, without parameters: the base class of joins.

    Attributes
    ----------
    count : int or None
        The number of arrays that forward takes; None for any number.
    """

    count: ClassVar[int | None] = None

    def forward(self, outs: Sequence[Array], training: bool) -> tuple[Array, Any]:
        """Return one array made of the branches' outputs, and the cache for backward."""
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} has no forward(outs, training) -> (out, cache)")

    def backward(self, dout: Array, cache: Any) -> list[Array]:
        """Return the gradient of the loss with respect to each of outs."""
        kind = type(self).__name__
        raise NotImplementedError(f"{kind} has no backward(dout, cache) -> list of douts")


class Concat(Join):
    """The concatenation of the outputs along the channels."""

    def forward(self, outs: Sequence[Array], training: bool) -> tuple[Array, Any]:
        """Return the outputs, concatenated along the channels."""
        return self.ops.concat_forward(*outs)

    def backward(self, dout: Array, cache: Any) -> list[Array]:
        """Return the channels of dout that belong to each output."""
        return list(self.ops.concat_backward(dout, cache))


class Add(Join):
    """The sum of the outputs."""

    def forward(self, outs: Sequence[Array], training: bool) -> tuple[Array, Any]:
        """Return the sum of the outputs."""
        out, caches = outs[0], []
        for other in outs[1:]:
            out, cache = self.ops.add_forward(out, other)
            caches.append(cache)
        return out, caches

    def backward(self, dout: Array, cache: Any) -> list[Array]:
        """Return dout for each output."""
        douts = []
        for add in reversed(cache):
            dout, other = self.ops.add_backward(dout, add)
            douts.append(other)
        return [dout, *reversed(douts)]


class Shake(Join):
    """Two outputs mixed by random shares, which differ in forward and in backward.

    In training every image of a batch gets a share alpha of the first output in forward, and a
    share beta of the gradient in backward, both uniform in 0..1. In evaluation both are 1/2. So the
    gradients in training are not those of forward, on purpose (see shake_backward in
    minise.ops.reference); those in evaluation are, and pass a gradient check.

    The shares depend on `state["seed"]`, which rng draws, and on `state["draws"]`, the number of
    batches before. Every checkpoint contains both.

    Source: Gastaldi, "Shake-Shake regularization", arXiv:1705.07485.
    """

    count = 2

    def __init__(self, *, ops: Backend | str = reference, rng: Rng = None) -> None:
        super().__init__(ops)
        self.state.update(draws_from("Shake", rng, self.ops))

    def forward(self, outs: Sequence[Array], training: bool) -> tuple[Array, Any]:
        """Return alpha * outs[0] + (1 - alpha) * outs[1], and the cache."""
        x1, x2 = outs
        alpha, beta = self.shares(x1, training)
        return self.ops.shake_forward(x1, x2, alpha=alpha, beta=beta)

    def backward(self, dout: Array, cache: Any) -> list[Array]:
        """Return beta * dout and (1 - beta) * dout."""
        return list(self.ops.shake_backward(dout, cache))

    def shares(self, x: Array, training: bool) -> tuple[Array, Array]:
        """Return alpha and beta (N,), in the dtype of x."""
        N = x.shape[0]
        if (undrawn := shaped(self.ops, (N,), x.dtype)) is not None:
            return undrawn, undrawn
        shares = next_draw(self).random((2, N)) if training else np.full((2, N), 0.5)
        alpha, beta = (self.ops.asarray(share, x.dtype) for share in shares)
        return alpha, beta


JOINS: dict[str, type[Join]] = {"concat": Concat, "add": Add}

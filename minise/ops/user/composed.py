"""Fused ops computed by the ops that they combine.

Nets call fused ops. If a user's file has one of the combined ops but not the fused op, completed.py
replaces the reference's ops in these functions by the user's. So a net calls the user's ReLU
wherever it has a ReLU.
"""

from typing import Any, NamedTuple

from minise.checks import Array
from minise.ops.reference import (
    add_backward,
    add_forward,
    batch_norm2d_backward,
    batch_norm2d_forward,
    relu_backward,
    relu_forward,
    squeeze_excite_backward,
    squeeze_excite_forward,
)
from minise.ops.user.pair import STATISTICS

PARTS = {
    "batch_norm2d_relu": ("batch_norm2d", "relu"),
    "batch_norm2d_add_relu": ("batch_norm2d", "add", "relu"),
    "se_block_tail": ("batch_norm2d", "squeeze_excite", "add", "relu"),
}


class ComposedCache(NamedTuple):
    """The caches of the combined ops; the running statistics of norm are attributes, for layers."""

    norm: Any
    gates: Any  # of squeeze_excite, or None
    add: Any  # or None
    relu: Any

    def __getattr__(self, name: str) -> Any:
        if name not in STATISTICS:
            raise AttributeError(f"a composed op's cache has no {name}")
        return getattr(self.norm, name)


def batch_norm2d_relu_forward(
    x: Array, gamma: Array, beta: Array, **settings: Any
) -> tuple[Array, ComposedCache]:
    """See minise.ops.reference.batch_norm2d_relu_forward."""
    y, norm = batch_norm2d_forward(x, gamma, beta, **settings)
    out, relu = relu_forward(y)
    return out, ComposedCache(norm, None, None, relu)


def batch_norm2d_relu_backward(dout: Array, cache: ComposedCache) -> tuple[Array, ...]:
    """Return dx, dgamma and dbeta."""
    # forward: out = relu(y)
    (dy,) = relu_backward(dout, cache.relu)

    # forward: y = batch_norm2d(x, gamma, beta)
    dx, dgamma, dbeta = batch_norm2d_backward(dy, cache.norm)
    return dx, dgamma, dbeta


def batch_norm2d_add_relu_forward(
    x: Array, gamma: Array, beta: Array, shortcut: Array, **settings: Any
) -> tuple[Array, ComposedCache]:
    """See minise.ops.reference.batch_norm2d_add_relu_forward."""
    y, norm = batch_norm2d_forward(x, gamma, beta, **settings)
    total, add = add_forward(y, shortcut)
    out, relu = relu_forward(total)
    return out, ComposedCache(norm, None, add, relu)


def batch_norm2d_add_relu_backward(dout: Array, cache: ComposedCache) -> tuple[Array, ...]:
    """Return dx, dgamma, dbeta and dshortcut."""
    # forward: out = relu(total)
    (dtotal,) = relu_backward(dout, cache.relu)

    # forward: total = y + shortcut
    dy, dshortcut = add_backward(dtotal, cache.add)

    # forward: y = batch_norm2d(x, gamma, beta)
    dx, dgamma, dbeta = batch_norm2d_backward(dy, cache.norm)
    return dx, dgamma, dbeta, dshortcut


def se_block_tail_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    w1: Array,
    b1: Array | None,
    w2: Array,
    b2: Array | None,
    shortcut: Array,
    *,
    gate: str = "sigmoid",
    **settings: Any,
) -> tuple[Array, ComposedCache]:
    """See minise.ops.reference.se_block_tail_forward."""
    y, norm = batch_norm2d_forward(x, gamma, beta, **settings)
    scaled, gates = squeeze_excite_forward(y, w1, b1, w2, b2, gate=gate)
    total, add = add_forward(scaled, shortcut)
    out, relu = relu_forward(total)
    return out, ComposedCache(norm, gates, add, relu)


def se_block_tail_backward(dout: Array, cache: ComposedCache) -> tuple[Array | None, ...]:
    """Return dx, dgamma, dbeta, dw1, db1, dw2, db2 and dshortcut."""
    # forward: out = relu(total)
    (dtotal,) = relu_backward(dout, cache.relu)

    # forward: total = scaled + shortcut
    dscaled, dshortcut = add_backward(dtotal, cache.add)

    # forward: scaled = squeeze_excite(y, w1, b1, w2, b2)
    dy, dw1, db1, dw2, db2 = squeeze_excite_backward(dscaled, cache.gates)

    # forward: y = batch_norm2d(x, gamma, beta)
    assert dy is not None
    dx, dgamma, dbeta = batch_norm2d_backward(dy, cache.norm)
    return dx, dgamma, dbeta, dw1, db1, dw2, db2, dshortcut

"""The fused ops, compiled: a normalisation with an SE block, a shortcut or a ReLU after it.

The closed forms are in minise/ops/reference/fused.py. The kernels of norm.py compute all of them,
with two passes over memory in forward and two in backward.
"""

from minise.checks import Array, check_choice
from minise.ops.jit.norm import backward, forward
from minise.ops.reference.fused import (
    SHAPES,
    BatchNorm2dAddReluCache,
    BatchNorm2dReluCache,
    SeBlockTailCache,
)
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeeze_excite import Gates
from minise.ops.shapes import check_arrays, check_batch_norm, check_gradient


def batch_norm2d_relu_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNorm2dReluCache]:
    """See minise.ops.reference.batch_norm2d_relu_forward; out is channels-last in memory."""
    arrays = x, gamma, beta, running_mean, running_var
    check_arrays("batch_norm2d_relu", SHAPES["batch_norm2d_relu"], *arrays)
    check_batch_norm("batch_norm2d_relu", x, training, momentum, eps)
    settings = training, float(momentum), float(eps)
    out, norm, _ = forward(arrays, settings, relu=True)
    return out, BatchNorm2dReluCache(norm, out)


def batch_norm2d_relu_backward(dout: Array, cache: BatchNorm2dReluCache) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_relu_backward; dx is channels-last in memory."""
    check_gradient("batch_norm2d_relu", dout, cache.out)
    return backward(dout, cache.norm, cache.out)[:3]


def batch_norm2d_add_relu_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    shortcut: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNorm2dAddReluCache]:
    """See minise.ops.reference.batch_norm2d_add_relu_forward; out is channels-last in memory."""
    op = "batch_norm2d_add_relu"
    check_arrays(op, SHAPES[op], x, gamma, beta, shortcut, running_mean, running_var)
    check_batch_norm(op, x, training, momentum, eps)
    arrays = x, gamma, beta, running_mean, running_var
    settings = training, float(momentum), float(eps)
    out, norm, _ = forward(arrays, settings, shortcut, relu=True)
    return out, BatchNorm2dAddReluCache(norm, out)


def batch_norm2d_add_relu_backward(
    dout: Array, cache: BatchNorm2dAddReluCache
) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_add_relu_backward; dx is channels-last in memory."""
    check_gradient("batch_norm2d_add_relu", dout, cache.out)
    gradients = backward(dout, cache.norm, cache.out, with_g=True)
    return *gradients[:3], gradients.g


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
    running_mean: Array,
    running_var: Array,
    training: bool,
    gate: str = "sigmoid",
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, SeBlockTailCache]:
    """See minise.ops.reference.se_block_tail_forward; out is channels-last in memory."""
    inputs = x, gamma, beta, w1, b1, w2, b2, shortcut, running_mean, running_var
    check_arrays("se_block_tail", SHAPES["se_block_tail"], *inputs)
    check_batch_norm("se_block_tail", x, training, momentum, eps)
    check_choice("se_block_tail", "gate", gate, GATES)
    arrays = x, gamma, beta, running_mean, running_var
    settings = training, float(momentum), float(eps)
    se = w1, b1, w2, b2
    out, norm, (zhat, z, h, s) = forward(arrays, settings, shortcut, relu=True, se=se, gate=gate)
    return out, SeBlockTailCache(norm, Gates(*se, z, h, s, "avg", gate), zhat, out)


def se_block_tail_backward(dout: Array, cache: SeBlockTailCache) -> tuple[Array | None, ...]:
    """See minise.ops.reference.se_block_tail_backward; dx is channels-last in memory."""
    check_gradient("se_block_tail", dout, cache.out)
    norm, gates, zhat, out = cache
    dx, dgamma, dbeta, dw1, sum1, dw2, sum2, g = backward(
        dout, norm, out, with_g=True, se=(zhat, gates)
    )
    db1 = None if gates.b1 is None else sum1
    db2 = None if gates.b2 is None else sum2
    return dx, dgamma, dbeta, dw1, db1, dw2, db2, g

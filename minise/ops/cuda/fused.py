"""The ends of residual units on the GPU, with two passes over images forward and two backward.

The closed forms are in minise/ops/reference/fused.py, the passes in norm.py and block_tail.cu.
"""

from minise.checks import Array, check_choice
from minise.ops.cuda.gating import excite, excite_backward
from minise.ops.cuda.launcher import Launcher
from minise.ops.cuda.norm import (
    channel_gradients,
    gradient_sums,
    input_gradient,
    normalised,
    statistics,
)
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
    gpu: Launcher,
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
    """See minise.ops.reference.batch_norm2d_relu_forward."""
    op = "batch_norm2d_relu"
    arrays = x, gamma, beta, running_mean, running_var
    check_arrays(op, SHAPES[op], *arrays)
    check_batch_norm(op, x, training, momentum, eps)
    norm = statistics(gpu, arrays, (training, float(momentum), float(eps)))
    out = normalised(gpu, norm, clip=True)
    return out, BatchNorm2dReluCache(norm, out)


def batch_norm2d_relu_backward(
    gpu: Launcher, dout: Array, cache: BatchNorm2dReluCache
) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_relu_backward."""
    check_gradient("batch_norm2d_relu", dout, cache.out)
    norm, out = cache
    sums, _, _ = gradient_sums(gpu, dout, out, norm, keep_g=False)
    dgamma, dbeta = channel_gradients(gpu, sums, norm)
    dx = input_gradient(gpu, dout, out, norm, dgamma, dbeta)
    return dx, dgamma, dbeta


def batch_norm2d_add_relu_forward(
    gpu: Launcher,
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
    """See minise.ops.reference.batch_norm2d_add_relu_forward."""
    op = "batch_norm2d_add_relu"
    check_arrays(op, SHAPES[op], x, gamma, beta, shortcut, running_mean, running_var)
    check_batch_norm(op, x, training, momentum, eps)
    arrays = x, gamma, beta, running_mean, running_var
    norm = statistics(gpu, arrays, (training, float(momentum), float(eps)))
    out = normalised(gpu, norm, None, shortcut, clip=True)
    return out, BatchNorm2dAddReluCache(norm, out)


def batch_norm2d_add_relu_backward(
    gpu: Launcher, dout: Array, cache: BatchNorm2dAddReluCache
) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_add_relu_backward."""
    check_gradient("batch_norm2d_add_relu", dout, cache.out)
    norm, out = cache
    sums, g, _ = gradient_sums(gpu, dout, out, norm, keep_g=True)
    assert g is not None
    dgamma, dbeta = channel_gradients(gpu, sums, norm)
    dx = input_gradient(gpu, g, None, norm, dgamma, dbeta)
    return dx, dgamma, dbeta, g


def se_block_tail_forward(
    gpu: Launcher,
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
    """See minise.ops.reference.se_block_tail_forward."""
    op = "se_block_tail"
    checked = x, gamma, beta, w1, b1, w2, b2, shortcut, running_mean, running_var
    check_arrays(op, SHAPES[op], *checked)
    check_batch_norm(op, x, training, momentum, eps)
    check_choice(op, "gate", gate, GATES)
    arrays = x, gamma, beta, running_mean, running_var
    zhat, z = (gpu.xp.empty(x.shape[:2], x.dtype) for _ in range(2))
    norm = statistics(gpu, arrays, (training, float(momentum), float(eps)), (zhat, z))
    h, s = excite(gpu, z, w1, b1, w2, b2, gate)
    out = normalised(gpu, norm, s, shortcut, clip=True)
    zhat, z, h, s = (a.reshape(*a.shape, 1, 1) for a in (zhat, z, h, s))
    return out, SeBlockTailCache(norm, Gates(w1, b1, w2, b2, z, h, s, "avg", gate), zhat, out)


def se_block_tail_backward(
    gpu: Launcher, dout: Array, cache: SeBlockTailCache
) -> tuple[Array | None, ...]:
    """See minise.ops.reference.se_block_tail_backward."""
    check_gradient("se_block_tail", dout, cache.out)
    norm, gates, zhat, out = cache
    per_channel = zhat, gates.z, gates.h, gates.s
    zhat, z, h, s = (a.reshape(a.shape[:2]) for a in per_channel)
    sums, g, dv = gradient_sums(gpu, dout, out, norm, keep_g=True, gates=(s, gates.gate))
    assert g is not None
    assert dv is not None
    dz, dw1, db1, dw2, db2 = excite_backward(gpu, dv, z, h, gates.w1, gates.w2)
    dgamma, dbeta = channel_gradients(gpu, sums, norm, s, dz, zhat)
    dx = input_gradient(gpu, g, None, norm, dgamma, dbeta, s, dz)
    db = None if gates.b1 is None else db1, None if gates.b2 is None else db2
    return dx, dgamma, dbeta, dw1, db[0], dw2, db[1], g

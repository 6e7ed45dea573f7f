"""The fused ops, compiled: two passes over memory forward, two backward.

The closed forms are in minise/ops/reference/fused.py, the passes in norm.py beside this file. What
lies between them has (N, C) numbers: there the SE block's gates and their gradients are found, one
image one iteration of a parallel loop.
"""

import math

import numpy as np
from numba import prange

from minise.ops.checks import (
    Array,
    check_arrays,
    check_batch_norm,
    check_choice,
    check_gradient,
)
from minise.ops.jit.compile import kernel
from minise.ops.jit.layout import frozen
from minise.ops.jit.norm import (
    image_means,
    input_gradient,
    moments_of,
    norm_backward,
    normalised,
    sums_backward,
)
from minise.ops.jit.squeeze_excite import (
    excite,
    excite_backward,
    frozen_weights,
    weight_gradient,
)
from minise.ops.reference.fused import (
    SHAPES,
    BatchNorm2dAddReluCache,
    BatchNorm2dReluCache,
    SeBlockTailCache,
)
from minise.ops.reference.gates import GATES


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
    found = moments_of(x, running_mean, running_var, training, momentum, eps)
    out = normalised(x, found.mean, gamma * found.rstd, beta, relu=True)
    mean, rstd, new_mean, new_var = found.kept(x)
    settings = training, float(momentum), float(eps)
    return out, BatchNorm2dReluCache(x, gamma, beta, mean, rstd, out, new_mean, new_var, *settings)


def batch_norm2d_relu_backward(dout: Array, cache: BatchNorm2dReluCache) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_relu_backward; dx is channels-last in memory."""
    check_gradient("batch_norm2d_relu", dout, cache.out)
    dx, dgamma, dbeta, _ = norm_backward(dout, cache.out, cache, with_g=False)
    return dx, dgamma, dbeta


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
    found = moments_of(x, running_mean, running_var, training, momentum, eps)
    out = normalised(x, found.mean, gamma * found.rstd, beta, shortcut, relu=True)
    mean, rstd, new_mean, new_var = found.kept(x)
    settings = training, float(momentum), float(eps)
    return out, BatchNorm2dAddReluCache(
        x, gamma, beta, mean, rstd, out, new_mean, new_var, *settings
    )


def batch_norm2d_add_relu_backward(
    dout: Array, cache: BatchNorm2dAddReluCache
) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_add_relu_backward; dx is channels-last in memory."""
    check_gradient("batch_norm2d_add_relu", dout, cache.out)
    dx, dgamma, dbeta, dshortcut = norm_backward(dout, cache.out, cache, with_g=True)
    assert dshortcut is not None
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
    running_mean: Array,
    running_var: Array,
    training: bool,
    gate: str = "sigmoid",
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, SeBlockTailCache]:
    """See minise.ops.reference.se_block_tail_forward; out is channels-last in memory."""
    given = x, gamma, beta, w1, b1, w2, b2, shortcut, running_mean, running_var
    check_arrays("se_block_tail", SHAPES["se_block_tail"], *given)
    check_batch_norm("se_block_tail", x, training, momentum, eps)
    check_choice("se_block_tail", "gate", gate, GATES)
    found = moments_of(x, running_mean, running_var, training, momentum, eps)
    zhat = (image_means(x, found) - found.mean) * found.rstd
    z = (gamma * zhat + beta).astype(x.dtype)
    h, s = _gates(z, w1, b1, w2, b2, gate)
    out = normalised(x, found.mean, s * (gamma * found.rstd), s * beta, shortcut, relu=True)
    mean, rstd, new_mean, new_var = found.kept(x)
    return out, SeBlockTailCache(
        x,
        gamma,
        beta,
        w1,
        b1,
        w2,
        b2,
        mean,
        rstd,
        zhat.astype(x.dtype)[:, :, None, None],
        z[:, :, None, None],
        h[:, :, None, None],
        s[:, :, None, None],
        out,
        new_mean,
        new_var,
        training,
        float(momentum),
        float(eps),
        gate,
    )


def se_block_tail_backward(dout: Array, cache: SeBlockTailCache) -> tuple[Array | None, ...]:
    """See minise.ops.reference.se_block_tail_backward; dx is channels-last in memory."""
    check_gradient("se_block_tail", dout, cache.out)
    x, gamma, beta = cache.x, cache.gamma, cache.beta
    mean, rstd = cache.mean.astype(float), cache.rstd.astype(float)
    few = (cache.zhat, cache.z, cache.h, cache.s)
    zhat, z, h, s = (array[:, :, 0, 0] for array in few)
    sum_g, sum_gx, dshortcut = sums_backward(dout, cache.out, x, mean, with_g=True)
    assert dshortcut is not None
    sum_gxhat = sum_gx * rstd

    ds = gamma * sum_gxhat + beta * sum_g
    dz, dw1, db1, dw2, db2 = _gates_backward(ds, z, h, s, cache.w1, cache.w2, cache.gate)

    dbeta = (s * sum_g + dz).sum(axis=0)
    dgamma = (s * sum_gxhat + dz * zhat).sum(axis=0)
    pixels = x.shape[2] * x.shape[3]
    M = len(x) * pixels if cache.training else math.inf  # constants have no gradient
    scale = gamma * rstd
    shift, slope = scale * (dz / pixels - dbeta / M), scale * rstd * dgamma / M
    dx = input_gradient(dshortcut, None, x, mean, scale * s, shift, slope)
    dnorm = dgamma.astype(x.dtype), dbeta.astype(x.dtype)
    biases = None if cache.b1 is None else db1, None if cache.b2 is None else db2
    return dx, *dnorm, dw1, biases[0], dw2, biases[1], dshortcut


def _gates(
    z: Array, w1: Array, b1: Array | None, w2: Array, b2: Array | None, gate: str
) -> tuple[Array, Array]:
    """Return hidden units (N, R) and gates (N, C) of z (N, C)."""
    weights = frozen_weights(w1, b1, w2, b2)
    h, s = np.empty((len(z), 1, len(w1)), z.dtype), np.empty((len(z), 1, len(w2)), z.dtype)
    _excite(frozen(z)[:, None], *weights, GATES.index(gate), h, s)
    return h[:, 0], s[:, 0]


def _gates_backward(
    ds: Array, z: Array, h: Array, s: Array, w1: Array, w2: Array, gate: str
) -> tuple[Array, ...]:
    """Return dz (N, C) in double precision, dw1, db1, dw2, db2."""
    rows = [frozen(array)[:, None] for array in (ds, z, h, s)]
    dv, du = np.empty((len(z), 1, len(w2)), z.dtype), np.empty((len(z), 1, len(w1)), z.dtype)
    dz = np.empty((len(z), 1, len(w2)))
    weights = frozen(w1), frozen(w2)
    _excite_backward(rows[0], *weights, GATES.index(gate), rows[2], rows[3], dv, du, dz)
    dw1, db1 = weight_gradient(frozen(du), rows[1])
    dw2, db2 = weight_gradient(frozen(dv), rows[2])
    return dz[:, 0], dw1, db1, dw2, db2


@kernel
def _excite(z, w1, b1, w2, b2, gate, h, s):
    for n in prange(len(z)):
        excite(z[n], w1, b1, w2, b2, gate, h[n], s[n])


@kernel
def _excite_backward(ds, w1, w2, gate, h, s, dv, du, dz):
    for n in prange(len(ds)):
        excite_backward(ds[n], w1, w2, gate, h[n], s[n], dv[n], du[n], dz[n])

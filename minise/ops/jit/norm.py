"""Batch normalisation, compiled: two passes over memory in forward, and two in backward.

The formulas are in minise/ops/reference/norm.py; this file changes only the order of computation,
for all ops that begin with a normalisation (see fused.py).

Forward first computes the mean and the centred sum of squares of each block of pixels; the block
stays in cache between the two. Blocks have equal sizes, so the mean of their means is the mean, and
the variance includes the deviations of their means (Chan et al.):

    mean = mean of mean_i          M * var = sum of m2_i + pixels * sum of (mean_i - mean) ** 2

The second pass writes out. Backward first computes two sums for each block, sum of g and sum of
g * (x - mean), where g is dout or, after a ReLU, dout where out > 0. The second pass writes dx,
which is affine in g and x. Sums over blocks are in double precision.

Each block is one iteration of a parallel loop, and the results of the blocks are summed in order
(normalisation/channels.py), so all results are bit-identical for any number of threads.

One kernel computes forward and one backward, with the small computations between the passes. In
NumPy these took as long as a pass: a pass evicts everything that Python and NumPy need from the
cache, and twenty small calls then take 100 us instead of 20 (measured in a training step of
SE-ResNet-20). Both kernels optionally include an SE block, a shortcut and a ReLU after the
normalisation.

Source: Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American
Statistician 37 (1983).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.normalisation.channels import (
    compute_gates,
    compute_gates_backward,
    fold,
    fold_backward,
    norm_gradients,
    rows_of_gates,
    statistics,
    sum_over_blocks,
)
from minise.ops.jit.normalisation.gates import frozen_weights, weight_row
from minise.ops.jit.normalisation.passes import (
    blocks_of,
    gradient_sums,
    input_gradient,
    moments,
    normalise,
)
from minise.ops.jit.vector.layout import frozen, images_of, rows_of
from minise.ops.jit.vector.memory import empty_like
from minise.ops.reference.gates import GATES
from minise.ops.reference.norm import SHAPES, BatchNorm2dCache
from minise.ops.reference.squeeze_excite import Gates
from minise.ops.shapes import check_arrays, check_batch_norm, check_gradient

NOTHING = {np.dtype(t): frozen(np.empty((1, 0, 0), t)) for t in (np.float32, np.float64)}


def _no_se(dtype: Any) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """Return empty weights, as from frozen_weights, and empty zhat, z, h, s."""
    rows, row = frozen(np.empty((0, 0), dtype)), frozen(np.empty(0, dtype))
    return (rows, row, rows, row), tuple([np.empty((0, 0, 1, 1), dtype) for _ in range(4)])


NO_SE = {np.dtype(t): _no_se(t) for t in (np.float32, np.float64)}


def batch_norm2d_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNorm2dCache]:
    """See minise.ops.reference.batch_norm2d_forward; out is channels-last in memory."""
    arrays = x, gamma, beta, running_mean, running_var
    check_arrays("batch_norm2d", SHAPES["batch_norm2d"], *arrays)
    check_batch_norm("batch_norm2d", x, training, momentum, eps)
    settings = training, float(momentum), float(eps)
    out, norm, _ = forward(arrays, settings)
    return out, norm


def batch_norm2d_backward(dout: Array, cache: BatchNorm2dCache) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_backward; dx is channels-last in memory."""
    check_gradient("batch_norm2d", dout, cache.x)
    dx, dgamma, dbeta, *_ = backward(dout, cache)
    return dx, dgamma, dbeta


def forward(
    arrays: tuple[Array, ...],
    settings: tuple[bool, float, float],
    shortcut: Array | None = None,
    *,
    relu: bool = False,
    se: tuple[Array | None, ...] = (),
    gate: str = GATES[0],
) -> tuple[Array, BatchNorm2dCache, tuple[Array, ...]]:
    """Normalise x, scale it by SE gates, add the shortcut and apply the ReLU, each if given.

    arrays are x, gamma, beta, running mean, running variance; settings are training, momentum, eps;
    se is the SE block's w1, b1, w2, b2. Return out, the cache of the normalisation, and zhat, z, h,
    s, which are empty without se.
    """
    x, gamma, beta, *_ = arrays
    norm = tuple([frozen(array) for array in arrays[1:]])
    (N, C, H, W), dtype, blocks = x.shape, x.dtype, blocks_of(rows_of(x))
    out, stats = empty_like(blocks), np.empty((4, C), dtype)
    weights, gates = NO_SE[dtype]
    if se:
        weights, units = frozen_weights(*se), len(se[0])  # type: ignore[arg-type]
        gates = tuple([np.empty((N, size, 1, 1), dtype) for size in (C, C, units, C)])
    added = NOTHING[dtype] if shortcut is None else blocks_of(rows_of(shortcut))
    code = GATES.index(gate)
    _forward(blocks, norm, *settings, weights, code, added, relu, gates, stats, out)
    mean, rstd, new_mean, new_var = stats
    cache = BatchNorm2dCache(x, gamma, beta, mean, rstd, new_mean, new_var, *settings)
    return images_of(out.reshape(N, H * W, C), H, W), cache, gates


@kernel
def _forward(x, norm, training, momentum, eps, weights, gate, shortcut, relu, gates, stats, out):
    """Compute the moments of each block, the statistics, the gates, and out."""
    (blocks, pixels, C), (gamma, beta, running_mean, running_var) = x.shape, norm
    (w1, b1, w2, b2), (zhat, z, h, s) = weights, rows_of_gates(gates)
    means, squares = np.empty((blocks, C), x.dtype), np.empty((blocks, C), x.dtype)
    if training or s.size:
        for block in prange(blocks):
            moments(block, x, means, squares)
    stats64 = statistics(
        training, means, squares, pixels, running_mean, running_var, momentum, eps, stats
    )
    for n in prange(len(s)):
        compute_gates(n, means, stats64, gamma, beta, w1, b1, w2, b2, gate, zhat, z, h, s)
    rows, mean = max(1, len(s)), stats[0]  # rows of scale and shift: one for all images, or each
    scale, shift = np.empty((rows, C), x.dtype), np.empty((rows, C), x.dtype)
    fold(stats64, gamma, beta, s, scale, shift)
    for block in prange(blocks):
        normalise(block, x, mean, scale, shift, shortcut, relu, out)


class Gradients(NamedTuple):
    """The gradients of forward; those of the SE block are empty if there is none."""

    dx: Array
    dgamma: Array
    dbeta: Array
    dw1: Array
    db1: Array
    dw2: Array
    db2: Array
    g: Array  # dout masked by the ReLU; empty if with_g=False


def backward(
    dout: Array,
    cache: BatchNorm2dCache,
    out: Array | None = None,
    *,
    with_g: bool = False,
    se: tuple[Array, Gates] | None = None,
) -> Gradients:
    """Return the gradients of forward.

    out is the output of a ReLU, None without one; se is zhat and the cache of an SE block's gates.
    """
    (N, C, H, W), dtype = cache.x.shape, cache.x.dtype
    x, nothing = blocks_of(rows_of(cache.x)), NOTHING[dtype]
    first = second = blocks_of(rows_of(dout)), nothing if out is None else blocks_of(rows_of(out))
    g = empty_like(x if with_g else nothing)
    if with_g:  # the second pass then reads g instead of dout and out
        second = frozen(g), nothing
    norm = tuple([frozen(a) for a in (cache.gamma, cache.beta, cache.mean, cache.rstd)])
    weights, gate_arrays, code, R, K = NO_SE[dtype][0][::2], NO_SE[dtype][1], 0, 0, 0
    if se is not None:
        zhat, gates = se
        weights, code = (frozen(gates.w1), frozen(gates.w2)), GATES.index(gates.gate)
        gate_arrays, R, K = (zhat, gates.z, gates.h, gates.s), len(gates.w1), C
    gate_arrays = tuple([frozen(a) for a in gate_arrays])
    dense = tuple([np.empty(size, dtype) for size in ((R, K), R, (K, R), K)])
    dnorm, dx = np.empty((2, C), dtype), empty_like(x)
    _backward(
        *first, x, norm, cache.training, N, weights, code, gate_arrays, *second, g, dense, dnorm, dx
    )
    dx = images_of(dx.reshape(N, H * W, C), H, W)
    dw1, db1, dw2, db2 = dense
    g = images_of(g.reshape(N, H * W, C), H, W) if with_g else g
    return Gradients(dx, dnorm[0], dnorm[1], dw1, db1, dw2, db2, g)


@kernel
def _backward(
    dout, out, x, norm, training, images, weights, gate, gates, second, mask, g, dense, dnorm, dx
):
    """Compute both sums of each block, the gradients of gates and parameters, and dx."""
    (blocks, pixels, C), (gamma, beta, mean, rstd) = x.shape, norm
    (w1, w2), (dw1, db1, dw2, db2), (zhat, z, h, s) = weights, dense, rows_of_gates(gates)
    sum_g, sum_gx = np.empty((blocks, C), x.dtype), np.empty((blocks, C), x.dtype)
    for block in prange(blocks):
        gradient_sums(block, dout, out, x, mean, sum_g, sum_gx, g)
    rstd64, dgamma, dbeta = rstd.astype(np.float64), np.empty(C), np.empty(C)
    total_g, total_gx = np.empty((images, C)), np.empty((images, C))
    dv, du, dz = np.empty(s.shape, x.dtype), np.empty(h.shape, x.dtype), np.empty(s.shape)
    for n in prange(images):
        sum_over_blocks(n, sum_g, sum_gx, total_g, total_gx)
        if s.size:
            compute_gates_backward(
                n, total_g, total_gx, rstd64, gamma, beta, w1, w2, gate, h, s, dv, du, dz
            )
    for k in prange(len(w1) + len(w2)):
        if k < len(w1):
            weight_row(k, du, z, dw1, db1)
        else:
            weight_row(k - len(w1), dv, h, dw2, db2)
    norm_gradients(total_g, total_gx, rstd64, s, zhat, dz, dgamma, dbeta)
    M = blocks * pixels if training else np.inf  # in evaluation, mean and rstd are constants
    scale, shift = np.empty((max(1, len(s)), C), x.dtype), np.empty((max(1, len(s)), C), x.dtype)
    slope, per_image = np.empty(C, x.dtype), blocks * pixels // images
    fold_backward(M, per_image, gamma, rstd64, dgamma, dbeta, s, dz, scale, shift, slope)
    for block in prange(blocks):
        input_gradient(block, second, mask, x, scale, shift, mean, slope, dx)
    for c in range(C):
        dnorm[0, c], dnorm[1, c] = dgamma[c], dbeta[c]

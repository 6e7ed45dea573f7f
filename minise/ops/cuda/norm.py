"""Batch normalisation on the GPU; the kernels, and why they are these, stand in block_tail.cu.

What the fused ops share with it stands here too: moments, the pass that writes out, and the way
back, each with gates, shortcut and ReLU left out where there are none.
"""

from typing import NamedTuple

import numpy as np

from minise.ops.checks import Array, check_arrays, check_batch_norm, check_gradient
from minise.ops.cuda.launcher import Launcher, warps
from minise.ops.reference.norm import SHAPES, BatchNorm2dCache

FILE = "block_tail.cu"


def batch_norm2d_forward(
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
) -> tuple[Array, BatchNorm2dCache]:
    """See minise.ops.reference.batch_norm2d_forward."""
    arrays = x, gamma, beta, running_mean, running_var
    check_arrays("batch_norm2d", SHAPES["batch_norm2d"], *arrays)
    check_batch_norm("batch_norm2d", x, training, momentum, eps)
    rows = row_moments(gpu, x) if training else None
    found = moments(gpu, rows, x, running_mean, running_var, momentum, eps)
    out = normalised(gpu, x, found, gamma, beta)
    return out, BatchNorm2dCache(x, gamma, beta, *found, training, float(momentum), float(eps))


def batch_norm2d_backward(gpu: Launcher, dout: Array, cache: BatchNorm2dCache) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_backward."""
    check_gradient("batch_norm2d", dout, cache.x)
    sums, _ = gradient_sums(gpu, dout, None, cache, keep_g=False)
    dgamma, dbeta = channel_gradients(gpu, sums, cache)
    dx = input_gradient(gpu, dout, None, cache, dgamma, dbeta)
    return dx, dgamma, dbeta


class Moments(NamedTuple):
    """What normalises, and the running statistics after it."""

    mean: Array  # (C,)  of the batch, or in evaluation the running one
    rstd: Array  # (C,)
    running_mean: Array  # (C,)  new
    running_var: Array  # (C,)


def row_moments(gpu: Launcher, x: Array) -> tuple[Array, Array]:
    """Return mean and centred sum of squares of every row, (N, C), in double precision."""
    N, C, H, W = x.shape
    mean, m2 = (gpu.xp.empty((N, C), np.float64) for _ in range(2))
    given = gpu.contiguous(x), mean, m2, N * C, H * W
    gpu.launch(FILE, "row_moments", warps(N * C), *given, dtype=x.dtype)
    return mean, m2


def moments(
    gpu: Launcher,
    rows: tuple[Array, Array] | None,
    x: Array,
    running_mean: Array,
    running_var: Array,
    momentum: float,
    eps: float,
) -> Moments:
    """Return what normalises: the moments of rows, or where there are none the running ones."""
    if rows is None:
        rstd = 1 / gpu.xp.sqrt(running_var + float(eps))
        return Moments(running_mean, rstd, running_mean.copy(), running_var.copy())
    N, C, H, W = x.shape
    found = Moments(*(gpu.xp.empty(C, x.dtype) for _ in range(4)))
    old = gpu.contiguous(running_mean), gpu.contiguous(running_var)
    given = *rows, *old, *found, momentum, eps, N, C, H * W
    gpu.launch(FILE, "channel_moments", warps(C), *given, dtype=x.dtype)
    return found


def normalised(
    gpu: Launcher,
    x: Array,
    found: Moments,
    gamma: Array,
    beta: Array,
    s: Array | None = None,
    shortcut: Array | None = None,
    *,
    clip: bool = False,
) -> Array:
    """Return (gamma * xhat + beta) * s + shortcut, with clip cut off below 0."""
    N, C, H, W = x.shape
    out = gpu.xp.empty(x.shape, x.dtype)
    arrays = (x, found.mean, found.rstd, gamma, beta, s, shortcut)
    given = [None if a is None else gpu.contiguous(a) for a in arrays]
    sizes = int(clip), N * C, C, H * W
    gpu.launch(FILE, "normalise", warps(N * C), *given, out, *sizes, dtype=x.dtype)
    return out


def gradient_sums(
    gpu: Launcher, dout: Array, out: Array | None, cache: BatchNorm2dCache, *, keep_g: bool
) -> tuple[tuple[Array, Array], Array | None]:
    """Return the sums of g and of g * xhat over every row, (N, C), and with keep_g also g.

    g is dout, or where an out is given what its ReLU lets through.
    """
    x = cache.x
    N, C, H, W = x.shape
    sum_g, sum_gxhat = sums = tuple(gpu.xp.empty((N, C), np.float64) for _ in range(2))
    g = gpu.xp.empty(x.shape, x.dtype) if keep_g else None
    arrays = (dout, out, x, cache.mean, cache.rstd)
    given = [None if a is None else gpu.contiguous(a) for a in arrays]
    sizes = N * C, C, H * W
    gpu.launch(FILE, "gradient_sums", warps(N * C), *given, g, *sums, *sizes, dtype=x.dtype)
    return (sum_g, sum_gxhat), g


def channel_gradients(
    gpu: Launcher,
    sums: tuple[Array, Array],
    cache: BatchNorm2dCache,
    s: Array | None = None,
    dz: Array | None = None,
    zhat: Array | None = None,
) -> tuple[Array, Array]:
    """Return dgamma and dbeta; with gates s, given what came back through them."""
    N, C = sums[0].shape
    dgamma, dbeta = (gpu.xp.empty(C, cache.x.dtype) for _ in range(2))
    given = *sums, s, dz, zhat, dgamma, dbeta, N, C
    gpu.launch(FILE, "channel_gradients", warps(C), *given, dtype=cache.x.dtype)
    return dgamma, dbeta


def input_gradient(
    gpu: Launcher,
    g: Array,
    out: Array | None,
    cache: BatchNorm2dCache,
    dgamma: Array,
    dbeta: Array,
    s: Array | None = None,
    dz: Array | None = None,
) -> Array:
    """Return dx; where an out is given, g is dout and out tells what its ReLU lets through."""
    x = cache.x
    N, C, H, W = x.shape
    dx = gpu.xp.empty(x.shape, x.dtype)
    arrays = (g, out, x, cache.mean, cache.rstd, cache.gamma, s, dz, dgamma, dbeta)
    given = [None if a is None else gpu.contiguous(a) for a in arrays]
    sizes = int(cache.training), N, C, H * W
    gpu.launch(FILE, "norm_input_gradient", warps(N * C), *given, dx, *sizes, dtype=x.dtype)
    return dx

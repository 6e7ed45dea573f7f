"""Batch normalisation on the GPU; the kernels, and why they are these, stand in block_tail.cu.

What the fused ops share with it stands here too: statistics, the pass that writes out, and the way
back, each with gates, shortcut and ReLU left out where there are none.
"""

import numpy as np

from minise.checks import Array
from minise.ops.cuda.launcher import Launcher, warps
from minise.ops.reference.norm import SHAPES, BatchNorm2dCache
from minise.ops.shapes import check_arrays, check_batch_norm, check_gradient

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
    norm = statistics(gpu, arrays, (training, float(momentum), float(eps)))
    return normalised(gpu, norm), norm


def batch_norm2d_backward(gpu: Launcher, dout: Array, cache: BatchNorm2dCache) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_backward."""
    check_gradient("batch_norm2d", dout, cache.x)
    sums, _ = gradient_sums(gpu, dout, None, cache, keep_g=False)
    dgamma, dbeta = channel_gradients(gpu, sums, cache)
    dx = input_gradient(gpu, dout, None, cache, dgamma, dbeta)
    return dx, dgamma, dbeta


def row_moments(gpu: Launcher, x: Array) -> tuple[Array, Array]:
    """Return mean and centred sum of squares of every row, (N, C), in double precision."""
    N, C, H, W = x.shape
    mean, m2 = (gpu.xp.empty((N, C), np.float64) for _ in range(2))
    given = gpu.contiguous(x), mean, m2, N * C, H * W
    gpu.launch(FILE, "row_moments", warps(N * C), *given, dtype=x.dtype)
    return mean, m2


def statistics(
    gpu: Launcher,
    arrays: tuple[Array, Array, Array, Array, Array],
    settings: tuple[bool, float, float],
    rows: tuple[Array, Array] | None = None,
) -> BatchNorm2dCache:
    """Return the cache of a normalisation: what normalises, and the new running statistics.

    arrays are x, gamma, beta, and the running mean and variance, settings training, momentum and
    eps; rows are the moments of x's rows, if the caller has them.
    """
    (x, gamma, beta, running_mean, running_var), (training, momentum, eps) = arrays, settings
    if not training:
        rstd = 1 / gpu.xp.sqrt(running_var + eps)
        same = running_mean, rstd, running_mean.copy(), running_var.copy()
        return BatchNorm2dCache(x, gamma, beta, *same, *settings)
    N, C, H, W = x.shape
    mean, rstd, new_mean, new_var = (gpu.xp.empty(C, x.dtype) for _ in range(4))
    found = mean, rstd, new_mean, new_var
    old = gpu.contiguous(running_mean), gpu.contiguous(running_var)
    given = *(rows or row_moments(gpu, x)), *old, *found, momentum, eps, N, C, H * W
    gpu.launch(FILE, "channel_moments", warps(C), *given, dtype=x.dtype)
    return BatchNorm2dCache(x, gamma, beta, *found, *settings)


def normalised(
    gpu: Launcher,
    cache: BatchNorm2dCache,
    s: Array | None = None,
    shortcut: Array | None = None,
    *,
    clip: bool = False,
) -> Array:
    """Return (gamma * xhat + beta) * s + shortcut, with clip cut off below 0."""
    x, gamma, beta, mean, rstd, *_ = cache
    N, C, H, W = x.shape
    out = gpu.xp.empty(x.shape, x.dtype)
    arrays = (x, mean, rstd, gamma, beta, s, shortcut)
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

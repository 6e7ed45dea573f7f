"""Batch normalisation on the GPU; block_tail.cu has the kernels and their derivation.

The fused ops call the functions of this file too: statistics, the pass that writes out, and the
backward passes. Gates, shortcut and ReLU are optional arguments.
"""

import numpy as np

from minise.checks import Array
from minise.ops.cuda.launcher import Launcher, rows_per_warp, warps
from minise.ops.reference.gates import GATES
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
    sums, _, _ = gradient_sums(gpu, dout, None, cache, keep_g=False)
    dgamma, dbeta = channel_gradients(gpu, sums, cache)
    dx = input_gradient(gpu, dout, None, cache, dgamma, dbeta)
    return dx, dgamma, dbeta


def row_moments(gpu: Launcher, x: Array) -> tuple[Array, Array]:
    """Return mean and centred sum of squares of every row, (N, C) in float64."""
    N, C, H, W = x.shape
    mean, m2 = (gpu.xp.empty((N, C), np.float64) for _ in range(2))
    group = rows_per_warp(x)
    scalars = group, N * C, H * W
    gpu.launch(FILE, "row_moments", warps(N * C // group), (x, mean, m2), scalars, dtype=x.dtype)
    return mean, m2


def statistics(
    gpu: Launcher,
    arrays: tuple[Array, Array, Array, Array, Array],
    settings: tuple[bool, float, float],
    squeezed: tuple[Array | None, Array | None] = (None, None),
) -> BatchNorm2dCache:
    """Return the cache of a normalisation: mean, rstd and the updated running statistics.

    Parameters
    ----------
    arrays : tuple of array
        x, gamma, beta, running_mean and running_var.
    settings : tuple
        training, momentum and eps.
    squeezed : tuple of array, optional
        Outputs zhat and z (N, C): means over H, W of xhat and of gamma * xhat + beta.

    In training with gpu.in_place, the updated running statistics are written to running_mean and
    running_var, which the cache then has; otherwise to arrays of their own.
    """
    (x, gamma, beta, running_mean, running_var), (training, momentum, eps) = arrays, settings
    N, C, H, W = x.shape
    rows = row_moments(gpu, x) if training or squeezed[1] is not None else (None, None)
    rstd = gpu.xp.empty(C, x.dtype)
    mean, new_mean, new_var = running_mean, running_mean, running_var
    if training:
        mean = gpu.xp.empty(C, x.dtype)
        if not (gpu.in_place and gpu.ready(running_mean) and gpu.ready(running_var)):
            new_mean, new_var = (gpu.xp.empty(C, x.dtype) for _ in range(2))
    results = (mean, rstd, new_mean, new_var) if training else (None, rstd, None, None)
    kernel_arrays = *rows, gamma, beta, running_mean, running_var, *results, *squeezed
    scalars = momentum, eps, int(training), N, C, H * W
    gpu.launch(FILE, "channel_moments", warps(C), kernel_arrays, scalars, dtype=x.dtype)
    return BatchNorm2dCache(x, gamma, beta, mean, rstd, new_mean, new_var, *settings)


def normalised(
    gpu: Launcher,
    cache: BatchNorm2dCache,
    s: Array | None = None,
    shortcut: Array | None = None,
    *,
    clip: bool = False,
) -> Array:
    """Return (gamma * xhat + beta) * s + shortcut; with clip, the ReLU of it."""
    x, gamma, beta, mean, rstd, *_ = cache
    N, C, H, W = x.shape
    out = gpu.xp.empty(x.shape, x.dtype)
    arrays = x, mean, rstd, gamma, beta, s, shortcut, out
    group = rows_per_warp(x)
    scalars = int(clip), group, N * C, C, H * W
    gpu.launch(FILE, "normalise", warps(N * C // group), arrays, scalars, dtype=x.dtype)
    return out


def gradient_sums(
    gpu: Launcher,
    dout: Array,
    out: Array | None,
    cache: BatchNorm2dCache,
    *,
    keep_g: bool,
    gates: tuple[Array, str] | None = None,
) -> tuple[tuple[Array, Array], Array | None, Array | None]:
    """Return the sums of g and of g * xhat over every row, (N, C); g and dv, or None.

    g is dout, or, if out is an array, the gradient before out's ReLU: dout where out > 0. It is
    returned with keep_g. dv (N, C) is the gradient of the gates' pre-activation, if gates are s and
    the name of the gate.
    """
    x, gamma, beta, mean, rstd, *_ = cache
    N, C, H, W = x.shape
    sum_g, sum_gxhat = sums = tuple(gpu.xp.empty((N, C), np.float64) for _ in range(2))
    g = gpu.xp.empty(x.shape, x.dtype) if keep_g else None
    s, gate = gates or (None, GATES[0])
    dv = None if s is None else gpu.xp.empty((N, C), x.dtype)
    arrays = dout, out, x, mean, rstd, gamma, beta, s, g, *sums, dv
    group = rows_per_warp(x)
    scalars = GATES.index(gate), group, N * C, C, H * W
    gpu.launch(FILE, "gradient_sums", warps(N * C // group), arrays, scalars, dtype=x.dtype)
    return (sum_g, sum_gxhat), g, dv


def channel_gradients(
    gpu: Launcher,
    sums: tuple[Array, Array],
    cache: BatchNorm2dCache,
    s: Array | None = None,
    dz: Array | None = None,
    zhat: Array | None = None,
) -> tuple[Array, Array]:
    """Return dgamma and dbeta (C,); with gates s, dz and zhat add the gradient of the squeeze."""
    N, C = sums[0].shape
    dgamma, dbeta = (gpu.xp.empty(C, cache.x.dtype) for _ in range(2))
    arrays = *sums, s, dz, zhat, dgamma, dbeta
    gpu.launch(FILE, "channel_gradients", warps(C), arrays, (N, C), dtype=cache.x.dtype)
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
    """Return dx; if out is an array, g is dout and the kernel masks it where out > 0."""
    x = cache.x
    N, C, H, W = x.shape
    dx = gpu.xp.empty(x.shape, x.dtype)
    arrays = g, out, x, cache.mean, cache.rstd, cache.gamma, s, dz, dgamma, dbeta, dx
    group = rows_per_warp(x)
    scalars = int(cache.training), group, N, C, H * W
    gpu.launch(FILE, "norm_input_gradient", warps(N * C // group), arrays, scalars, dtype=x.dtype)
    return dx

"""Batch normalisation, compiled: each image is read twice while it is in cache.

The formulas are in minise/ops/reference/norm.py; this file changes only the order of the work, and
says it for all ops that begin with a normalisation (see fused.py).

Forward first takes the mean and the centred sum of squares of each block of pixels, whose second
pass finds the block in cache. Blocks are equally large, so the mean of their means is the mean, and
what the means themselves deviate is added (Chan et al.):

    mean = mean of mean_i          M * var = sum of m2_i + pixels * sum of (mean_i - mean) ** 2

A second pass writes out. Backward takes two sums for each block, sum of g and sum of
g * (x - mean), where g is dout or, behind a ReLU, dout where out > 0. A second pass writes dx,
which is affine in g and x. Sums are kept in double precision.

Each block is one iteration of a parallel loop, and the few numbers that come of them are added up
in order. So the bits do not depend on the number of threads.

Source: Chan, Golub, LeVeque, "Algorithms for computing the sample variance", The American
Statistician 37 (1983).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from minise.ops.checks import Array, check_arrays, check_batch_norm, check_gradient
from minise.ops.jit import passes
from minise.ops.jit.layout import frozen, images_of, rows_of
from minise.ops.jit.memory import empty_like
from minise.ops.jit.passes import blocks_of, moments, normalise, sums
from minise.ops.reference.norm import SHAPES, BatchNorm2dCache

NOTHING = {np.dtype(t): frozen(np.empty((1, 0, 0), t)) for t in (np.float32, np.float64)}


class Moments(NamedTuple):
    """What normalises, all in double precision."""

    mean: Array  # (C,)  of the batch, or in evaluation the running one
    rstd: Array  # (C,)
    running_mean: Array  # (C,)  new
    running_var: Array  # (C,)
    block_means: Array | None  # (blocks, C)  the blocks of an image one after another

    def kept(self, x: Array) -> tuple[Array, Array, Array, Array]:
        """Return mean, rstd and the new running statistics as caches keep them."""
        running = self.running_mean.astype(x.dtype), self.running_var.astype(x.dtype)
        return self.mean.astype(x.dtype), self.rstd.astype(x.dtype), *running


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
    found = moments_of(x, running_mean, running_var, training, momentum, eps)
    out = normalised(x, found.mean, gamma * found.rstd, beta)
    settings = training, float(momentum), float(eps)
    return out, BatchNorm2dCache(x, gamma, beta, *found.kept(x), *settings)


def batch_norm2d_backward(dout: Array, cache: BatchNorm2dCache) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_backward; dx is channels-last in memory."""
    check_gradient("batch_norm2d", dout, cache.x)
    dx, dgamma, dbeta, _ = norm_backward(dout, None, cache, with_g=False)
    return dx, dgamma, dbeta


def moments_of(
    x: Array, running_mean: Array, running_var: Array, training: bool, momentum: float, eps: float
) -> Moments:
    """Return what normalises."""
    if not training:
        mean, var = running_mean.astype(float), running_var.astype(float)
        return Moments(mean, 1 / np.sqrt(var + eps), mean, var, None)
    N, _, H, W = x.shape
    M = N * H * W
    means, squares = _moments_of_blocks(x)
    mean = means.mean(axis=0)
    apart = means - mean
    var = (squares.sum(axis=0) + M / len(means) * (apart * apart).sum(axis=0)) / M
    new_mean = running_mean + momentum * (mean - running_mean)
    new_var = running_var + momentum * (var * (M / max(1, M - 1)) - running_var)
    return Moments(mean, 1 / np.sqrt(var + eps), new_mean, new_var, means)


def image_means(x: Array, found: Moments) -> Array:
    """Return the mean of every channel of every image, (N, C), in double precision."""
    means = _moments_of_blocks(x)[0] if found.block_means is None else found.block_means
    return means.reshape(len(x), -1, x.shape[1]).mean(axis=1)


def normalised(
    x: Array,
    mean: Array,
    scale: Array,
    shift: Array,
    shortcut: Array | None = None,
    *,
    relu: bool = False,
) -> Array:
    """Return (x - mean) * scale + shift + shortcut, cut off below 0 with relu.

    scale and shift are (C,) or (N, C), in any precision.
    """
    N, C, H, W = x.shape
    blocks = blocks_of(rows_of(x))
    added = _blocks_or_none(shortcut, x)
    out = empty_like(blocks)
    both = (_rows(a, x.dtype) for a in (scale, shift))
    normalise(blocks, frozen(mean.astype(x.dtype)), *both, added, relu, out)
    return images_of(out.reshape(N, H * W, C), H, W)


def sums_backward(
    dout: Array, out: Array | None, x: Array, mean: Array, *, with_g: bool = False
) -> tuple[Array, Array, Array | None]:
    """Return, for each (n, c), the sum of g and the sum of g * (x - mean), and with_g also g.

    g is dout, or where an out is given dout where that is above 0.
    """
    N, C, H, W = x.shape
    blocks, douts, outs = blocks_of(rows_of(x)), blocks_of(rows_of(dout)), _blocks_or_none(out, x)
    found = np.empty((2, len(blocks), C), x.dtype)
    gated = empty_like(blocks if with_g else NOTHING[x.dtype])
    sums(douts, outs, blocks, frozen(mean.astype(x.dtype)), found[0], found[1], gated)
    sum_g, sum_gx = found.reshape(2, N, -1, C).sum(axis=2, dtype=float)
    return sum_g, sum_gx, images_of(gated.reshape(N, H * W, C), H, W) if with_g else None


def norm_backward(
    dout: Array, out: Array | None, cache: Any, *, with_g: bool
) -> tuple[Array, Array, Array, Array | None]:
    """Return dx, dgamma, dbeta, and with_g what a ReLU in front let through (out tells where)."""
    x, gamma, dtype = cache.x, cache.gamma, cache.x.dtype
    mean, rstd = cache.mean.astype(float), cache.rstd.astype(float)
    sum_g, sum_gx, g = sums_backward(dout, out, x, mean, with_g=with_g)
    dbeta, dgamma = sum_g.sum(axis=0), sum_gx.sum(axis=0) * rstd
    M = x.size // len(gamma) if cache.training else math.inf  # constants have no gradient
    scale = gamma * rstd
    both = -scale * dbeta / M, scale * rstd * dgamma / M
    dx = input_gradient(*((dout, out) if g is None else (g, None)), x, mean, scale, *both)
    return dx, dgamma.astype(dtype), dbeta.astype(dtype), g


def input_gradient(
    dout: Array,
    out: Array | None,
    x: Array,
    mean: Array,
    scale: Array,
    shift: Array,
    slope: Array,
) -> Array:
    """Return g * scale + shift - (x - mean) * slope, where g is as in sums_backward.

    scale and shift are (C,) or (N, C), mean and slope (C,), in any precision.
    """
    N, C, H, W = x.shape
    blocks, douts, outs = blocks_of(rows_of(x)), blocks_of(rows_of(dout)), _blocks_or_none(out, x)
    both = (_rows(a, x.dtype) for a in (scale, shift))
    one = (frozen(a.astype(x.dtype)) for a in (mean, slope))
    dx = empty_like(blocks)
    passes.input_gradient(douts, outs, blocks, *both, *one, dx)
    return images_of(dx.reshape(N, H * W, C), H, W)


def _blocks_or_none(array: Array | None, like: Array) -> Array:
    """Return an array's blocks, or no numbers where there is none."""
    return NOTHING[like.dtype] if array is None else blocks_of(rows_of(array))


def _rows(coefficients: Array, dtype: Any) -> Array:
    """Return (C,), which serves all images, or (N, C) as rows of a dtype."""
    return frozen(coefficients.astype(dtype)).reshape(-1, coefficients.shape[-1])


def _moments_of_blocks(x: Array) -> tuple[Array, Array]:
    """Return mean and centred sum of squares of every block, (blocks, C), in double precision."""
    blocks = blocks_of(rows_of(x))
    means = np.empty((len(blocks), blocks.shape[2]), x.dtype)
    squares = np.empty_like(means)
    moments(blocks, means, squares)
    return means.astype(float), squares.astype(float)

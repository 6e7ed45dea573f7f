"""Convolution, compiled: chooses among four ways to do it, and says how groups are merged.

The formulas are in minise/ops/reference/conv.py. Each way has a file and there says what it does:

    winograd.py    3 x 3 filters with stride 1, with a quarter of the multiplications
    pointwise.py   1 x 1 filters: a matrix product of all pixels
    depthwise.py   a filter for each channel: vectors need no product
    direct.py      everything else: a matrix product whose left factor is read from a padded image

algorithm.py has the rule, and `jit.using(algorithm="direct")` keeps the first one away.

Groups of few filters would leave most lanes of a vector empty. So some groups are merged into one
whose filters have zeros for each other's channels: their number is the one that fills a vector.
Then NaN or infinity in a channel also reaches the filters of its neighbours.
"""

import numpy as np
from numba import prange

from minise.ops.checks import (
    Array,
    Pair,
    check_arrays,
    check_divisor,
    check_gradient,
    check_integer,
    check_pair,
    check_window,
)
from minise.ops.jit import depthwise, direct, pointwise, winograd
from minise.ops.jit.algorithm import algorithm_of, merged_groups
from minise.ops.jit.compile import kernel
from minise.ops.jit.geometry import PARTS, sources_in, windows_in
from minise.ops.jit.layout import pixels_of
from minise.ops.jit.memory import empty
from minise.ops.reference.conv import SHAPES, Conv2dCache


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> tuple[Array, Conv2dCache]:
    """See minise.ops.reference.conv2d_forward; out is channels-last in memory."""
    check_pair("conv2d", "stride", stride, 1)
    check_pair("conv2d", "padding", padding, 0)
    check_pair("conv2d", "dilation", dilation, 1)
    check_integer("conv2d", "groups", groups, 1)
    check_arrays("conv2d", SHAPES["conv2d"], x, weight, bias, groups=groups)
    check_divisor("conv2d", "groups", groups, "K", len(weight))
    span = [d * (size - 1) + 1 for d, size in zip(dilation, weight.shape[2:], strict=True)]
    check_window("conv2d", x.shape[2:], padding, (span[0], span[1]))
    cache = Conv2dCache(x, weight, bias, stride, padding, dilation, groups)
    out = empty((len(x), *windows_in(cache).grid, len(weight)), x.dtype)
    _correlate(cache, out)
    return out.transpose(0, 3, 1, 2), cache


def conv2d_backward(dout: Array, cache: Conv2dCache) -> tuple[Array | None, ...]:
    """See minise.ops.reference.conv2d_backward; dx is channels-last in memory."""
    x, weight = cache.x, cache.weight
    check_gradient("conv2d", dout, x, (len(x), len(weight), *windows_in(cache).grid))
    dpixels = pixels_of(dout)
    dbias = None if cache.bias is None else _sum_of_pixels(dpixels)
    dx = empty((len(x), *x.shape[2:], x.shape[1]), x.dtype)
    dweight = _backward(cache, dpixels, dx)
    return dx.transpose(0, 3, 1, 2), dweight, dbias


def _correlate(cache: Conv2dCache, out: Array) -> None:
    """Fill out (N, OH, OW, K)."""
    x, weight, bias, padding = cache.x, cache.weight, cache.bias, cache.padding
    pixels, algorithm = pixels_of(x), algorithm_of(cache)
    if algorithm == "pointwise":
        pointwise.correlate(pixels, weight[:, :, 0, 0].T, bias, out)
    elif algorithm == "depthwise":
        depthwise.correlate(pixels, windows_in(cache), _by_tap(weight), bias, out)
    else:
        dense, groups = merged(weight, cache.groups)
        if algorithm == "winograd":
            winograd.correlate(pixels, dense, bias, padding, groups, turned=False, out=out)
        else:
            filters = _cut(dense, groups).transpose(0, 3, 2, 1)  # (groups, taps, C, K)
            direct.correlate(pixels, windows_in(cache), filters, bias, out)


def _backward(cache: Conv2dCache, dpixels: Array, dx: Array) -> Array:
    """Fill dx (N, H, W, C) and return dweight."""
    pixels, weight, view = pixels_of(cache.x), cache.weight, windows_in(cache)
    algorithm = algorithm_of(cache)
    if algorithm == "pointwise":
        pointwise.correlate(dpixels, weight[:, :, 0, 0], None, dx)
        return pointwise.weight_gradient(pixels, dpixels).T.reshape(weight.shape)
    if algorithm == "depthwise":
        filters = _by_tap(weight)
        for source in sources_in(cache):
            depthwise.correlate(dpixels, source, filters[list(source.kept)], None, dx)
        return depthwise.weight_gradient(pixels, dpixels, view).T.reshape(weight.shape)
    dense, groups = merged(weight, cache.groups)
    if algorithm == "winograd":
        outside = 2 - cache.padding[0], 2 - cache.padding[1]
        winograd.correlate(dpixels, dense, None, outside, groups, turned=True, out=dx)
        ddense = winograd.weight_gradient(pixels, dpixels, cache.padding, groups)
    else:
        filters = _cut(dense, groups).transpose(0, 3, 1, 2)  # (groups, taps, K, C)
        for source in sources_in(cache):
            direct.correlate(dpixels, source, filters[:, list(source.kept)], None, dx)
        dfilters = direct.weight_gradient(pixels, dpixels, view, groups)
        ddense = dfilters.transpose(0, 3, 2, 1).reshape(dense.shape)
    return np.ascontiguousarray(parted(ddense, groups, cache.groups))


def _by_tap(weight: Array) -> Array:
    """Return (C, 1, KH, KW) as (taps, C)."""
    return weight.reshape(len(weight), -1).T


def _cut(weight: Array, groups: int) -> Array:
    """Return (K, C // groups, KH, KW) as (groups, K // groups, C // groups, taps)."""
    K, C, KH, KW = weight.shape
    return weight.reshape(groups, K // groups, C, KH * KW)


def merged(weight: Array, groups: int) -> tuple[Array, int]:
    """Return the weight with some groups merged, zeros between them, and how many remain."""
    fewer = merged_groups(weight, groups)
    if fewer == groups:
        return weight, groups
    (K, C, KH, KW), m = weight.shape, groups // fewer
    dense = np.zeros((fewer, m, K // groups, m, C, KH, KW), weight.dtype)
    apart = weight.reshape(fewer, m, K // groups, C, KH, KW)
    for i in range(m):
        dense[:, i, :, i] = apart[:, i]
    return dense.reshape(K, m * C, KH, KW), fewer


def parted(dense: Array, fewer: int, groups: int) -> Array:
    """Undo merged: take from a gradient what belongs to filters that are not the zeros between."""
    (K, C, KH, KW), m = dense.shape, groups // fewer
    split = dense.reshape(fewer, m, K // groups, m, C // m, KH, KW)
    return np.stack([split[:, i, :, i] for i in range(m)], axis=1).reshape(K, C // m, KH, KW)


@kernel
def _sum_of_pixels(pixels):
    """Add up (N, H, W, C) over all but the channels, in parts that are added in order."""
    N, H, W, C = pixels.shape
    parts = min(N, PARTS)
    sums = np.zeros((parts, C))
    for one in prange(parts):
        for n in range(one * N // parts, (one + 1) * N // parts):
            for i in range(H):
                for j in range(W):
                    for c in range(C):
                        sums[one, c] += pixels[n, i, j, c]
    total = np.empty(C, pixels.dtype)
    for c in range(C):
        channel = 0.0
        for one in range(parts):
            channel += sums[one, c]
        total[c] = channel
    return total

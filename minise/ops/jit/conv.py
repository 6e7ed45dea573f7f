"""Convolution, compiled: dispatch to one of three algorithms, and merge small groups.

The formulas are in minise/ops/reference/conv.py. Each algorithm has a file in convolution/:

    winograd.py    3 x 3 filters with stride 1, with a quarter of the multiplications
    depthwise.py   one filter per channel: elementwise products of vectors
    direct.py      everything else: a matrix product whose left factor is read from a padded image

Their gradients of the weight are in files of their own: winograd_dweight.py, direct_dweight.py.

convolution/algorithm.py states the rule; `jit.using(algorithm="direct")` disables winograd.py.

Groups of few filters would leave most lanes of a vector empty. So several groups are merged into
one that fills a vector; its filters have zeros for the channels of the other groups. NaN or
infinity in a channel then also reaches the filters of the groups merged with its own.
"""

import numpy as np
from numba import prange

from minise.checks import Array, Pair, as_pairs
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.convolution import depthwise, direct, direct_dweight, winograd, winograd_dweight
from minise.ops.jit.convolution.algorithm import algorithm_of, merged_groups
from minise.ops.jit.convolution.epilogue import NO_SHORTCUT, Correlation, bias_or_empty
from minise.ops.jit.convolution.geometry import MAX_PARTS, sources_in, windows_in
from minise.ops.jit.convolution.panels import backward_panels, forward_panels
from minise.ops.jit.vector.layout import frozen, pixels_of
from minise.ops.jit.vector.memory import empty
from minise.ops.reference.conv import Conv2dCache, check_conv2d, check_conv2d_backward


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
    check_conv2d(x, weight, bias, stride, padding, dilation, groups)
    stride, padding, dilation = as_pairs(stride, padding, dilation)
    cache = Conv2dCache(x, weight, bias, stride, padding, dilation, groups)
    out = empty((len(x), *windows_in(cache).grid, len(weight)), x.dtype)
    pixels, no_shortcut, algorithm = pixels_of(x), NO_SHORTCUT[x.dtype], algorithm_of(cache)
    if algorithm == "winograd":
        dense = merged(weight, groups)
        winograd.correlate(*dense, bias_or_empty(bias, x), padding, pixels, no_shortcut, out)
    else:
        correlate = correlation_of(algorithm, cache, filters_of(algorithm, cache))
        correlate(pixels, no_shortcut, False, out)
    return out.transpose(0, 3, 1, 2), cache


def conv2d_backward(
    dout: Array, cache: Conv2dCache, *, plus: Array | None = None, needs_dx: bool = True
) -> tuple[Array | None, ...]:
    """See minise.ops.reference.conv2d_backward; dx is channels-last in memory.

    plus is added while dx is in cache: a separate addition would move four times as much memory.
    """
    x = cache.x
    check_conv2d_backward(dout, cache, windows_in(cache).grid, plus, needs_dx)
    dpixels, dx = pixels_of(dout), None
    if needs_dx:
        added = NO_SHORTCUT[x.dtype] if plus is None else pixels_of(plus)
        dx = empty((len(x), *x.shape[2:], x.shape[1]), x.dtype)
        _fill_dx(cache, dpixels, added, dx)
        dx = dx.transpose(0, 3, 1, 2)
    dbias = None if cache.bias is None else _sum_of_pixels(dpixels)
    return dx, _dweight(cache, dpixels), dbias


def filters_of(algorithm: str, cache: Conv2dCache) -> Array:
    """Return the weight in the layout that the algorithm reads in forward."""
    weight, groups = cache.weight, cache.groups
    if algorithm == "depthwise":
        return frozen(_by_tap(weight))
    dense, fewer = merged(weight, groups)
    if algorithm == "winograd":
        return winograd.transformed(dense, fewer)
    return forward_panels(dense, fewer)


def correlation_of(algorithm: str, cache: Conv2dCache, filters: Array) -> Correlation:
    """Return a function that fills out (N, OH, OW, K) for images of the size of cache.x."""
    view, bias = windows_in(cache), bias_or_empty(cache.bias, cache.x)
    shape = len(cache.x), *view.grid, len(cache.weight)
    if algorithm == "depthwise":
        return depthwise.correlation(view, filters, bias, len(cache.x))
    if algorithm == "winograd":
        return winograd.correlation(filters, bias, cache.padding, shape)
    return direct.correlation(view, filters, bias, shape[0])


def _fill_dx(cache: Conv2dCache, dpixels: Array, plus: Array, dx: Array) -> None:
    """Fill dx (N, H, W, C) from dpixels (N, OH, OW, K), plus included."""
    algorithm, no_bias = algorithm_of(cache), bias_or_empty(None, dx)
    arguments = dpixels, plus, False, dx
    if algorithm == "depthwise":
        filters = _by_tap(cache.weight)
        for source in sources_in(cache):
            source_filters = frozen(filters[source.tap_indices])
            depthwise.correlation(source, source_filters, no_bias, len(dx))(*arguments)
        return
    dense, groups = merged(cache.weight, cache.groups)
    if algorithm == "winograd":
        winograd.image_gradient(dense, groups, cache.padding, dpixels, plus, dx)
        return
    sources = sources_in(cache)
    tap_indices = np.concatenate([source.tap_indices for source in sources])
    panels, first = backward_panels(dense, groups, tap_indices), 0
    for source in sources:
        taps = first, max(1, len(tap_indices))
        direct.correlation(source, panels, no_bias, len(dx), taps)(*arguments)
        first += len(source.taps)


def _dweight(cache: Conv2dCache, dpixels: Array) -> Array:
    """Return dweight (K, C // groups, KH, KW) from dpixels (N, OH, OW, K)."""
    pixels, weight, view = pixels_of(cache.x), cache.weight, windows_in(cache)
    algorithm = algorithm_of(cache)
    if algorithm == "depthwise":
        return depthwise.weight_gradient(pixels, dpixels, view).T.reshape(weight.shape)
    groups = merged_groups(weight, cache.groups)
    if algorithm == "winograd":
        ddense = winograd_dweight.weight_gradient(pixels, dpixels, cache.padding, groups)
    else:
        dfilters = direct_dweight.weight_gradient(pixels, dpixels, view, groups)
        ddense = dfilters.reshape(len(weight), -1, *weight.shape[2:])
    return np.ascontiguousarray(unmerged(ddense, groups, cache.groups))


def _by_tap(weight: Array) -> Array:
    """Return (C, 1, KH, KW) as (taps, C)."""
    return weight.reshape(len(weight), -1).T


def merged(weight: Array, groups: int) -> tuple[Array, int]:
    """Return the weight with groups merged, zeros between them, and the number of merged groups."""
    fewer = merged_groups(weight, groups)
    if fewer == groups:
        return weight, groups
    (K, C, KH, KW), m = weight.shape, groups // fewer
    dense = np.zeros((fewer, m, K // groups, m, C, KH, KW), weight.dtype)
    split = weight.reshape(fewer, m, K // groups, C, KH, KW)
    for i in range(m):
        dense[:, i, :, i] = split[:, i]
    return dense.reshape(K, m * C, KH, KW), fewer


def unmerged(dense: Array, fewer: int, groups: int) -> Array:
    """Return the gradient of the weight from that of the merged weight, without the zeros' part."""
    if fewer == groups:
        return dense
    (K, C, KH, KW), m = dense.shape, groups // fewer
    split = dense.reshape(fewer, m, K // groups, m, C // m, KH, KW)
    return np.stack([split[:, i, :, i] for i in range(m)], axis=1).reshape(K, C // m, KH, KW)


@kernel
def _sum_of_pixels(pixels):
    """Return the sum (C,) of pixels (N, H, W, C), in parts that are added in order."""
    N, H, W, C = pixels.shape
    parts = min(N, MAX_PARTS)
    sums = np.zeros((parts, C))
    for part in prange(parts):
        for n in range(part * N // parts, (part + 1) * N // parts):
            for i in range(H):
                for j in range(W):
                    for c in range(C):
                        sums[part, c] += pixels[n, i, j, c]
    total = np.empty(C, pixels.dtype)
    for c in range(C):
        channel = 0.0
        for part in range(parts):
            channel += sums[part, c]
        total[c] = channel
    return total

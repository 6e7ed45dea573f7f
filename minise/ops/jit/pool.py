"""Pooling, compiled: one window at a time, with all channels of a pixel together.

The formulas are in minise/ops/reference/pool.py. In forward, each row of windows is one iteration
of a parallel loop. In backward, windows overlap, so one iteration computes several channels of one
image: no two iterations add to the same element.
"""

import math

import numpy as np
from numba import prange

from minise.checks import Array, Pair, as_pairs, check_flag
from minise.ops.jit.compiler.compile import device_function, kernel
from minise.ops.jit.vector.layout import frozen, pixels_of, rows_of
from minise.ops.jit.vector.memory import empty
from minise.ops.reference.pool import (
    SHAPES,
    AvgPool2dCache,
    GlobalAvgPool2dCache,
    GlobalMaxPool2dCache,
    MaxPool2dCache,
    check_pool,
    divisor_of,
)
from minise.ops.reference.windows import Windows, windows_of
from minise.ops.shapes import check_arrays, check_gradient

CHANNELS_PER_TASK = 32  # of one image in one iteration of backward


def max_pool2d_forward(
    x: Array,
    *,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
) -> tuple[Array, MaxPool2dCache]:
    """See minise.ops.reference.max_pool2d_forward; out is channels-last in memory."""
    stride = kernel if stride is None else stride
    check_pool("max_pool2d", x, kernel, stride, padding, ceil_mode)
    kernel, stride, padding = as_pairs(kernel, stride, padding)
    windows = windows_of(x.shape[2:], kernel, stride, padding, ceil_mode=ceil_mode)
    out = empty((len(x), *windows.outputs, x.shape[1]), x.dtype)
    argmax = empty(out.shape, np.intp)
    _maxima(pixels_of(x), kernel, stride, padding, out, argmax)
    images, indices = out.transpose(0, 3, 1, 2), argmax.transpose(0, 3, 1, 2)
    return images, MaxPool2dCache(x, indices, kernel, stride, padding, ceil_mode)


def max_pool2d_backward(dout: Array, cache: MaxPool2dCache) -> tuple[Array]:
    """See minise.ops.reference.max_pool2d_backward; dx is channels-last in memory."""
    x, argmax, *_ = cache
    check_gradient("max_pool2d", dout, x, argmax.shape)
    return (_to_argmax(dout, argmax, x),)


def avg_pool2d_forward(
    x: Array,
    *,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, AvgPool2dCache]:
    """See minise.ops.reference.avg_pool2d_forward; out is channels-last in memory."""
    stride = kernel if stride is None else stride
    check_pool("avg_pool2d", x, kernel, stride, padding, ceil_mode)
    kernel, stride, padding = as_pairs(kernel, stride, padding)
    check_flag("avg_pool2d", "count_include_pad", count_include_pad)
    cache = AvgPool2dCache(x, kernel, stride, padding, ceil_mode, count_include_pad)
    windows, divisor = _windows(cache)
    out = empty((len(x), *windows.outputs, x.shape[1]), x.dtype)
    _means(pixels_of(x), kernel, stride, padding, divisor, out)
    return out.transpose(0, 3, 1, 2), cache


def avg_pool2d_backward(dout: Array, cache: AvgPool2dCache) -> tuple[Array]:
    """See minise.ops.reference.avg_pool2d_backward; dx is channels-last in memory."""
    x, kernel, stride, padding, *_ = cache
    windows, divisor = _windows(cache)
    check_gradient("avg_pool2d", dout, x, (*x.shape[:2], *windows.outputs))
    dx = np.zeros((len(x), *x.shape[2:], x.shape[1]), x.dtype)
    _to_windows(pixels_of(dout), kernel, stride, padding, divisor, dx)
    return (dx.transpose(0, 3, 1, 2),)


def global_avg_pool2d_forward(x: Array) -> tuple[Array, GlobalAvgPool2dCache]:
    """See minise.ops.reference.global_avg_pool2d_forward."""
    check_arrays("global_avg_pool2d", SHAPES["global_avg_pool2d"], x)
    out = np.empty(x.shape[:2], x.dtype)
    _global_means(rows_of(x), out)
    return out, GlobalAvgPool2dCache(x)


def global_max_pool2d_forward(x: Array) -> tuple[Array, GlobalMaxPool2dCache]:
    """See minise.ops.reference.global_max_pool2d_forward."""
    check_arrays("global_max_pool2d", SHAPES["global_max_pool2d"], x)
    out, argmax = np.empty(x.shape[:2], x.dtype), np.empty(x.shape[:2], np.intp)
    _global_maxima(rows_of(x), out, argmax)
    return out, GlobalMaxPool2dCache(x, argmax)


def global_max_pool2d_backward(dout: Array, cache: GlobalMaxPool2dCache) -> tuple[Array]:
    """See minise.ops.reference.global_max_pool2d_backward; dx is channels-last in memory."""
    x, argmax = cache
    check_gradient("global_max_pool2d", dout, x, argmax.shape)
    return (_to_argmax(dout[:, :, None, None], argmax[:, :, None, None], x),)


def _windows(cache: AvgPool2dCache) -> tuple[Windows, Array]:
    """Return the windows, and the divisor of each window (OH, OW)."""
    size: Pair = (cache.x.shape[2], cache.x.shape[3])
    windows = windows_of(size, *cache[1:4], ceil_mode=cache.ceil_mode)
    return windows, frozen(divisor_of(windows, cache.count_include_pad, cache.x))


def _to_argmax(dout: Array, argmax: Array, x: Array) -> Array:
    N, C, H, W = x.shape
    dx = np.zeros((N, H * W, C), x.dtype)
    _scatter(rows_of(dout), rows_of(argmax), dx)
    return dx.reshape(N, H, W, C).transpose(0, 3, 1, 2)


@device_function
def _clipped(window, stride, padding, size, length):
    """Return the begin and the end of a window along one axis, clipped to the image."""
    first = window * stride - padding
    return max(0, first), min(length, first + size)


@kernel
def _maxima(x, size, stride, padding, out, argmax):
    """Set out and argmax to each window's maximum and the index of its first; NaN is largest."""
    _, H, W, C = x.shape
    N, OH, OW, _ = out.shape
    for row in prange(N * OH):
        n, p = row // OH, row % OH
        top, bottom = _clipped(p, stride[0], padding[0], size[0], H)
        for q in range(OW):
            left, right = _clipped(q, stride[1], padding[1], size[1], W)
            for c in range(C):
                out[n, p, q, c] = x[n, top, left, c]
                argmax[n, p, q, c] = top * W + left
            for i in range(top, bottom):
                for j in range(left, right):
                    for c in range(C):
                        if _exceeds(x[n, i, j, c], out[n, p, q, c]):
                            out[n, p, q, c] = x[n, i, j, c]
                            argmax[n, p, q, c] = i * W + j


@device_function
def _exceeds(number, largest):
    return number > largest or (math.isnan(number) and not math.isnan(largest))


@kernel
def _scatter(dout, argmax, dx):
    """Add each element of dout (N, windows, C) to dx (N, pixels, C) at its pixel."""
    N, windows, C = dout.shape
    groups = -(-C // CHANNELS_PER_TASK)
    for task in prange(N * groups):
        n, first = task // groups, task % groups * CHANNELS_PER_TASK
        for i in range(windows):
            for c in range(first, min(first + CHANNELS_PER_TASK, C)):
                dx[n, argmax[n, i, c], c] += dout[n, i, c]


@kernel
def _means(x, size, stride, padding, divisor, out):
    _, H, W, C = x.shape
    N, OH, OW, _ = out.shape
    for row in prange(N * OH):
        n, p = row // OH, row % OH
        top, bottom = _clipped(p, stride[0], padding[0], size[0], H)
        for q in range(OW):
            left, right = _clipped(q, stride[1], padding[1], size[1], W)
            total = np.zeros(C)
            for i in range(top, bottom):
                for j in range(left, right):
                    for c in range(C):
                        total[c] += x[n, i, j, c]
            for c in range(C):
                out[n, p, q, c] = total[c] / divisor[p, q]


@kernel
def _to_windows(dout, size, stride, padding, divisor, dx):
    """Add each window's share of dout to the pixels of dx."""
    N, OH, OW, C = dout.shape
    _, H, W, _ = dx.shape
    groups = -(-C // CHANNELS_PER_TASK)
    for task in prange(N * groups):
        n, first = task // groups, task % groups * CHANNELS_PER_TASK
        for p in range(OH):
            top, bottom = _clipped(p, stride[0], padding[0], size[0], H)
            for q in range(OW):
                left, right = _clipped(q, stride[1], padding[1], size[1], W)
                for i in range(top, bottom):
                    for j in range(left, right):
                        for c in range(first, min(first + CHANNELS_PER_TASK, C)):
                            dx[n, i, j, c] += dout[n, p, q, c] / divisor[p, q]


@kernel
def _global_means(x, out):
    N, pixels, C = x.shape
    for n in prange(N):
        total = np.zeros(C)
        for i in range(pixels):
            for c in range(C):
                total[c] += x[n, i, c]
        for c in range(C):
            out[n, c] = total[c] / pixels


@kernel
def _global_maxima(x, out, argmax):
    N, pixels, C = x.shape
    for n in prange(N):
        for c in range(C):
            out[n, c] = x[n, 0, c]
            argmax[n, c] = 0
        for i in range(1, pixels):
            for c in range(C):
                if _exceeds(x[n, i, c], out[n, c]):
                    out[n, c] = x[n, i, c]
                    argmax[n, c] = i

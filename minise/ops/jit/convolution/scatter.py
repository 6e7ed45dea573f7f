"""dx by scattering: each pixel of dout adds its share to the pixels of its window.

    share (pixels, taps * C) = dout (pixels, K) @ weight (K, taps * C)
    dx[pixel of the tap in the window] += share[tap]                     tap by tap, row by row

direct.py gathers instead: each pixel of dx reads dout. Gathering needs no `share` and reads dout in
place, but it is slow in two cases, for which this module scatters. With a stride, pixels of dx with
different remainders are read through different taps, so that gathering takes one convolution with
few taps for each remainder, and packs dout for each. And if images have few channels, as in the
first layer, most lanes of a vector would be empty; here a vector holds several taps.

`share` is computed for one register tile of columns at a time, for as many pixels as fit into the
L1 cache, and added to dx immediately. An image of dx is one iteration of a parallel loop, which
adds the shares in a fixed order: dx is bit-identical for any number of threads.
"""

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function, kernel
from minise.ops.jit.convolution.direct import panels_of
from minise.ops.jit.convolution.packing import copy_pixels
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import lanes_of, load, store
from minise.ops.jit.vector.tile import ROWS, copy, set_tile, zero
from minise.ops.reference.conv import Conv2dCache
from minise.ops.reference.windows import windows_of

PIXELS_PER_CHUNK = 128  # of dout; their shares stay in the L1 cache


def scatter_applies(cache: Conv2dCache, groups: int) -> bool:
    """Return True if dx is scattered: with a stride, or if channels fill at most half a vector."""
    channels = cache.x.shape[1] // groups
    return cache.stride != (1, 1) or 2 * channels <= lanes_of(cache.x.dtype)


def scatter(cache: Conv2dCache, filters: Array, dout: Array, plus: Array, dx: Array) -> None:
    """Fill dx (N, H, W, C) from dout (N, OH, OW, K), with filters (groups, taps, K, C).

    dx starts as plus, which has its shape, or as 0 if plus is empty.
    """
    (_, _, H, W), (_, _, KH, KW) = cache.x.shape, cache.weight.shape
    windows = windows_of((H, W), (KH, KW), cache.stride, cache.padding, cache.dilation)
    taps = np.array(list(windows.offsets()), np.intp) * cache.dilation - cache.padding
    groups, _, K, _ = filters.shape
    columns = filters.transpose(0, 2, 1, 3).reshape(groups, 1, K, -1)
    rows = max(1, PIXELS_PER_CHUNK // dout.shape[2])
    panels = panels_of(columns, lanes_of(dx.dtype))
    _scatter(dout, panels, frozen(taps), cache.stride, rows, plus, dx)


@kernel
def _scatter(dout, panels, taps, stride, rows, plus, dx):
    """Add the shares of one block of rows of dout at a time, image by image."""
    (N, OH, OW, _), (_, H, W, channels) = dout.shape, dx.shape
    groups, vectors, K, lanes = panels.shape
    douts, weights, flat = dout.reshape(-1), panels.reshape(-1), dx.reshape(-1)
    size, start = H * W * channels, np.zeros(1, np.intp)
    for n in prange(N):
        pixels = np.empty((rows * OW + ROWS) * K, dx.dtype)
        share = np.empty((rows * OW + ROWS) * 2 * lanes, dx.dtype)
        if plus.size:
            copy(plus.reshape(-1), n * size, flat, n * size, size)
        else:
            zero(flat, n * size, size)
        for block in range(-(-OH // rows) * groups):
            top, g = block // groups * rows, block % groups
            bottom = min(top + rows, OH)
            count, at = (bottom - top) * OW, ((n * OH + top) * OW * groups + g) * K
            copy_pixels(douts, at, groups * K, K, count, pixels, 0, K)
            for v in range(0, vectors, 2):
                two, b = min(2, vectors - v), (g * vectors + v) * K * lanes
                right, width = (b, lanes, K * lanes, two), two * lanes
                for m in range(0, count, ROWS):
                    set_tile(
                        pixels, m * K, K, 1, start, K, weights, *right, share, m * width, width
                    )
                columns = share, width, v * lanes
                _add_shares(*columns, taps, stride, n, top, bottom, OW, g, groups, dx)


@device_function
def _add_shares(share, width, column, taps, stride, n, top, bottom, OW, g, groups, dx):
    """Add `width` columns of shares, from `column` on, of rows `top` to `bottom` to dx[n]."""
    _, H, W, channels = dx.shape
    C, flat = channels // groups, dx.reshape(-1)
    last = min(column + width, len(taps) * C)
    for t in range(column // C, -(-last // C)):
        down, right = taps[t]
        begin, end = max(column, t * C), min(last, (t + 1) * C)
        first = max(0, -(right // stride[1]))  # the first window whose tap is inside the image
        count = min(OW, -((right - W) // stride[1])) - first
        for p in range(top, bottom):
            h = p * stride[0] + down
            if 0 <= h < H:
                at = ((p - top) * OW + first) * width + begin - column
                to = ((n * H + h) * W + first * stride[1] + right) * channels
                to += g * C + begin - t * C
                _add_row(share, at, width, end - begin, count, flat, to, stride[1] * channels)


@device_function
def _add_row(share, at, share_stride, count, pixels, dx, to, dx_stride):
    """Add `count` elements of each pixel of a row; indices and strides are in elements."""
    lanes = lanes_of(dx.dtype)
    vector_end = count - count % lanes
    for c in range(0, vector_end, lanes):
        p = to + c
        for q in range(at + c, at + c + pixels * share_stride, share_stride):
            store(load(dx, p) + load(share, q), dx, p)
            p += dx_stride
    for c in range(vector_end, count):
        p = to + c
        for q in range(at + c, at + c + pixels * share_stride, share_stride):
            dx[p] += share[q]
            p += dx_stride

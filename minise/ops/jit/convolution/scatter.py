"""dx by scattering: every pixel of dout hands out its share to the pixels that its window saw.

    share (pixels, taps * C) = dout (pixels, K) @ weight (K, taps * C)
    dx[tap's place of the window] += share[tap]                          tap by tap, row by row

direct.py does it the other way round, each pixel of dx gathers. That needs no `share` and reads
dout in place, but it is wasteful in two cases, which are done here. With a stride, pixels of dx of
different remainders are seen through different taps, so that a gradient is as many convolutions of
few taps each, and dout is packed for each. And where images have few channels, as the first layer's
have, most lanes of a vector would be empty; here a vector holds several taps.

So many columns of `share` are made at a time as a register tile is wide, of so many pixels as stay
in the first-level cache, and they are added at once. An image of dx is one iteration of a parallel
loop and has one owner, who adds in a fixed order: the bits do not depend on the number of threads.
"""

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel, part
from minise.ops.jit.convolution.direct import panels_of
from minise.ops.jit.convolution.packing import copy_pixels
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import lanes_of, load, store
from minise.ops.jit.vector.tile import ROWS, copy, fresh, zero
from minise.ops.reference.conv import Conv2dCache
from minise.ops.reference.windows import windows_of

NEAR = 128  # pixels of dout whose shares stay in the first-level cache


def scatters(cache: Conv2dCache, groups: int) -> bool:
    """Return whether dx is scattered: with a stride, or if channels fill half a vector at most."""
    channels = cache.x.shape[1] // groups
    return cache.stride != (1, 1) or 2 * channels <= lanes_of(cache.x.dtype)


def scatter(cache: Conv2dCache, filters: Array, dout: Array, plus: Array, dx: Array) -> None:
    """Fill dx (N, H, W, C) from dout (N, OH, OW, K), with filters (groups, taps, K, C).

    plus is what dx begins as; it is like dx, or has no numbers.
    """
    (_, _, H, W), (_, _, KH, KW) = cache.x.shape, cache.weight.shape
    windows = windows_of((H, W), (KH, KW), cache.stride, cache.padding, cache.dilation)
    taps = np.array(list(windows.offsets()), np.intp) * cache.dilation - cache.padding
    groups, _, K, _ = filters.shape
    columns = filters.transpose(0, 2, 1, 3).reshape(groups, 1, K, -1)
    rows = max(1, NEAR // dout.shape[2])
    panels = panels_of(columns, lanes_of(dx.dtype))
    _scatter(dout, panels, frozen(taps), cache.stride, rows, plus, dx)


@kernel
def _scatter(dout, panels, taps, stride, rows, plus, dx):
    """Hand out the shares of a block of rows of dout after the other, image by image."""
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
                    fresh(pixels, m * K, K, 1, start, K, weights, *right, share, m * width, width)
                columns = share, width, v * lanes
                _add_shares(*columns, taps, stride, n, top, bottom, OW, g, groups, dx)


@part
def _add_shares(share, width, column, taps, stride, n, top, bottom, OW, g, groups, dx):
    """Add `width` columns of shares, from a column on, of rows of dout to an image of dx."""
    _, H, W, channels = dx.shape
    C, flat = channels // groups, dx.reshape(-1)
    last = min(column + width, len(taps) * C)
    for t in range(column // C, -(-last // C)):
        down, right = taps[t]
        begin, end = max(column, t * C), min(last, (t + 1) * C)
        first = max(0, -(right // stride[1]))  # the window whose tap is the first one inside
        count = min(OW, -((right - W) // stride[1])) - first
        for p in range(top, bottom):
            h = p * stride[0] + down
            if 0 <= h < H:
                at = ((p - top) * OW + first) * width + begin - column
                to = ((n * H + h) * W + first * stride[1] + right) * channels
                to += g * C + begin - t * C
                _add_row(share, at, width, end - begin, count, flat, to, stride[1] * channels)


@part
def _add_row(share, at, apart, count, pixels, dx, to, dx_apart):
    """Add some numbers of each pixel of a row; places and distances are in numbers."""
    lanes = lanes_of(dx.dtype)
    whole = count - count % lanes
    for c in range(0, whole, lanes):
        p = to + c
        for q in range(at + c, at + c + pixels * apart, apart):
            store(load(dx, p) + load(share, q), dx, p)
            p += dx_apart
    for c in range(whole, count):
        p = to + c
        for q in range(at + c, at + c + pixels * apart, apart):
            dx[p] += share[q]
            p += dx_apart

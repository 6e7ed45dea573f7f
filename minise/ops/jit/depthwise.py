"""The depthwise convolution: every channel has a filter of its own, so vectors need no product.

A vector of channels is multiplied by a vector of weights, tap by tap, number by number. An image
is packed and seen as in direct.py, and geometry.py says what sees what. A weight is loaded once for
QUAD places, each of which has its sum in a register.
"""

import numpy as np
from numba import prange

from minise.ops.checks import Array
from minise.ops.jit.compile import kernel, part
from minise.ops.jit.direct import sum_of_parts
from minise.ops.jit.geometry import PARTS, View, rows_of_block, runs_of
from minise.ops.jit.layout import frozen
from minise.ops.jit.packing import copy_pixels, pack, room_of
from minise.ops.jit.simd import filled, fma, lanes_of, load, store

QUAD = 4


def depthwise_can(weight: Array, groups: int) -> bool:
    """Return whether each channel has one filter, and the channels are whole vectors."""
    one_each = groups == len(weight) and weight.shape[1] == 1
    return one_each and groups % lanes_of(weight.dtype) == 0


def correlate(source: Array, view: View, filters: Array, bias: Array | None, out: Array) -> None:
    """Fill out (N, OH, OW, C) at the places of a view; filters is (taps, C)."""
    C = out.shape[3]
    rows = rows_of_block(len(out), view, C * out.itemsize)
    taps = runs_of(view, rows, C)[0]
    if view.merged > 1:  # a run has several taps, one pixel apart
        taps = (taps[:, None] + C * np.arange(view.merged)).reshape(-1)
    added = frozen(np.zeros(C, out.dtype) if bias is None else bias)
    packing = view.planes, view.high, view.wide, *view.where
    _correlate(source, *packing, frozen(taps), frozen(filters), added, rows, out)


@kernel
def _correlate(
    source, planes, high, wide, step, grid, first, apart, taps, filters, bias, rows, out
):
    """Pack and multiply, a block of rows of one image at a time."""
    _, H, W, C = out.shape
    blocks = -(-grid[0] // rows)
    weights, flat_out = filters.reshape(-1), out.reshape(-1)
    room = -(-rows * wide // QUAD) * QUAD * C
    for block in prange(len(source) * blocks):
        n, top = block // blocks, block % blocks * rows
        bottom = min(top + rows, grid[0])
        image = np.empty(room_of(len(planes), rows + high, wide, C), out.dtype)
        sums = np.empty(room, out.dtype)
        pack(source, n, 0, C, planes, step, top, rows + high, wide, image)
        for m in range(0, (bottom - top) * wide, QUAD):
            for c in range(0, C, lanes_of(out.dtype)):
                _quad(image, m * C + c, C, taps, weights, c, bias, sums)
        for p in range(top, bottom):
            row = (n * H + first[0] + p * apart[0]) * W + first[1]
            copy_pixels(sums, (p - top) * wide * C, C, C, grid[1], flat_out, row * C, apart[1] * C)


@part
def _quad(image, at, C, taps, weights, c, bias, sums):
    """Make a vector of channels of four neighbouring places."""
    s0 = s1 = s2 = s3 = load(bias, c)
    for t in range(len(taps)):
        weight, p = load(weights, t * C + c), at + taps[t]
        s0, s1 = fma(load(image, p), weight, s0), fma(load(image, p + C), weight, s1)
        s2 = fma(load(image, p + 2 * C), weight, s2)
        s3 = fma(load(image, p + 3 * C), weight, s3)
    store(s0, sums, at)
    store(s1, sums, at + C)
    store(s2, sums, at + 2 * C)
    store(s3, sums, at + 3 * C)


def weight_gradient(x: Array, dout: Array, view: View) -> Array:
    """Return dfilters (taps, C)."""
    C = x.shape[3]
    rows = rows_of_block(len(x), view, C * x.itemsize)
    taps = runs_of(view, rows, C)[0]
    if view.merged > 1:
        taps = (taps[:, None] + C * np.arange(view.merged)).reshape(-1)
    parts = np.zeros((min(PARTS, len(x) * -(-view.grid[0] // rows)), len(taps), C), x.dtype)
    _products(x, dout, view.planes, view.high, view.wide, view.step, frozen(taps), rows, parts)
    return np.asarray(sum_of_parts(parts))


@kernel
def _products(x, dout, planes, high, wide, step, taps, rows, parts):
    """Add up image * dout, tap by tap, over the blocks of each part."""
    _, OH, OW, C = dout.shape
    blocks = -(-OH // rows)
    all_blocks = len(x) * blocks
    pixels = dout.reshape(-1)
    for one in prange(len(parts)):
        image = np.empty(room_of(len(planes), rows + high, wide, C), x.dtype)
        douts = np.zeros(-(-rows * wide // QUAD) * QUAD * C, x.dtype)  # 0 between rows, at the end
        sums = parts[one].reshape(-1)
        for block in range(one * all_blocks // len(parts), (one + 1) * all_blocks // len(parts)):
            n, top = block // blocks, block % blocks * rows
            bottom = min(top + rows, OH)
            pack(x, n, 0, C, planes, step, top, rows + high, wide, image)
            for p in range(top, top + rows):
                to = (p - top) * wide * C
                if p < bottom:
                    copy_pixels(pixels, (n * OH + p) * OW * C, C, C, OW, douts, to, C)
                else:
                    douts[to : to + wide * C] = 0
            for c in range(0, C, lanes_of(x.dtype)):
                for t in range(len(taps)):
                    _add_tap(image, taps[t] + c, douts, c, C, rows * wide, sums, t * C + c)


@part
def _add_tap(image, at, douts, c, C, places, sums, to):
    """Add the products of a tap over all places to a vector of sums."""
    s0 = load(sums, to)
    s1 = s2 = s3 = filled(0.0, sums)
    for m in range(0, places * C, QUAD * C):
        p, q = at + m, c + m
        s0 = fma(load(image, p), load(douts, q), s0)
        s1 = fma(load(image, p + C), load(douts, q + C), s1)
        s2 = fma(load(image, p + 2 * C), load(douts, q + 2 * C), s2)
        s3 = fma(load(image, p + 3 * C), load(douts, q + 3 * C), s3)
    store((s0 + s1) + (s2 + s3), sums, to)

"""The direct convolution: register tiles read a padded image in place, and no window is copied.

A block of rows of an image, padded with zeros, lies in cache as one long row of pixels of C numbers
each (packing.py). From an output pixel to the next one, everything that its window sees moves on by
one pixel; and so it does at the end of a row, if the few places between the last window of a row
and the first of the next are computed too and thrown away. So all windows see, relative to their
own place, the same `runs` of numbers, and a convolution is a matrix product without a copy

    out (places, K) = image (places, runs * count)  @  weight (runs * count, K)

whose left factor overlaps itself in memory. It is made of register tiles (vector/tile.py). Where
filters are no whole vectors, they are filled up with zeros; a vector of filters after the other,
all the weights that a tile reads are neighbours (`panels`), since numbers that lie a power of two
apart would share few lines of the cache.

The same product serves all three passes (geometry.py says what sees what):

    forward   out sees x
    dx        x sees dout, where the stride is 1 and channels fill vectors; else see scatter.py
    dweight   (runs * count, K) = image.T @ dout, added up over the places; dout has zeros at those
              places that are thrown away

Every number has one owner. A block of out or dx is one iteration of a parallel loop. The blocks of
a batch are cut into at most PARTS parts, by shapes alone, each part adds up a dweight of its own,
and those are added in order: the bits do not depend on the number of threads.
"""

from functools import partial

import numpy as np
from numba import prange

from minise.ops.checks import Array
from minise.ops.jit.compiler.compile import kernel, part
from minise.ops.jit.convolution.finish import Correlation, finish
from minise.ops.jit.convolution.geometry import PARTS, View, rows_of_block, runs_of
from minise.ops.jit.convolution.packing import copy_pixels, pack, room_of
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, fresh, tile

NEAR = 128  # places whose numbers stay in the first-level cache, for dweight


def correlation(view: View, panels: Array, bias: Array, shape: tuple[int, ...]) -> Correlation:
    """Return a function that fills out, of a shape (N, OH, OW, K), at the places of a view.

    panels is what panels_of makes of (groups, taps, C // groups, K // groups).
    """
    C = max(1, panels.shape[2] // max(1, len(view.taps)))
    rows = rows_of_block(shape[0], view, C * panels.itemsize)
    packing = view.planes, view.high, view.wide, view.step, view.grid
    return partial(_correlate, packing, *runs_of(view, rows, C), rows, panels, bias)


def panels_of(filters: Array, lanes: int) -> Array:
    """Return (groups, taps, C, K) as (groups, K / lanes, taps * C, lanes), filled up with zeros."""
    groups, taps, C, K = filters.shape
    panels = np.zeros((groups, -(-K // lanes), taps * C, lanes), filters.dtype)
    rows = filters.reshape(groups, taps * C, K)
    for k in range(0, K, lanes):
        some = rows[:, :, k : k + lanes]
        panels[:, k // lanes, :, : some.shape[2]] = some
    return frozen(panels)


@kernel
def _correlate(packing, runs, count, rows, panels, bias, source, shortcut, relu, out):
    """Pack and multiply, a block of rows of one image at a time."""
    planes, high, wide, step, grid = packing
    groups, vectors, T, lanes = panels.shape
    C, K, width = source.shape[3] // groups, out.shape[3] // groups, vectors * lanes
    blocks = -(-grid[0] // rows)
    weights, flat_out = panels.reshape(-1), out.reshape(-1)
    end = bias, shortcut.reshape(-1), relu
    room = -(-rows * wide // ROWS) * ROWS * width
    for block in prange(len(source) * blocks):
        n, top = block // blocks, block % blocks * rows
        bottom = min(top + rows, grid[0])
        image = np.empty(room_of(len(planes), rows + high, wide, C), out.dtype)
        sums = np.empty(room, out.dtype)
        for g in range(groups):
            pack(source, n, g * C, C, planes, step, top, rows + high, wide, image)
            for v in range(0, vectors, 2):
                b, two = (g * vectors + v) * T * lanes, min(2, vectors - v)
                right = lanes, T * lanes, two
                for m in range(0, (bottom - top) * wide, ROWS):
                    c = m * width + v * lanes
                    fresh(image, m * C, C, 1, runs, count, weights, b, *right, sums, c, width)
            for p in range(top, bottom):
                at, channels = (p - top) * wide * width, out.shape[3]
                to = (n * grid[0] + p) * grid[1] * channels + g * K
                finish(sums, at, width, K, grid[1], g * K, *end, flat_out, to, channels)


def weight_gradient(x: Array, dout: Array, view: View, groups: int) -> Array:
    """Return dfilters (groups, taps, C // groups, K // groups)."""
    C, K, taps = x.shape[3] // groups, dout.shape[3] // groups, len(view.taps)
    rows = rows_of_block(len(x), view, C * x.itemsize)
    runs, count = runs_of(view, rows, C)
    shape = groups, len(runs), -(-count // ROWS) * ROWS, -(-K // lanes_of(x.dtype))
    how_many = min(PARTS, len(x) * -(-view.grid[0] // rows))
    parts = np.zeros((how_many, *shape, lanes_of(x.dtype)), x.dtype)
    _outer_products(x, dout, view.planes, view.high, view.wide, view.step, runs, rows, parts)
    total = sum_of_parts(parts).reshape(groups, len(runs), shape[2], -1)
    return total[:, :, :count, :K].reshape(groups, taps, C, K)


@kernel
def _outer_products(x, dout, planes, high, wide, step, runs, rows, parts):
    """Add up image.T @ dout over the blocks of each part."""
    OH = dout.shape[1]
    _, groups, _, T, vectors, lanes = parts.shape
    C, width = x.shape[3] // groups, vectors * lanes
    blocks = -(-OH // rows)
    all_blocks = len(x) * blocks
    start = np.zeros(1, np.intp)
    for one in prange(len(parts)):
        image = np.empty(room_of(len(planes), rows + high, wide, C), x.dtype)
        douts = np.zeros(vectors * rows * wide * lanes, x.dtype)
        sums = parts[one].reshape(-1)
        for block in range(one * all_blocks // len(parts), (one + 1) * all_blocks // len(parts)):
            n, top = block // blocks, block % blocks * rows
            bottom = min(top + rows, OH)
            for g in range(groups):
                pack(x, n, g * C, C, planes, step, top, rows + high, wide, image)
                _pack_panels(dout, n, top, bottom, g, groups, rows * wide, wide, lanes, douts)
                for near in range(0, (bottom - top) * wide, NEAR):
                    steps = min(NEAR, (bottom - top) * wide - near)
                    for r in range(len(runs)):
                        for t in range(0, T, ROWS):
                            a = runs[r] + t + near * C
                            for v in range(0, vectors, 2):
                                b = (v * rows * wide + near) * lanes
                                c = ((g * len(runs) + r) * T + t) * width + v * lanes
                                right = b, lanes, rows * wide * lanes, min(2, vectors - v)
                                tile(image, a, 1, C, start, steps, douts, *right, sums, c, width)


@part
def _pack_panels(dout, n, top, bottom, g, groups, places, wide, lanes, panels):
    """Copy rows of a group of dout to panels[vector, place, lane]; the places between stay 0."""
    _, OH, OW, channels = dout.shape
    K, pixels = channels // groups, dout.reshape(-1)
    for k in range(0, K, lanes):
        count = min(lanes, K - k)
        for p in range(top, bottom):
            at = ((n * OH + p) * OW) * channels + g * K + k
            to = (k // lanes * places + (p - top) * wide) * lanes
            copy_pixels(pixels, at, channels, count, OW, panels, to, lanes)


@kernel
def sum_of_parts(parts):
    """Add up the parts, in order."""
    count = len(parts)
    numbers = parts.reshape(count, -1)
    total = np.empty(parts.shape[1:], parts.dtype)
    flat = total.reshape(-1)
    for i in prange(len(flat)):
        one = 0.0
        for p in range(count):
            one += numbers[p, i]
        flat[i] = one
    return total

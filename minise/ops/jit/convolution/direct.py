"""The direct convolution: register tiles read a padded image in place, without im2col.

A block of rows of an image, padded with zeros, is packed in cache as one long row of pixels of C
elements each (packing.py). From one output pixel to the next, the window moves by one pixel, also
from the end of a row to the next row, if the few positions between the last window of a row and the
first of the next are computed and discarded. So all windows read the same `runs` of elements
relative to their own position, and a convolution is a matrix product without a copy of the windows,

    out (positions, K) = image (positions, runs * count)  @  weight (runs * count, K)

whose left factor overlaps itself in memory. Register tiles compute it (vector/tile.py). Filters
that do not fill vectors are padded with zeros. The weights are stored as `panels`, one per vector
of filters, so that all weights that a tile reads are adjacent in memory: with a stride of a power
of two, they would compete for the same cache sets.

All three passes are this product (geometry.py describes which pixels a window sees):

    forward   windows of out read x
    dx        windows of x read dout, if the stride is 1 and channels fill vectors; else scatter.py
    dweight   (runs * count, K) = image.T @ dout, summed over the positions; dout has zeros at the
              discarded positions

Results are bit-identical for any number of threads: a block of out or dx is one iteration of a
parallel loop. For dweight, the blocks of a batch are split into at most MAX_PARTS parts, which
depend on the shapes only; each part has its own sum, and the sums are added in order.
"""

from functools import partial

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function, kernel
from minise.ops.jit.convolution.epilogue import Correlation, apply_epilogue
from minise.ops.jit.convolution.geometry import MAX_PARTS, View, rows_per_block, runs_of
from minise.ops.jit.convolution.packing import copy_pixels, pack, packed_size
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, add_tile, set_tile

POSITIONS_PER_CHUNK = 128  # of dweight; their elements stay in the L1 cache


def correlation(view: View, panels: Array, bias: Array, shape: tuple[int, ...]) -> Correlation:
    """Return a function that fills out, of shape (N, OH, OW, K), at the positions of a view.

    panels is panels_of(filters) for filters of shape (groups, taps, C // groups, K // groups).
    """
    C = max(1, panels.shape[2] // max(1, len(view.taps)))
    rows = rows_per_block(shape[0], view, C * panels.itemsize)
    packing = view.planes, view.halo_rows, view.wide, view.step, view.grid
    return partial(_correlate, packing, *runs_of(view, rows, C), rows, panels, bias)


def panels_of(filters: Array, lanes: int) -> Array:
    """Return filters (groups, taps, C, K) as (groups, K / lanes, taps * C, lanes), zero-padded."""
    groups, taps, C, K = filters.shape
    panels = np.zeros((groups, -(-K // lanes), taps * C, lanes), filters.dtype)
    rows = filters.reshape(groups, taps * C, K)
    for k in range(0, K, lanes):
        columns = rows[:, :, k : k + lanes]
        panels[:, k // lanes, :, : columns.shape[2]] = columns
    return frozen(panels)


@kernel
def _correlate(packing, runs, count, rows, panels, bias, source, shortcut, relu, out):
    """Fill out: pack and multiply one block of rows of one image at a time."""
    planes, halo_rows, wide, step, grid = packing
    groups, vectors, T, lanes = panels.shape
    C, K, width = source.shape[3] // groups, out.shape[3] // groups, vectors * lanes
    blocks = -(-grid[0] // rows)
    weights, flat_out = panels.reshape(-1), out.reshape(-1)
    end = bias, shortcut.reshape(-1), relu
    room = -(-rows * wide // ROWS) * ROWS * width
    for block in prange(len(source) * blocks):
        n, top = block // blocks, block % blocks * rows
        bottom = min(top + rows, grid[0])
        image = np.empty(packed_size(len(planes), rows + halo_rows, wide, C), out.dtype)
        sums = np.empty(room, out.dtype)
        for g in range(groups):
            pack(source, n, g * C, C, planes, step, top, rows + halo_rows, wide, image)
            for v in range(0, vectors, 2):
                b, two = (g * vectors + v) * T * lanes, min(2, vectors - v)
                right = lanes, T * lanes, two
                for m in range(0, (bottom - top) * wide, ROWS):
                    c = m * width + v * lanes
                    set_tile(image, m * C, C, 1, runs, count, weights, b, *right, sums, c, width)
            for p in range(top, bottom):
                at, channels = (p - top) * wide * width, out.shape[3]
                to = (n * grid[0] + p) * grid[1] * channels + g * K
                apply_epilogue(sums, at, width, K, grid[1], g * K, *end, flat_out, to, channels)


def weight_gradient(x: Array, dout: Array, view: View, groups: int) -> Array:
    """Return the gradient of the filters, (groups, taps, C // groups, K // groups)."""
    C, K, taps = x.shape[3] // groups, dout.shape[3] // groups, len(view.taps)
    rows = rows_per_block(len(x), view, C * x.itemsize)
    runs, count = runs_of(view, rows, C)
    shape = groups, len(runs), -(-count // ROWS) * ROWS, -(-K // lanes_of(x.dtype))
    part_count = min(MAX_PARTS, len(x) * -(-view.grid[0] // rows))
    parts = np.zeros((part_count, *shape, lanes_of(x.dtype)), x.dtype)
    _outer_products(x, dout, view.planes, view.halo_rows, view.wide, view.step, runs, rows, parts)
    total = sum_of_parts(parts).reshape(groups, len(runs), shape[2], -1)
    return total[:, :, :count, :K].reshape(groups, taps, C, K)


@kernel
def _outer_products(x, dout, planes, halo_rows, wide, step, runs, rows, parts):
    """Set each part to the sum of image.T @ dout over its blocks."""
    OH = dout.shape[1]
    _, groups, _, T, vectors, lanes = parts.shape
    C, width = x.shape[3] // groups, vectors * lanes
    blocks = -(-OH // rows)
    all_blocks = len(x) * blocks
    start = np.zeros(1, np.intp)
    for part in prange(len(parts)):
        image = np.empty(packed_size(len(planes), rows + halo_rows, wide, C), x.dtype)
        douts = np.zeros(vectors * rows * wide * lanes, x.dtype)
        sums = parts[part].reshape(-1)
        for block in range(part * all_blocks // len(parts), (part + 1) * all_blocks // len(parts)):
            n, top = block // blocks, block % blocks * rows
            bottom = min(top + rows, OH)
            for g in range(groups):
                pack(x, n, g * C, C, planes, step, top, rows + halo_rows, wide, image)
                _pack_panels(dout, n, top, bottom, g, groups, rows * wide, wide, lanes, douts)
                for chunk in range(0, (bottom - top) * wide, POSITIONS_PER_CHUNK):
                    steps = min(POSITIONS_PER_CHUNK, (bottom - top) * wide - chunk)
                    for r in range(len(runs)):
                        for t in range(0, T, ROWS):
                            a = runs[r] + t + chunk * C
                            for v in range(0, vectors, 2):
                                b = (v * rows * wide + chunk) * lanes
                                c = ((g * len(runs) + r) * T + t) * width + v * lanes
                                right = b, lanes, rows * wide * lanes, min(2, vectors - v)
                                add_tile(
                                    image, a, 1, C, start, steps, douts, *right, sums, c, width
                                )


@device_function
def _pack_panels(dout, n, top, bottom, g, groups, positions, wide, lanes, panels):
    """Copy rows of a group of dout to panels[vector, position, lane]; the gaps stay 0."""
    _, OH, OW, channels = dout.shape
    K, pixels = channels // groups, dout.reshape(-1)
    for k in range(0, K, lanes):
        count = min(lanes, K - k)
        for p in range(top, bottom):
            at = ((n * OH + p) * OW) * channels + g * K + k
            to = (k // lanes * positions + (p - top) * wide) * lanes
            copy_pixels(pixels, at, channels, count, OW, panels, to, lanes)


@kernel
def sum_of_parts(parts):
    """Return the sum over the first axis, added in order."""
    count = len(parts)
    numbers = parts.reshape(count, -1)
    total = np.empty(parts.shape[1:], parts.dtype)
    flat = total.reshape(-1)
    for i in prange(len(flat)):
        element = 0.0
        for p in range(count):
            element += numbers[p, i]
        flat[i] = element
    return total

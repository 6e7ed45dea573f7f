"""The depthwise convolution: one filter per channel, so products of vectors are elementwise.

Each pixel is used for as few products as a filter has taps, so little more time is needed than for
reading images and writing results. For TOGETHER adjacent positions and a vector of channels,

    out      the sums are in registers; each tap adds vectors of pixels times one of weights
    dx       the same, reading dout: with a stride, one view for each remainder of the pixels
    dweight  vectors of dout are in registers; each tap adds their products with vectors of pixels
             to its sum, which stays in the L1 cache

so that a weight, or a sum, is loaded once for TOGETHER positions. Then come the next channels, then
the next positions: the pixels that several rows of a filter read are still in cache. For 3 x 3 taps
the compiler unrolls the loop over the taps of out and dx, and at stride 1 each pixel is loaded once
for all of the adjacent positions that read it: 27 loads for 36 multiply-adds instead of 45.

A task is a block of positions (some images, or some rows of one) and a range of channels. It first
packs the pixels that its windows read, with zeros beyond the edge (packing.py), so that all windows
are alike. Blocks have as many rows as fit into the L2 cache, so that few rows are packed twice.

Channels that do not fill vectors: the last vector begins earlier and computes some channels twice,
with the same bits. The sums of dweight are added block by block, in parts that depend on the shapes
only, so that results are bit-identical for any number of threads.
"""

from functools import lru_cache, partial

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function, force_inlined, kernel
from minise.ops.jit.convolution.epilogue import Correlation, apply_epilogue
from minise.ops.jit.convolution.geometry import (
    MAX_CACHED_SIZES,
    MAX_PARTS,
    MIN_TASKS,
    View,
    blocks_of,
)
from minise.ops.jit.convolution.packing import grid_of, pack_block, packed_size, packed_windows
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import filled, fma, lanes_of, load, store
from minise.ops.jit.vector.tile import zero

TOGETHER = 4  # positions, each with its sum or its dout in a register
CHANNELS = 128  # per task: the rows of pixels that a filter reads stay in the L1 cache
TERMS = 256  # products that are added to a sum of dweight one by one


def depthwise_applies(weight: Array, groups: int) -> bool:
    """Return True if each channel has exactly one filter, and the channels fill a vector."""
    one_each = groups == weight.shape[0] and weight.shape[1] == 1
    return one_each and groups >= lanes_of(weight.dtype)


def correlation(view: View, filters: Array, bias: Array, N: int) -> Correlation:
    """Return a function that fills the results of N images at the positions of a view.

    filters is (taps, C), for the taps of the view.
    """
    placement, sizes = (*view.first, *view.spacing), _sizes(view, N, filters)
    lattice, reverse = _lattice(view)
    ordered = frozen(filters[::-1]) if reverse else filters
    return partial(_correlate, view.layout, placement, lattice, sizes, ordered, bias)


def weight_gradient(x: Array, dout: Array, view: View) -> Array:
    """Return dweight (taps, C) from x (N, H, W, C) and dout (N, OH, OW, C)."""
    N, C, taps = len(x), x.shape[3], len(view.taps)
    sizes = _sizes(view, N, x)
    blocks = -(-N // sizes[0]) * -(-view.grid[0] // sizes[1])
    parts = np.empty((min(MAX_PARTS, blocks), taps, C), x.dtype)
    dweight = np.empty((taps, C), x.dtype)
    _products(x, dout, view.layout, view.taps, sizes, parts, dweight)
    return dweight


@lru_cache(MAX_CACHED_SIZES)
def _lattice(view: View) -> tuple[tuple[int, int, int, int], bool]:
    """Return the rows and columns of taps and their distances in packed pixels; and their order.

    Kernels read a window from its first pixel on. The order is True if the view lists the taps in
    reverse, as views of dx do.
    """
    rows, columns = (np.unique(axis) for axis in view.taps.T)
    down, right = (int(np.diff(axis, append=axis[-1:])[:1].sum()) for axis in (rows, columns))
    reverse = len(view.taps) > 0 and view.taps[0].sum() > 0
    return (len(rows), len(columns), down, right), bool(reverse)


def _sizes(view: View, N: int, channels_last: Array) -> tuple[int, int, int]:
    """Return the images and rows of a block of positions, and the number of ranges of channels."""
    (high, _), C, item = view.grid, channels_last.shape[-1], channels_last.itemsize
    ranges = -(-C // CHANNELS)
    pixel_bytes = -(-C // ranges) * item
    images = blocks_of(view, N, pixel_bytes).images
    rows = max(1, min(high, view.rows_that_fit(pixel_bytes)))
    if -(-N // images) * -(-high // rows) * ranges < MIN_TASKS:
        images, rows = 1, max(1, min(rows, -(-high * N * ranges // MIN_TASKS)))
    return images, rows, ranges


@device_function
def _range_of(i, ranges, C, lanes):
    """Return the first channel of a range, and the one after its last: vectors, and the rest."""
    vectors = -(-C // lanes)
    return i * vectors // ranges * lanes, min(C, (i + 1) * vectors // ranges * lanes)


@device_function
def _runs(lattice, layout, width):
    """Return the offset of each tap from its position, and the distance of adjacent positions."""
    (rows, columns, down, right), wide = lattice, packed_size(1, layout)[1]
    runs = np.empty(rows * columns, np.intp)
    for t in range(len(runs)):
        runs[t] = (t // columns * down * wide + t % columns * right) * width
    return runs, layout[5] * width


@device_function
def _line(row, rows, layout, width):
    """Return where the first window of a row of a block, of `rows` rows an image, is packed."""
    high, wide = packed_size(rows, layout)
    return (row // rows * high + row % rows * layout[4]) * wide * width


@kernel
def _correlate(layout, placement, lattice, sizes, filters, bias, source, shortcut, relu, out):
    """Fill out: one block of positions and one range of channels at a time."""
    (images, rows, ranges), (high, wide) = sizes, grid_of(layout)
    (_, H, W, C), lanes, stacks = out.shape, lanes_of(out.dtype), -(-high // rows)
    for task in prange(-(-len(out) // images) * stacks * ranges):
        block = task // ranges
        n, top = block // stacks * images, block % stacks * rows
        count, bottom = min(images, len(out) - n), min(high, top + rows)
        first, last = _range_of(task % ranges, ranges, C, lanes)
        width, step = last - first, placement[3] * C
        packed = pack_block(source, n, count, top, bottom, first, width, layout, filters)
        runs, move = _runs(lattice, layout, width)
        flat, others, weights = out.reshape(-1), shortcut.reshape(-1), filters.reshape(-1)
        for row in range(count * (bottom - top)):
            i, p = n + row // (bottom - top), top + row % (bottom - top)
            to = ((i * H + placement[0] + p * placement[2]) * W + placement[1]) * C + first
            line = _line(row, bottom - top, layout, width)
            right = weights, first, C, flat, to, step
            _correlate_row(packed, line, move, wide, width, runs, lattice, *right)
            if len(bias) or len(others) or relu:
                end = bias, others, relu
                apply_epilogue(flat, to, step, width, wide, first, *end, flat, to, step)


@device_function
def _correlate_row(
    packed, line, move, wide, width, runs, lattice, weights, first, C, out, to, step
):
    """Compute a row of positions, for `width` channels; the last ones may be computed twice."""
    lanes, q = lanes_of(out.dtype), 0
    together = TOGETHER if wide >= TOGETHER else 1
    three, beside = lattice[0] == lattice[1] == 3, len(runs) > 1 and runs[1] == move
    while q < wide:
        q = min(q, wide - together)
        for i in range(0, width, lanes):
            c = min(i, width - lanes)
            at, right = line + q * move + c, (weights, first + c, C, out, to + q * step + c)
            if together == 1:
                total = filled(0.0, out)
                for t in range(len(runs)):
                    total = fma(load(packed, at + runs[t]), load(weights, first + c + t * C), total)
                store(total, out, to + q * step + c)
            elif three and beside:
                _correlate_nine(packed, at, move, move, runs[3], *right, step)
            elif three:
                _correlate_nine(packed, at, move, runs[1], runs[3], *right, step)
            else:
                _correlate_four(packed, at, move, runs, *right, step)
        q += together


@force_inlined
def _correlate_nine(packed, at, move, right, down, weights, k, C, out, to, step):
    """Compute one vector of channels at four adjacent positions, for 3 x 3 taps.

    The compiler unrolls the loops. If right is move, it loads each pixel of a row once.
    """
    s0 = s1 = s2 = s3 = filled(0.0, out)
    for _ in range(3):
        p = at
        for _ in range(3):
            weight = load(weights, k)
            s0, s1 = fma(load(packed, p), weight, s0), fma(load(packed, p + move), weight, s1)
            p2, p3 = p + 2 * move, p + 3 * move
            s2, s3 = fma(load(packed, p2), weight, s2), fma(load(packed, p3), weight, s3)
            k += C
            p += right
        at += down
    _store_four(s0, s1, s2, s3, out, to, step)


@device_function
def _correlate_four(packed, at, move, runs, weights, k, C, out, to, step):
    """Compute one vector of channels at four adjacent positions, for any taps."""
    s0 = s1 = s2 = s3 = filled(0.0, out)
    p0, p1, p2, p3 = at, at + move, at + 2 * move, at + 3 * move
    for t in range(len(runs)):
        weight, run = load(weights, k), runs[t]
        s0, s1 = fma(load(packed, p0 + run), weight, s0), fma(load(packed, p1 + run), weight, s1)
        s2, s3 = fma(load(packed, p2 + run), weight, s2), fma(load(packed, p3 + run), weight, s3)
        k += C
    _store_four(s0, s1, s2, s3, out, to, step)


@force_inlined
def _store_four(s0, s1, s2, s3, out, to, step):
    """Store the results of four adjacent positions."""
    store(s0, out, to)
    store(s1, out, to + step)
    store(s2, out, to + 2 * step)
    store(s3, out, to + 3 * step)


@kernel
def _products(x, dout, layout, taps, sizes, parts, dweight):
    """Compute the sum of pixels times dout for each part, then add the parts in order."""
    (images, rows, ranges), (high, wide) = sizes, grid_of(layout)
    (N, _, _, C), lanes, stacks = dout.shape, lanes_of(x.dtype), -(-high // rows)
    blocks = -(-N // images) * stacks
    for task in prange(len(parts) * ranges):
        part, (first, last) = task // ranges, _range_of(task % ranges, ranges, C, lanes)
        width, douts = last - first, dout.reshape(-1)
        total = np.zeros((len(dweight), width), x.dtype)
        sums = np.zeros(len(dweight) * -(-width // lanes) * lanes, x.dtype)
        for block in range(part * blocks // len(parts), (part + 1) * blocks // len(parts)):
            n, top = block // stacks * images, block % stacks * rows
            count, bottom = min(images, N - n), min(high, top + rows)
            here = x, n, count, top, bottom, first, width, layout, taps, 1
            pixels, offsets, runs = packed_windows(*here)
            at, positions = (n * high + top) * wide * C + first, count * (bottom - top) * wide
            for m in range(0, positions, TERMS):
                some = offsets[m : min(m + TERMS, positions)]
                _add_products(pixels, some, runs, douts, at + m * C, C, width, sums)
                _add_sums(sums, total)
        parts[part, :, first:last] = total
    for t in prange(len(dweight)):
        for c in range(C):
            number = parts[0, t, c]
            for part in range(1, len(parts)):
                number += parts[part, t, c]
            dweight[t, c] = number


@device_function
def _add_products(pixels, offsets, runs, douts, at, C, width, sums):
    """Add the products of a block of positions to sums (taps, vectors of channels)."""
    lanes = lanes_of(sums.dtype)
    stride, four = -(-width // lanes) * lanes, len(offsets) - len(offsets) % TOGETHER
    for m in range(0, four, TOGETHER):
        for i in range(0, width, lanes):
            c = min(i, width - lanes)
            _add_four(pixels, offsets, m, c, runs, douts, at + m * C + c, C, sums, i, stride)
    for m in range(four, len(offsets)):
        for i in range(0, width, lanes):
            c, to = min(i, width - lanes), i
            d = load(douts, at + m * C + c)
            for t in range(len(runs)):
                pixel = load(pixels, offsets[m] + runs[t] + c)
                store(fma(pixel, d, load(sums, to)), sums, to)
                to += stride


@device_function
def _add_four(pixels, offsets, m, c, runs, douts, at, C, sums, to, stride):
    """Add the products of four adjacent positions, for a vector of channels."""
    d0, d1 = load(douts, at), load(douts, at + C)
    d2, d3 = load(douts, at + 2 * C), load(douts, at + 3 * C)
    p0, p1, p2, p3 = offsets[m] + c, offsets[m + 1] + c, offsets[m + 2] + c, offsets[m + 3] + c
    for t in range(len(runs)):
        run = runs[t]
        a = fma(load(pixels, p0 + run), d0, load(sums, to))
        b = load(pixels, p1 + run) * d1
        a, b = fma(load(pixels, p2 + run), d2, a), fma(load(pixels, p3 + run), d3, b)
        store(a + b, sums, to)
        to += stride


@device_function
def _add_sums(sums, total):
    """Add sums (taps, vectors of channels), whose last vector may overlap, to total (taps, C).

    Set the sums to 0.
    """
    (taps, C), lanes = total.shape, lanes_of(sums.dtype)
    stride, inside = -(-C // lanes) * lanes, C - C % lanes
    for t in range(taps):
        for c in range(C):
            total[t, c] += sums[t * stride + (c if c < inside else stride - C + c)]
    zero(sums, 0, len(sums))

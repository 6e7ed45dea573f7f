"""The direct gradient of the weight: a matrix product summed over all positions.

    dweight (K, taps * C) = dout.T (K, positions)  @  image (positions, taps * C)

image is that of direct.py: row p has the pixels that the window of position p reads. A register
tile (vector/tile.py) adds the products of ROWS filters and two vectors of image over all positions
of a block, with the sums in registers. What it reads is first copied to panels, in which the values
for successive positions are adjacent: in an image they are a power of two apart, and compete for
the same cache sets.

dweight is split into blocks of filters and channels, whose sums stay in the L2 cache while all
images pass by; the batch is split into parts only if there are fewer such blocks than MIN_TASKS.
A task, which is one block and one part,

    for each block of positions:
        packs the pixels, and the panels of dout                     in the L2 cache
        for each two vectors of image: copies their panel            in the L1 cache
            adds their products with each ROWS filters

The parts are added in order, and depend on the shapes only, so that results are bit-identical for
any number of threads.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function, inlined, kernel
from minise.ops.jit.convolution.geometry import MAX_PARTS, MIN_TASKS, PIXEL_BYTES, View, blocks_of
from minise.ops.jit.convolution.packing import packed_windows
from minise.ops.jit.vector.memory import empty
from minise.ops.jit.vector.simd import lanes_of, load, store
from minise.ops.jit.vector.tile import ROWS, add_tile, copy, zero

SUM_BYTES = 128 * 1024  # of a block of dweight: a quarter of the L2 cache of most processors
FILTERS = 256  # per block


class Split(NamedTuple):
    """How dweight and the positions are split into tasks."""

    groups: int  # per block
    channels: int  # of a group, per block
    filters: int  # of a group, per block, a multiple of ROWS
    images: int  # per block of positions
    rows: int  # per block of positions
    merged: int  # taps per run


def weight_gradient(x: Array, dout: Array, view: View, groups: int) -> Array:
    """Return dweight (K, C // groups, taps) from x (N, H, W, C) and dout (N, OH, OW, K)."""
    C, K, taps = x.shape[3] // groups, dout.shape[3] // groups, len(view.taps)
    split, shape = split_of(C, K, groups, view, len(x), x.dtype)
    sums, dweight = empty(shape, x.dtype), empty((groups * K, C, taps), x.dtype)
    sizes = *split, groups, -(-K // split.filters), -(-C // split.channels)
    _outer_products(x, dout, view.layout, view.taps, sizes, sums, dweight)
    return dweight


def split_of(
    C: int, K: int, groups: int, view: View, N: int, dtype: np.dtype[Any]
) -> tuple[Split, tuple[int, ...]]:
    """Return the split of the gradient of N images, and the shape of its sums.

    The shape is (parts, blocks, groups, filters, vectors of all runs); C and K are per group.
    """
    split, parts = _split(C, K, groups, view, N, dtype.itemsize)
    blocks = -(-groups // split.groups) * -(-K // split.filters) * -(-C // split.channels)
    lanes = lanes_of(dtype)
    width = -(-split.merged * split.channels // lanes) * lanes
    runs = len(view.taps) // split.merged
    return split, (parts, blocks, split.groups, split.filters, runs * width)


def _split(C: int, K: int, groups: int, view: View, N: int, itemsize: int) -> tuple[Split, int]:
    """Return the split of dweight for C channels and K filters per group, and the parts.

    Blocks are as large as fits into cache, so that few of them read the same pixels. They have
    several groups only as far as enough tasks remain, or cache lines need it. If these are too few
    tasks, the positions are split into parts; if there are too few positions, the channels.
    """
    lanes, tap_bytes = lanes_of(np.dtype(f"f{itemsize}")), len(view.taps) * itemsize
    filters = _part(K, FILTERS, ROWS)
    channels = min(C, _part(C, max(lanes, SUM_BYTES // (tap_bytes * filters)), lanes))
    together = 1
    if channels >= C and filters >= K:
        per_task = max(groups // MIN_TASKS, PIXEL_BYTES // (C * itemsize))
        together = max(1, min(groups, per_task, SUM_BYTES // (tap_bytes * C * filters)))
    blocks = blocks_of(view, N, together * channels * itemsize)
    tasks = -(-groups // together) * -(-K // filters) * -(-C // channels)
    parts = max(1, min(MAX_PARTS, blocks.total, -(-MIN_TASKS // tasks)))
    if together == 1 and tasks * parts < MIN_TASKS:
        sufficient = -(-MIN_TASKS // (tasks * parts)) * -(-C // channels)  # blocks of channels
        channels = min(channels, _part(C, max(4 * lanes, -(-C // sufficient)), lanes))
        blocks = blocks_of(view, N, channels * itemsize)
        parts = min(parts, blocks.total)
    merged = view.merged if together == 1 else 1
    return Split(together, channels, filters, blocks.images, blocks.rows, merged), parts


def _part(count: int, largest: int, multiple: int) -> int:
    """Return the size of equal parts of at most `largest`, rounded up to a multiple."""
    parts = -(-count // largest)
    return -(-count // (parts * multiple)) * multiple


@kernel
def _outer_products(x, dout, layout, taps, sizes, sums, dweight):
    """Compute each part of each block of dweight, then add the parts in order."""
    parts, count = sums.shape[:2]
    for task in prange(parts * count):
        part, block = task // count, task % count
        _add_positions(part, block, x, dout, layout, taps, sizes, sums)
        if parts == 1:
            _store_block(block, sizes, sums, dweight)
    for block in prange(count if parts > 1 else 0):
        total = sums[0, block].reshape(-1)
        for part in range(1, parts):
            addend = sums[part, block].reshape(-1)
            for i in range(len(total)):
                total[i] += addend[i]
        _store_block(block, sizes, sums, dweight)


@device_function
def _corner(block, sizes):
    """Return the first group, filter and channel of a block."""
    together, channels, filters, _, _, _, _, high, wide = sizes
    return (
        block // (high * wide) * together,
        block // wide % high * filters,
        block % wide * channels,
    )


@inlined
def _add_positions(part, block, x, dout, layout, taps, sizes, sums):
    """Set the sums of a block to those over the positions of a part."""
    together, channels, filters, images, rows, merged, groups, _, _ = sizes
    (N, OH, OW, _), (_, _, _, _, width), lanes = dout.shape, sums.shape, lanes_of(x.dtype)
    C, K, stacks = x.shape[3] // groups, dout.shape[3] // groups, -(-OH // rows)
    g0, k, c = _corner(block, sizes)
    together, channels, count = (
        min(together, groups - g0),
        min(channels, C - c),
        min(filters, K - k),
    )
    pitch, total = channels if together == 1 else together * C, sums[part, block].reshape(-1)
    left = np.empty(images * rows * OW * filters, x.dtype)
    right = np.empty(images * rows * OW * 2 * lanes, x.dtype)
    zero(total, 0, len(total))
    blocks = -(-N // images) * stacks
    for step in range(part * blocks // len(sums), (part + 1) * blocks // len(sums)):
        n, top = step // stacks * images, step % stacks * rows
        more, bottom = min(images, N - n), min(OH, top + rows)
        here = x, n, more, top, bottom, g0 * C + c, pitch, layout, taps, merged
        pixels, offsets, runs = packed_windows(*here)
        positions = more * (bottom - top) * OW
        for g in range(together):
            at = (n * OH + top) * OW * dout.shape[3] + (g0 + g) * K + k
            _copy_panels(dout, at, positions, count, left)
            product = left, positions, count, right, total, g * filters * width, width
            _add_products(pixels, g * C, offsets, runs, merged * channels, *product)


@device_function
def _add_products(
    pixels, first, offsets, runs, count, left, positions, filters, right, total, to, width
):
    """Add the products of all filters and all runs of a block of positions to its sums."""
    lanes, start, column = lanes_of(pixels.dtype), np.zeros(1, np.intp), to
    for r in range(len(runs)):
        for t in range(0, count, 2 * lanes):
            two = min(2, -(-(count - t) // lanes))
            at, b_step = runs[r] + first + t, two * lanes
            for m in range(positions):
                for v in range(0, b_step, lanes):
                    store(load(pixels, offsets[m] + at + v), right, m * b_step + v)
            for k in range(0, filters, ROWS):
                a, b = (left, k * positions, 1, ROWS), (right, 0, b_step, lanes, two)
                add_tile(*a, start, positions, *b, total, column + k * width, width)
            column += b_step


@device_function
def _copy_panels(dout, at, positions, count, panels):
    """Copy `count` filters of positions of dout to panels[k / ROWS, position, k % ROWS]."""
    pixels, full = dout.reshape(-1), count - count % ROWS
    for m in range(positions):
        for k in range(0, full, ROWS):
            copy(pixels, at + k, panels, k * positions + m * ROWS, ROWS)
        for r in range(ROWS if full < count else 0):
            to = full * positions + m * ROWS + r
            panels[to] = pixels[at + full + r] if full + r < count else 0
        at += dout.shape[3]


@inlined
def _store_block(block, sizes, sums, dweight):
    """Copy the sums of a block to dweight (K, C // groups, taps)."""
    together, channels, filters, _, _, merged, groups, _, _ = sizes
    (_, C, taps), K = dweight.shape, len(dweight) // groups
    g0, k, c = _corner(block, sizes)
    inside, lanes, flat = min(channels, C - c), lanes_of(sums.dtype), dweight.reshape(-1)
    run_width = -(-merged * inside // lanes) * lanes
    for g in range(min(together, groups - g0)):
        for i in range(min(filters, K - k)):
            row, to = sums[0, block, g, i], (((g0 + g) * K + k + i) * C + c) * taps
            if taps == 1:
                copy(row, 0, flat, to, inside)
            else:
                for tap in range(taps):
                    at = tap // merged * run_width + tap % merged * inside
                    for channel in range(inside):
                        flat[to + channel * taps + tap] = row[at + channel]

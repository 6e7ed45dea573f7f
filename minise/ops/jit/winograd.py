"""Winograd's convolution: 3 x 3 filters, stride 1, with a quarter of the multiplications.

The formulas of the convolution are in minise/ops/reference/conv.py, those of the transforms in
transforms.py. Out is cut into tiles of 4 x 4, each of which sees 6 x 6 pixels; for each of the 36
points of a transformed tile all tiles make one matrix product with the transformed filters:

    out     see_tiles(x)  @ filters        (tiles, C) @ (C, K) at every point, then make_tiles
    dx      the same of dout, with the filters turned round and C and K exchanged
    dweight see_tiles(x).T @ turn_tiles(dout), added up over the tiles, then transform_dweights

A block of tiles lies in the second-level cache: its pixels, their 36 points, the products. So
memory is read and written once, as by a copy; and while a block is multiplied, the pixels of the
next one and the places of its own results are asked for, so that little time is spent waiting.
Tiles that reach over the edge see zeros there, and what they make beyond it is not stored; channels
and filters have to be whole vectors.

Rounding: the transforms add numbers up to 100 times as large as the results, so float32 loses a
digit compared with the direct sum (rounding.py derives a bound). The bits differ from those of
the direct convolution, but not from run to run or with the number of threads: a block's out has
one owner, and dweight is added up in parts that follow from the shapes alone, in order.
"""

from functools import lru_cache, partial
from math import prod
from typing import NamedTuple

import numpy as np
from numba import prange

from minise.ops.checks import Array, Pair
from minise.ops.jit.compile import kernel, part, spliced
from minise.ops.jit.finish import Correlation, finish, plainly
from minise.ops.jit.geometry import SIZES
from minise.ops.jit.layout import frozen
from minise.ops.jit.memory import empty
from minise.ops.jit.packing import pack, read_ahead, write_ahead
from minise.ops.jit.simd import LINE, lanes_of
from minise.ops.jit.tile import ROWS, fresh, tile, zero
from minise.ops.jit.transforms import (
    IN,
    OUT,
    POINTS,
    TAP,
    make_tiles,
    see_tiles,
    transform_dweights,
    transform_weights,
    turn_tiles,
)

TILES = 64  # of a block, about
BLOCKS = 8  # at least, where there are so many tiles
PARTS = 16  # of a batch, at most
PART_BYTES = 32 << 20  # of all parts of dweight, where that allows two


class Blocks(NamedTuple):
    """How the tiles of a batch are cut: some images whole, or some rows of tiles of one."""

    high: int  # rows of tiles of an image
    wide: int  # tiles in a row
    images: int  # of a block
    rows: int  # rows of tiles of each image of a block


@lru_cache(SIZES)
def blocks_of(N: int, size: Pair) -> Blocks:
    """Return how to cut the tiles of N images of results of a size."""
    high, wide = (-(-length // OUT) for length in size)
    tiles = max(ROWS, min(TILES, N * high * wide // BLOCKS))
    if high * wide <= tiles:
        return Blocks(high, wide, min(N, tiles // (high * wide)), high)
    return Blocks(high, wide, 1, max(1, min(high, tiles // wide)))


@lru_cache(SIZES)
def _places(padding: Pair) -> Array:
    """Return where an image begins that is padded, as pack takes it: one plane, its first pixel."""
    return frozen(np.array([[-padding[0], -padding[1]]], np.intp))


def correlation(filters: Array, bias: Array, padding: Pair, shape: tuple[int, ...]) -> Correlation:
    """Return a function that fills out, of a shape (N, OH, OW, K), from images that it pads.

    filters is what transformed returns.
    """
    blocks = tuple(blocks_of(shape[0], shape[1:3]))
    return partial(_correlate, filters, bias, _places(padding), blocks)


def correlate(
    weight: Array, groups: int, bias: Array, padding: Pair, x: Array, plus: Array, out: Array
) -> None:
    """Fill out (N, OH, OW, K) from x (N, H, W, C) and weight (K, C // groups, 3, 3), and add plus.

    It is what correlation of transformed filters does, in one kernel.
    """
    _convolve(*_untransformed(weight, groups, x, out), False, bias, _places(padding), x, plus, out)


def image_gradient(
    weight: Array, groups: int, padding: Pair, dout: Array, plus: Array, dx: Array
) -> None:
    """Fill dx (N, H, W, C) from dout (N, OH, OW, K), and add plus."""
    outside, nothing = (2 - padding[0], 2 - padding[1]), plainly(None, dx)
    cut = _untransformed(weight, groups, dout, dx)
    _convolve(*cut, True, nothing, _places(outside), dout, plus, dx)


def _untransformed(
    weight: Array, groups: int, x: Array, out: Array
) -> tuple[Array, Array, tuple[int, ...]]:
    """Return the weight, memory for its transformed filters, and how out is cut into blocks."""
    shape = groups, POINTS, x.shape[3] // groups, out.shape[3] // groups
    blocks = blocks_of(len(out), out.shape[1:3])
    return _grouped(weight, groups), empty(shape, weight.dtype), tuple(blocks)


def _grouped(weight: Array, groups: int) -> Array:
    """Return weight (K, C, 3, 3) as (groups, K // groups, C, 3, 3)."""
    return frozen(weight).reshape(groups, len(weight) // groups, *weight.shape[1:])


def transformed(weight: Array, groups: int) -> Array:
    """Return filters (groups, 36, C // groups, K // groups) of weight (K, C // groups, 3, 3)."""
    each = _grouped(weight, groups)
    filters = empty((groups, POINTS, *each.shape[2:0:-1]), weight.dtype)
    _transform_filters(each, filters)
    return frozen(filters)


def weight_gradient(x: Array, dout: Array, padding: Pair, groups: int) -> Array:
    """Return dweight (K, C // groups, 3, 3) from x (N, H, W, C) and dout (N, OH, OW, K)."""
    C, K = x.shape[3] // groups, dout.shape[3] // groups
    blocks = blocks_of(len(x), dout.shape[1:3])
    filled = -(-C // ROWS) * ROWS
    how_many = -(-len(x) // blocks.images) * -(-blocks.high // blocks.rows)
    shape = groups, POINTS, filled, K
    fit = max(2, PART_BYTES // (prod(shape) * x.itemsize))
    parts = empty((min(PARTS, fit, how_many), *shape), x.dtype)
    dweight = empty((groups, K, C, TAP, TAP), x.dtype)
    _weight_gradient(x, dout, _places(padding), tuple(blocks), parts, dweight)
    return dweight.reshape(groups * K, C, TAP, TAP)


@part
def scratch(count, like):
    """Return memory for so many numbers that begins at a line of the cache."""
    itemsize = like.itemsize
    memory = np.empty(count + LINE // itemsize, like.dtype)
    skip = (-memory.ctypes.data % LINE) // itemsize
    return memory[skip : skip + count]


@part
def _plane(tiles, channels, like):
    """Return how far the points of a block lie apart: a power of two would share cache lines."""
    return -(-tiles // ROWS) * ROWS * channels + LINE // like.itemsize


@spliced
def _transform_row(row, weight, turned, filters):
    """Set one channel, which is a row, of filters (groups, 36, C, K) to the transformed weight.

    It is (groups, K, C, 3, 3). Or the filters are those of dx, turned round: then they are set from
    weight (groups, C, K, 3, 3), so that a channel is one of dout.
    """
    _, _, C, K = filters.shape
    weights, flat = weight.reshape(-1), filters.reshape(-1)
    g, c = row // C, row % C
    taps = np.empty(TAP * TAP * K, filters.dtype)
    for k in range(K):
        at = ((g * C + c) * K + k if turned else (g * K + k) * C + c) * TAP * TAP
        for tap in range(TAP * TAP):
            taps[tap * K + k] = weights[at + (TAP * TAP - 1 - tap if turned else tap)]
    transform_weights(taps, K, flat, (g * POINTS * C + c) * K, C * K)


@kernel
def _transform_filters(weight, filters):
    for row in prange(filters.shape[0] * filters.shape[2]):
        _transform_row(row, weight, False, filters)


@part
def _see(x, n, top, strips, wide, places, band, half, seen, at, plane):
    """Pack some rows of tiles of an image and transform what they see; return the next place."""
    C, across = x.shape[3], OUT * wide + IN - OUT
    pack(x, n, 0, C, places, (1, 1), top * OUT, strips * OUT + IN - OUT, across, band)
    for strip in range(strips):
        see_tiles(band, strip * OUT * across * C, across, C, wide, half, seen, at, plane)
        at += wide * C
    return at


@part
def _span(block, high, images, rows, array):
    """Return where the pixels of a block begin and end in an array (N, H, W, C), if it has any."""
    (N, H, W, C), stacks = array.shape, -(-high // rows)
    first, top = block // stacks * images, block % stacks * rows * OUT
    last = min(N, first + images) - 1
    return (first * H + min(H, top)) * W * C, (last * H + min(H, top + rows * OUT)) * W * C


@spliced
def _correlate_part(one, parts, cut, places, x, filters, bias, shortcut, relu, out):
    """Make the blocks of one part of them, each in cache from pixels to results."""
    (high, wide, images, rows), (N, OH, OW, K) = cut, out.shape
    C, (groups, _, each, width) = x.shape[3], filters.shape
    stacks = -(-high // rows)
    blocks, lanes, start = -(-N // images) * stacks, lanes_of(out.dtype), np.zeros(1, np.intp)
    flat, flat_filters, pixels = out.reshape(-1), filters.reshape(-1), x.reshape(-1)
    plane, product = _plane(images * rows * wide, C, out), _plane(images * rows * wide, K, out)
    across, others = OUT * wide + IN - OUT, shortcut.reshape(-1)
    band = scratch((rows * OUT + IN - OUT) * across * C, out)
    half = scratch(IN * across * C, out)
    seen, sums = scratch(POINTS * plane, out), scratch(POINTS * product, out)
    for block in range(one * blocks // parts, (one + 1) * blocks // parts):
        first, top = block // stacks * images, block % stacks * rows
        strips = min(rows, high - top)
        at = 0
        for n in range(first, min(N, first + images)):
            at = _see(x, n, top, strips, wide, places, band, half, seen, at, plane)
        later = _span(block + 1, high, images, rows, x)
        now = _span(block, high, images, rows, out)
        for i in range(POINTS * groups):
            read_ahead(pixels, *later, i, POINTS * groups)
            write_ahead(flat, *now, i, POINTS * groups)
            if shortcut.size:
                read_ahead(others, *now, i, POINTS * groups)
            point, g = i // groups, i % groups
            a, c = point * plane + g * each, point * product + g * width
            b = (g * POINTS + point) * each * width
            for m in range(0, at // C, ROWS):
                for k in range(0, width, 2 * lanes):
                    p, q = a + m * C, c + m * K + k
                    right = b + k, width, lanes, min(2, (width - k) // lanes)
                    fresh(seen, p, C, 1, start, each, flat_filters, *right, sums, q, K)
        at = 0
        for n in range(first, min(N, first + images)):
            for strip in range(top, top + strips):
                left, to = OH - strip * OUT, (n * OH + strip * OUT) * OW * K
                make_tiles(sums, at, product, K, wide, left, OW, flat, to, OW * K)
                if len(bias) or shortcut.size or relu:
                    end = bias, others, relu
                    finish(flat, to, K, K, min(OUT, left) * OW, 0, *end, flat, to, K)
                at += wide * K


@part
def _parts_of(cut, N):
    """Return in how many parts the blocks are done."""
    high, _, images, rows = cut
    return min(PARTS, -(-N // images) * -(-high // rows))


@kernel
def _correlate(filters, bias, places, cut, x, shortcut, relu, out):
    parts = _parts_of(cut, len(out))
    for one in prange(parts):
        _correlate_part(one, parts, cut, places, x, filters, bias, shortcut, relu, out)


@kernel
def _convolve(weight, filters, cut, turned, bias, places, x, plus, out):
    """Transform the filters, and with them make out."""
    for row in prange(filters.shape[0] * filters.shape[2]):
        _transform_row(row, weight, turned, filters)
    parts = _parts_of(cut, len(out))
    for one in prange(parts):
        _correlate_part(one, parts, cut, places, x, filters, bias, plus, False, out)


@spliced
def _multiply_part(one, cut, places, x, dout, parts):
    """Add up, for one part of the blocks, see_tiles(x).T @ turn_tiles(dout) at every point."""
    (high, wide, images, rows), (N, _, _, C), K = cut, x.shape, dout.shape[3]
    _, groups, _, filled, width = parts.shape
    stacks = -(-high // rows)
    blocks, lanes = -(-N // images) * stacks, lanes_of(x.dtype)
    start, here = np.zeros(1, np.intp), np.zeros((1, 2), np.intp)
    pixels, douts, total = x.reshape(-1), dout.reshape(-1), parts[one].reshape(-1)
    plane, product = _plane(images * rows * wide, C, x), _plane(images * rows * wide, K, x)
    across = OUT * wide + IN - OUT
    band = scratch((rows * OUT + IN - OUT) * across * max(C, K), x)
    half = scratch(IN * across * C, x)
    seen, turned = scratch(POINTS * plane + ROWS, x), scratch(POINTS * product, x)
    zero(total, 0, len(total))
    for block in range(one * blocks // len(parts), (one + 1) * blocks // len(parts)):
        first, top = block // stacks * images, block % stacks * rows
        strips = min(rows, high - top)
        at = to = 0
        for n in range(first, min(N, first + images)):
            at = _see(x, n, top, strips, wide, places, band, half, seen, at, plane)
            pack(dout, n, 0, K, here, (1, 1), top * OUT, strips * OUT, wide * OUT, band)
            for strip in range(strips):
                begin, row = strip * OUT * OUT * wide * K, OUT * wide * K
                turn_tiles(band, begin, row, K, wide, turned, to, product)
                to += wide * K
        later = _span(block + 1, high, images, rows, x)
        too = _span(block + 1, high, images, rows, dout)
        for i in range(POINTS * groups):
            read_ahead(pixels, *later, i, POINTS * groups)
            read_ahead(douts, *too, i, POINTS * groups)
            point, g = i // groups, i % groups
            a, b = point * plane + g * (C // groups), point * product + g * width
            for c in range(0, C // groups, ROWS):
                for k in range(0, width, 2 * lanes):
                    to = ((g * POINTS + point) * filled + c) * width + k
                    right = b + k, K, lanes, min(2, (width - k) // lanes)
                    tile(seen, a + c, 1, C, start, at // C, turned, *right, total, to, width)


@spliced
def _transform_back(row, parts, dweight):
    """Add the parts of a channel up, in order; transform to its dweight (groups, K, C, 3, 3)."""
    _, K, C = dweight.shape[:3]
    g, c = row // C, row % C
    total, taps = np.empty(POINTS * K, parts.dtype), np.empty(TAP * TAP * K, parts.dtype)
    for point in range(POINTS):
        for k in range(K):
            total[point * K + k] = parts[0, g, point, c, k]
        for one in range(1, len(parts)):
            for k in range(K):
                total[point * K + k] += parts[one, g, point, c, k]
    transform_dweights(total, K, K, taps)
    for k in range(K):
        for i in range(TAP):
            for j in range(TAP):
                dweight[g, k, c, i, j] = taps[(i * TAP + j) * K + k]


@kernel
def _weight_gradient(x, dout, places, cut, parts, dweight):
    """Make the outer products of all blocks, part by part, and of them dweight."""
    for one in prange(len(parts)):
        _multiply_part(one, cut, places, x, dout, parts)
    for row in prange(dweight.shape[0] * dweight.shape[2]):
        _transform_back(row, parts, dweight)

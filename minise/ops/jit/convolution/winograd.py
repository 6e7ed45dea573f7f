"""Winograd's convolution: 3 x 3 filters, stride 1, with a quarter of the multiplications.

The formulas of the convolution are in minise/ops/reference/conv.py, those of the transforms in
transforms.py. Out is cut into tiles of 4 x 4, each of which sees 6 x 6 pixels; for each of the 36
points of a transformed tile all tiles make one matrix product with the transformed filters:

    out     see_tiles(x)  @ filters        (tiles, C) @ (C, K) at every point, then make_tiles
    dx      the same of dout, with the filters turned round and C and K exchanged
    dweight see_tiles(x).T @ turn_tiles(dout), added up over the tiles, then transform_dweights:
            see winograd_dweight.py

A block of tiles (blocks.py) lies in the second-level cache: its pixels, their 36 points, the
products. So memory is read and written once, as by a copy; and while a block is multiplied, the
pixels of the next one and the places of its own results are asked for, so that little time is
spent waiting.
Tiles that reach over the edge see zeros there, and what they make beyond it is not stored; channels
and filters have to be whole vectors.

Rounding: the transforms add numbers up to 100 times as large as the results, so float32 loses a
digit compared with the direct sum (rounding.py derives a bound). The bits differ from those of
the direct convolution, but not from run to run or with the number of threads: a block's out has
one owner, and dweight is added up in parts that follow from the shapes alone, in order.
"""

from functools import partial

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import kernel, part, spliced
from minise.ops.jit.convolution.blocks import (
    blocks_of,
    places_of,
    plane_of,
    scratch,
    see_images,
    span_of,
)
from minise.ops.jit.convolution.finish import Correlation, finish, plainly
from minise.ops.jit.convolution.geometry import PARTS
from minise.ops.jit.convolution.packing import read_ahead, write_ahead
from minise.ops.jit.convolution.transforms import (
    IN,
    OUT,
    POINTS,
    TAP,
    make_tiles,
    transform_weights,
)
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.memory import empty
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, fresh


def correlation(filters: Array, bias: Array, padding: Pair, shape: tuple[int, ...]) -> Correlation:
    """Return a function that fills out, of a shape (N, OH, OW, K), from images that it pads.

    filters is what transformed returns.
    """
    blocks = tuple(blocks_of(shape[0], shape[1:3]))
    return partial(_correlate, filters, bias, places_of(padding), blocks)


def correlate(
    weight: Array, groups: int, bias: Array, padding: Pair, x: Array, plus: Array, out: Array
) -> None:
    """Fill out (N, OH, OW, K) from x (N, H, W, C) and weight (K, C // groups, 3, 3), and add plus.

    It is what correlation of transformed filters does, in one kernel.
    """
    _convolve(
        *_untransformed(weight, groups, x, out), False, bias, places_of(padding), x, plus, out
    )


def image_gradient(
    weight: Array, groups: int, padding: Pair, dout: Array, plus: Array, dx: Array
) -> None:
    """Fill dx (N, H, W, C) from dout (N, OH, OW, K), and add plus."""
    outside, nothing = (2 - padding[0], 2 - padding[1]), plainly(None, dx)
    cut = _untransformed(weight, groups, dout, dx)
    _convolve(*cut, True, nothing, places_of(outside), dout, plus, dx)


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


@spliced
def _correlate_part(one, parts, cut, places, x, filters, bias, shortcut, relu, out):
    """Make the blocks of one part of them, each in cache from pixels to results."""
    (high, wide, images, rows), (N, OH, OW, K) = cut, out.shape
    C, (groups, _, each, width) = x.shape[3], filters.shape
    stacks = -(-high // rows)
    blocks, lanes, start = -(-N // images) * stacks, lanes_of(out.dtype), np.zeros(1, np.intp)
    flat, flat_filters, pixels = out.reshape(-1), filters.reshape(-1), x.reshape(-1)
    plane, product = plane_of(images * rows * wide, C, out), plane_of(images * rows * wide, K, out)
    across, others = OUT * wide + IN - OUT, shortcut.reshape(-1)
    band = scratch((rows * OUT + IN - OUT) * across * C, out)
    half = scratch(IN * across * C, out)
    seen, sums = scratch(POINTS * plane, out), scratch(POINTS * product, out)
    for block in range(one * blocks // parts, (one + 1) * blocks // parts):
        first, top = block // stacks * images, block % stacks * rows
        strips = min(rows, high - top)
        at = 0
        for n in range(first, min(N, first + images)):
            at = see_images(x, n, top, strips, wide, places, band, half, seen, at, plane)
        later = span_of(block + 1, high, images, rows, x)
        now = span_of(block, high, images, rows, out)
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

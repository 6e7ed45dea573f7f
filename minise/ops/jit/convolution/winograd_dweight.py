"""Winograd's gradient of the weight: 3 x 3 filters, stride 1, a quarter of the multiplications.

What winograd.py says of tiles, blocks and rounding holds here too. At every point, each block adds
see_tiles(x).T @ turn_tiles(dout) to the sum of its part of the batch. The parts follow from the
shapes alone and are added in order, so that threads do not change the bits; only their total is
transformed back.
"""

from math import prod

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import kernel, spliced
from minise.ops.jit.convolution.blocks import (
    blocks_of,
    places_of,
    plane_of,
    scratch,
    see_images,
    span_of,
)
from minise.ops.jit.convolution.geometry import PARTS
from minise.ops.jit.convolution.packing import pack, read_ahead
from minise.ops.jit.convolution.transforms import (
    IN,
    OUT,
    POINTS,
    TAP,
    transform_dweights,
    turn_tiles,
)
from minise.ops.jit.vector.memory import empty
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, tile, zero

PART_BYTES = 32 << 20  # of all parts of dweight, where that allows two


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
    _weight_gradient(x, dout, places_of(padding), tuple(blocks), parts, dweight)
    return dweight.reshape(groups * K, C, TAP, TAP)


@spliced
def _multiply_part(one, cut, places, x, dout, parts):
    """Add up, for one part of the blocks, see_tiles(x).T @ turn_tiles(dout) at every point."""
    (high, wide, images, rows), (N, _, _, C), K = cut, x.shape, dout.shape[3]
    _, groups, _, filled, width = parts.shape
    stacks = -(-high // rows)
    blocks, lanes = -(-N // images) * stacks, lanes_of(x.dtype)
    start, here = np.zeros(1, np.intp), np.zeros((1, 2), np.intp)
    pixels, douts, total = x.reshape(-1), dout.reshape(-1), parts[one].reshape(-1)
    plane, product = plane_of(images * rows * wide, C, x), plane_of(images * rows * wide, K, x)
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
            at = see_images(x, n, top, strips, wide, places, band, half, seen, at, plane)
            pack(dout, n, 0, K, here, (1, 1), top * OUT, strips * OUT, wide * OUT, band)
            for strip in range(strips):
                begin, row = strip * OUT * OUT * wide * K, OUT * wide * K
                turn_tiles(band, begin, row, K, wide, turned, to, product)
                to += wide * K
        later = span_of(block + 1, high, images, rows, x)
        too = span_of(block + 1, high, images, rows, dout)
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

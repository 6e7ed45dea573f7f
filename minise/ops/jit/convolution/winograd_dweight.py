"""Winograd's gradient of the weight: 3 x 3 filters, stride 1, a quarter of the multiplications.

Tiles, blocks and rounding are as in winograd.py. At every point, each block adds
transform_inputs(x).T @ transform_douts(dout) to the sum of its part of the batch. The parts depend
on the shapes only and are added in order, so the result is bit-identical for any number of threads;
only their total is transformed back. Where the parts would exceed the points of all tiles,
winograd_dweight_by_filters.py needs no parts.
"""

from math import prod

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import inlined, kernel
from minise.ops.jit.convolution.blocks import (
    block_span,
    blocks_of,
    padded_origin,
    plane_stride,
    scratch,
    tile_stride,
    transform_images,
)
from minise.ops.jit.convolution.geometry import MAX_PARTS
from minise.ops.jit.convolution.packing import pack_rows, prefetch_read_slice
from minise.ops.jit.convolution.transforms import (
    IN,
    OUT,
    POINTS,
    TAP,
    transform_douts,
    transform_dweights,
)
from minise.ops.jit.convolution.winograd_dweight_by_filters import weight_gradient_by_filters
from minise.ops.jit.convolution.winograd_runs import filters_outnumber_tiles
from minise.ops.jit.vector.memory import empty
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, add_tile, zero

PART_BYTES = 32 << 20  # of all parts of dweight together, but there may always be two parts


def weight_gradient(x: Array, dout: Array, padding: Pair, groups: int) -> Array:
    """Return dweight (K, C // groups, 3, 3) from x (N, H, W, C) and dout (N, OH, OW, K)."""
    C, K = x.shape[3] // groups, dout.shape[3] // groups
    blocks = blocks_of(len(x), dout.shape[1:3])
    filled = -(-C // ROWS) * ROWS
    block_count = -(-len(x) // blocks.images) * -(-blocks.high // blocks.rows)
    shape = groups, POINTS, filled, K
    fit = max(2, PART_BYTES // (prod(shape) * x.itemsize))
    part_count = min(MAX_PARTS, fit, block_count)
    if filters_outnumber_tiles(len(x), blocks, C, K, part_count):
        return weight_gradient_by_filters(x, dout, padding, groups, blocks)
    parts = empty((part_count, *shape), x.dtype)
    dweight = empty((groups, K, C, TAP, TAP), x.dtype)
    _weight_gradient(x, dout, padded_origin(padding), tuple(blocks), parts, dweight)
    return dweight.reshape(groups * K, C, TAP, TAP)


@inlined
def _multiply_part(part, cut, origin, x, dout, parts):
    """Sum transform_inputs(x).T @ transform_douts(dout) over the blocks of a part, per point."""
    (high, wide, images, rows), (N, _, _, C), K = cut, x.shape, dout.shape[3]
    _, groups, _, filled, width = parts.shape
    stacks = -(-high // rows)
    blocks, lanes = -(-N // images) * stacks, lanes_of(x.dtype)
    start = np.zeros(1, np.intp)
    pixels, douts, total = x.reshape(-1), dout.reshape(-1), parts[part].reshape(-1)
    room, stride, dstride = images * rows * wide, tile_stride(C, x), tile_stride(K, x)
    plane, product = plane_stride(room, stride, x), plane_stride(room, dstride, x)
    across = OUT * wide + IN - OUT
    band = scratch((rows * OUT + IN - OUT) * across * max(C, K), x)
    half = scratch(IN * across * C, x)
    points, dpoints = scratch(POINTS * plane + ROWS, x), scratch(POINTS * product, x)
    zero(total, 0, len(total))
    for block in range(part * blocks // len(parts), (part + 1) * blocks // len(parts)):
        first, top = block // stacks * images, block % stacks * rows
        strips = min(rows, high - top)
        at = to = 0
        for n in range(first, min(N, first + images)):
            at = transform_images(x, n, top, strips, wide, origin, band, half, points, at, plane)
            size = strips * OUT, wide * OUT
            pack_rows(dout, n, 0, K, (0, 0), (1, 1), top * OUT, *size, band, 0)
            for strip in range(strips):
                begin, row = strip * OUT * OUT * wide * K, OUT * wide * K
                transform_douts(band, begin, row, K, wide, dpoints, to, dstride, product)
                to += wide * dstride
        later = block_span(block + 1, high, images, rows, x)
        later_douts = block_span(block + 1, high, images, rows, dout)
        for i in range(POINTS * groups):
            prefetch_read_slice(pixels, *later, i, POINTS * groups)
            prefetch_read_slice(douts, *later_douts, i, POINTS * groups)
            point, g = i // groups, i % groups
            a, b = point * plane + g * (C // groups), point * product + g * width
            for c in range(0, C // groups, ROWS):
                for k in range(0, width, 2 * lanes):
                    to = ((g * POINTS + point) * filled + c) * width + k
                    right = b + k, dstride, lanes, min(2, (width - k) // lanes)
                    left = a + c, 1, stride, start, at // stride
                    add_tile(points, *left, dpoints, *right, total, to, width)


@inlined
def _transform_back(row, parts, dweight):
    """Sum the parts of one channel in order, and transform to its dweight (groups, K, C, 3, 3)."""
    _, K, C = dweight.shape[:3]
    g, c = row // C, row % C
    total, taps = np.empty(POINTS * K, parts.dtype), np.empty(TAP * TAP * K, parts.dtype)
    for point in range(POINTS):
        for k in range(K):
            total[point * K + k] = parts[0, g, point, c, k]
        for part in range(1, len(parts)):
            for k in range(K):
                total[point * K + k] += parts[part, g, point, c, k]
    transform_dweights(total, K, K, taps)
    for k in range(K):
        for i in range(TAP):
            for j in range(TAP):
                dweight[g, k, c, i, j] = taps[(i * TAP + j) * K + k]


@kernel
def _weight_gradient(x, dout, origin, cut, parts, dweight):
    """Compute the outer products of all blocks, part by part, and dweight from their sum."""
    for part in prange(len(parts)):
        _multiply_part(part, cut, origin, x, dout, parts)
    for row in prange(dweight.shape[0] * dweight.shape[2]):
        _transform_back(row, parts, dweight)

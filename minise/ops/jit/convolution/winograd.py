"""Winograd's convolution: 3 x 3 filters, stride 1, with a quarter of the multiplications.

The formulas of the convolution are in minise/ops/reference/conv.py, those of the transforms in
transforms.py. out is split into tiles of 4 x 4 results, which read 6 x 6 pixels each. At each of
the 36 points of a transformed tile, all tiles form one matrix product with the filters:

    out       transform_inputs(x) @ filters      (tiles, C) @ (C, K) per point; transform_outputs
    dx        the same for dout, with the filters rotated by 180 degrees, and C and K exchanged
    dweight   transform_inputs(x).T @ transform_douts(dout), summed over the tiles; then
              transform_dweights: see winograd_dweight.py

A block of tiles (blocks.py) fits into the L2 cache: its pixels, their 36 points and the products.
So memory is read and written once, as in a copy. While a block is multiplied, the pixels of the
next block and the memory of its own results are prefetched, which hides most of the memory latency.
Tiles that extend beyond the edge read zeros there, and their results beyond it are not stored.
Channels and filters must fill vectors. Where the filters have more points than the tiles, it is
the filters that are split: winograd_by_filters.py.

Rounding: the transforms add terms up to 100 times as large as the results, so float32 loses one
digit compared with the direct sum (rounding.py derives a bound). The bits differ from those of the
direct convolution, but are the same in every run and for any number of threads: one iteration of a
parallel loop computes the blocks of a part, and dweight is summed part by part, in order; the parts
depend on the shapes only.
"""

from functools import partial

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import device_function, inlined, kernel
from minise.ops.jit.convolution.blocks import (
    block_span,
    blocks_of,
    padded_origin,
    plane_stride,
    scratch,
    tile_stride,
    transform_images,
)
from minise.ops.jit.convolution.epilogue import Correlation, apply_epilogue, bias_or_empty
from minise.ops.jit.convolution.geometry import MAX_PARTS
from minise.ops.jit.convolution.packing import prefetch_read_slice, prefetch_write_slice
from minise.ops.jit.convolution.transforms import (
    IN,
    OUT,
    POINTS,
    transform_outputs,
)
from minise.ops.jit.convolution.winograd_by_filters import convolve_by_filters
from minise.ops.jit.convolution.winograd_filters import (
    multiply_tiles,
    panel_tasks,
    transform_panels,
)
from minise.ops.jit.convolution.winograd_runs import filters_outnumber_tiles
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.memory import empty


def correlation(filters: Array, bias: Array, padding: Pair, shape: tuple[int, ...]) -> Correlation:
    """Return a function that pads images and fills out, of shape (N, OH, OW, K).

    filters is transformed(weight, groups).
    """
    blocks = tuple(blocks_of(shape[0], shape[1:3]))
    return partial(_correlate, filters, bias, padded_origin(padding), blocks)


def correlate(
    weight: Array, groups: int, bias: Array, padding: Pair, x: Array, plus: Array, out: Array
) -> None:
    """Fill out (N, OH, OW, K) from x (N, H, W, C) and weight (K, C // groups, 3, 3), and add plus.

    The same as correlation(transformed(weight, groups), …), in one kernel.
    """
    _fill(weight, groups, False, bias, padding, x, plus, out)


def image_gradient(
    weight: Array, groups: int, padding: Pair, dout: Array, plus: Array, dx: Array
) -> None:
    """Fill dx (N, H, W, C) from dout (N, OH, OW, K), and add plus."""
    dout_padding, no_bias = (2 - padding[0], 2 - padding[1]), bias_or_empty(None, dx)
    _fill(weight, groups, True, no_bias, dout_padding, dout, plus, dx)


def _fill(
    weight: Array,
    groups: int,
    rotated: bool,
    bias: Array,
    padding: Pair,
    x: Array,
    plus: Array,
    out: Array,
) -> None:
    """Fill out from x, or with `rotated`, dx from dout."""
    C, K, blocks = x.shape[3] // groups, out.shape[3] // groups, blocks_of(len(x), out.shape[1:3])
    grouped = _grouped(weight, groups)
    if filters_outnumber_tiles(len(x), blocks, C, K):
        convolve_by_filters(grouped, rotated, bias, padding, blocks, x, plus, False, out)
    else:
        cut = empty((groups, POINTS, C, K), weight.dtype), tuple(blocks)
        _convolve(grouped, *cut, rotated, bias, padded_origin(padding), x, plus, out)


def _grouped(weight: Array, groups: int) -> Array:
    """Return weight (K, C // groups, 3, 3) as (groups, K // groups, C // groups, 3, 3)."""
    return frozen(weight).reshape(groups, len(weight) // groups, *weight.shape[1:])


def transformed(weight: Array, groups: int) -> Array:
    """Return weight (K, C // groups, 3, 3) as filters (groups, 36, C // groups, K // groups)."""
    each = _grouped(weight, groups)
    filters = empty((groups, POINTS, *each.shape[2:0:-1]), weight.dtype)
    _transform_filters(each, filters)
    return frozen(filters)


@kernel
def _transform_filters(weight, filters):
    for task in prange(panel_tasks(filters)):
        transform_panels(task, weight, False, filters)


@inlined
def _correlate_part(part, parts, cut, origin, x, filters, bias, shortcut, relu, out):
    """Compute the blocks of one of `parts` parts, each in cache from its pixels to its results."""
    (high, wide, images, rows), (N, OH, OW, K) = cut, out.shape
    C, (groups, _, each, width) = x.shape[3], filters.shape
    stacks = -(-high // rows)
    blocks, room, start = -(-N // images) * stacks, images * rows * wide, np.zeros(1, np.intp)
    stride, sum_stride = tile_stride(C, out), tile_stride(K, out)
    flat, flat_filters, pixels = out.reshape(-1), filters.reshape(-1), x.reshape(-1)
    plane, product = plane_stride(room, stride, out), plane_stride(room, sum_stride, out)
    across, others = OUT * wide + IN - OUT, shortcut.reshape(-1)
    band = scratch((rows * OUT + IN - OUT) * across * C, out)
    half = scratch(IN * across * C, out)
    points, sums = scratch(POINTS * plane, out), scratch(POINTS * product, out)
    for block in range(part * blocks // parts, (part + 1) * blocks // parts):
        first, top = block // stacks * images, block % stacks * rows
        strips = min(rows, high - top)
        at = 0
        for n in range(first, min(N, first + images)):
            at = transform_images(x, n, top, strips, wide, origin, band, half, points, at, plane)
        later = block_span(block + 1, high, images, rows, x)
        now = block_span(block, high, images, rows, out)
        for i in range(POINTS * groups):
            prefetch_read_slice(pixels, *later, i, POINTS * groups)
            prefetch_write_slice(flat, *now, i, POINTS * groups)
            if shortcut.size:
                prefetch_read_slice(others, *now, i, POINTS * groups)
            point, g = i // groups, i % groups
            a, c = point * plane + g * each, point * product + g * width
            b, tiles = (g * POINTS + point) * each * width, at // stride
            right = flat_filters, b, each, width
            multiply_tiles(start, points, a, stride, tiles, *right, sums, c, sum_stride, False)
        at = 0
        for n in range(first, min(N, first + images)):
            for strip in range(top, top + strips):
                left, to = OH - strip * OUT, (n * OH + strip * OUT) * OW * K
                source = sums, at, sum_stride, product
                transform_outputs(*source, K, wide, left, OW, flat, to, K, OW * K)
                if len(bias) or shortcut.size or relu:
                    end = bias, others, relu
                    apply_epilogue(flat, to, K, K, min(OUT, left) * OW, 0, *end, flat, to, K)
                at += wide * sum_stride


@device_function
def _parts_of(cut, N):
    """Return the number of parts into which the blocks are split."""
    high, _, images, rows = cut
    return min(MAX_PARTS, -(-N // images) * -(-high // rows))


@kernel
def _correlate(filters, bias, origin, cut, x, shortcut, relu, out):
    parts = _parts_of(cut, len(out))
    for part in prange(parts):
        _correlate_part(part, parts, cut, origin, x, filters, bias, shortcut, relu, out)


@kernel
def _convolve(weight, filters, cut, rotated, bias, origin, x, plus, out):
    """Transform the filters and compute out."""
    for task in prange(panel_tasks(filters)):
        transform_panels(task, weight, rotated, filters)
    parts = _parts_of(cut, len(out))
    for part in prange(parts):
        _correlate_part(part, parts, cut, origin, x, filters, bias, plus, False, out)

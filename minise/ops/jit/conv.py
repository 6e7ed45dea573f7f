"""Convolution, compiled: no window is ever copied; register tiles read a padded image in place.

The formulas are in minise/ops/reference/conv.py; this file changes only the order of the work.

A block of rows of an image, padded with zeros, lies in cache as one long row of pixels of C numbers
each (packing.py). From an output pixel to the next one, everything that its window sees moves on by
one pixel; and so it does at the end of a row, if the few places between the last window of a row
and the first of the next are computed too and thrown away. So all windows see, relative to their
own place, the same `runs` of numbers, and a convolution is a matrix product without a copy

    out (places, K) = image (places, runs * count)  @  weight (runs * count, K)

whose left factor overlaps itself in memory. It is made of register tiles (simd.py). With a stride,
the image is packed as one plane for each remainder of row and column, and again all windows of a
plane move on by one. Where filters are no whole vectors, they are filled up with zeros.

The same product serves all three passes:

    forward   place p of out sees row p * stride + i * dilation - padding of x, for tap i
    dx        pixel h of x was seen by row (h + padding - i * dilation) / stride of dout, where
              that is a whole number: for the pixels h = r, r + stride, … it is so for the same
              taps i, so each remainder r is a product of its own, with few taps and no zeros
    dweight   (runs * count, K) = image.T @ dout, added up over the places; dout has zeros at those
              places that are thrown away

Every number has one owner. A block of out or dx is one iteration of a parallel loop. The blocks of
a batch are cut into at most PARTS parts, by shapes alone, each part adds up a dweight of its own,
and those are added in order: the bits do not depend on the number of threads.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import prange

from minise.ops.checks import (
    Array,
    Pair,
    check_arrays,
    check_divisor,
    check_gradient,
    check_integer,
    check_pair,
    check_window,
)
from minise.ops.jit import winograd
from minise.ops.jit.algorithm import algorithm_of
from minise.ops.jit.compile import kernel, part
from minise.ops.jit.layout import frozen, pixels_of
from minise.ops.jit.memory import empty
from minise.ops.jit.packing import copy_pixels, pack, room_of
from minise.ops.jit.simd import lanes_of
from minise.ops.jit.tile import ROWS, tile, zero
from minise.ops.reference.conv import SHAPES, Conv2dCache
from minise.ops.reference.windows import windows_of

BLOCK = 128 * 1024  # bytes of packed image that a block may have
PARTS = 16  # of a batch, at most
NEAR = 256  # places whose numbers stay in the first-level cache, for dweight


class View(NamedTuple):
    """What each place of a grid sees of an image, and where its result stands."""

    taps: Array  # (taps, 2)  row and column, seen from place (0, 0)
    step: Pair  # of the image, from place to place
    grid: Pair  # places
    first: Pair  # of the results
    apart: Pair  # results


class Packing(NamedTuple):
    """How a block of an image is packed, and where taps lie in it."""

    planes: Array  # (planes, 2)  row and column of the image that stands first in each
    high: int  # rows that a plane has beyond those of the block's places
    wide: int  # places in a row, with those that are thrown away
    taps: Array  # (taps, 3)  plane, row, column, seen from place (0, 0)
    merged: int  # taps in a row that are neighbours in memory, and so one run


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> tuple[Array, Conv2dCache]:
    """See minise.ops.reference.conv2d_forward; out is channels-last in memory."""
    check_pair("conv2d", "stride", stride, 1)
    check_pair("conv2d", "padding", padding, 0)
    check_pair("conv2d", "dilation", dilation, 1)
    check_integer("conv2d", "groups", groups, 1)
    check_arrays("conv2d", SHAPES["conv2d"], x, weight, bias, groups=groups)
    check_divisor("conv2d", "groups", groups, "K", len(weight))
    span = [d * (size - 1) + 1 for d, size in zip(dilation, weight.shape[2:], strict=True)]
    check_window("conv2d", x.shape[2:], padding, (span[0], span[1]))
    cache = Conv2dCache(x, weight, bias, stride, padding, dilation, groups)
    view = _windows(cache)
    out = empty((len(x), *view.grid, len(weight)), x.dtype)
    if algorithm_of(weight, stride, padding, dilation, groups) == "winograd":
        winograd.correlate(pixels_of(x), weight, bias, padding, turned=False, out=out)
        return out.transpose(0, 3, 1, 2), cache
    filters = _cut(weight, groups).transpose(0, 3, 2, 1)  # (groups, taps, C, K)
    _correlate(pixels_of(x), view, filters, bias, out)
    return out.transpose(0, 3, 1, 2), cache


def conv2d_backward(dout: Array, cache: Conv2dCache) -> tuple[Array | None, ...]:
    """See minise.ops.reference.conv2d_backward; dx is channels-last in memory."""
    x, weight, bias, stride, padding, dilation, groups, _ = cache
    view = _windows(cache)
    check_gradient("conv2d", dout, x, (len(x), len(weight), *view.grid))
    dpixels = pixels_of(dout)
    dbias = None if bias is None else _sum_of_pixels(dpixels)
    dx = empty((len(x), *x.shape[2:], x.shape[1]), x.dtype)
    if algorithm_of(weight, stride, padding, dilation, groups) == "winograd":
        outside = 2 - padding[0], 2 - padding[1]
        winograd.correlate(dpixels, weight, None, outside, turned=True, out=dx)
        dweight = winograd.weight_gradient(pixels_of(x), dpixels, padding)
        return dx.transpose(0, 3, 1, 2), dweight, dbias
    filters = _cut(weight, groups).transpose(0, 3, 1, 2)  # (groups, taps, K, C)
    for source, kept in _sources(cache):
        _correlate(dpixels, source, filters[:, kept], None, dx)
    dfilters = _weight_gradient(pixels_of(x), dpixels, view, groups)
    dweight = np.ascontiguousarray(dfilters.transpose(0, 3, 2, 1)).reshape(weight.shape)
    return dx.transpose(0, 3, 1, 2), dweight, dbias


def _cut(weight: Array, groups: int) -> Array:
    """Return (K, C // groups, KH, KW) as (groups, K // groups, C // groups, taps)."""
    K, C, KH, KW = weight.shape
    return weight.reshape(groups, K // groups, C, KH * KW)


def _windows(cache: Conv2dCache) -> View:
    """Return what the windows of forward see of x."""
    H, W = cache.x.shape[2:]
    KH, KW = cache.weight.shape[2:]
    where = windows_of((H, W), (KH, KW), cache.stride, cache.padding, cache.dilation)
    (top, left), (down, right) = cache.padding, cache.dilation
    taps = [(i * down - top, j * right - left) for i, j in where.offsets()]
    return View(np.array(taps, np.intp), cache.stride, where.outputs, (0, 0), (1, 1))


def _sources(cache: Conv2dCache) -> Iterator[tuple[View, list[int]]]:
    """Yield what pixels of x get from dout, one remainder of the stride after the other.

    With it come the taps by which they were seen.
    """
    size, kernel = cache.x.shape[2:], cache.weight.shape[2:]
    for rest in np.ndindex(*cache.stride):
        rows, columns = (_seen_by(cache, axis, rest[axis], kernel[axis]) for axis in (0, 1))
        kept = [i * kernel[1] + j for i, _ in rows for j, _ in columns]
        taps = [(row, column) for _, row in rows for _, column in columns]
        grid = [len(range(r, n, s)) for r, n, s in zip(rest, size, cache.stride, strict=True)]
        if min(grid):
            places = np.array(taps, np.intp).reshape(-1, 2)
            first = (rest[0], rest[1])
            yield View(places, (1, 1), (grid[0], grid[1]), first, cache.stride), kept


def _seen_by(cache: Conv2dCache, axis: int, rest: int, taps: int) -> list[Pair]:
    """Return, for the pixel at rest, every tap that saw it, and from which place of out."""
    stride, padding, dilation = cache.stride[axis], cache.padding[axis], cache.dilation[axis]
    places = [(i, rest + padding - i * dilation) for i in range(taps)]
    return [(i, place // stride) for i, place in places if place % stride == 0]


def _packing(view: View) -> Packing:
    """Return how an image is to be packed for a view of it."""
    if not len(view.taps):  # pixels that no window saw
        return Packing(view.taps, 0, view.grid[1], np.zeros((0, 3), np.intp), 1)
    least = view.taps.min(axis=0)
    inside, rest = np.divmod(view.taps - least, view.step)
    remainders, plane = np.unique(rest, axis=0, return_inverse=True)
    taps = np.column_stack([plane.ravel(), inside])
    high, beyond = (int(size) for size in inside.max(axis=0))
    steps = np.diff(taps, axis=0)
    in_a_row = beyond + 1  # as many taps in a row as neighbours, in every row of the kernel
    neighbours = len(taps) % in_a_row == 0 and (
        (steps.reshape(-1, 3)[np.arange(1, len(taps)) % in_a_row != 0] == (0, 0, 1)).all()
    )
    merged = in_a_row if neighbours else 1
    return Packing(remainders + least, high, view.grid[1] + beyond, taps, merged)


def _correlate(source: Array, view: View, filters: Array, bias: Array | None, out: Array) -> None:
    """Fill out (N, OH, OW, K) at the places of a view with their products.

    filters is (groups, taps, C // groups, K // groups).
    """
    groups, taps, C, K = filters.shape
    lanes, packing = lanes_of(out.dtype), _packing(view)
    weight = np.zeros((groups, taps * C, -(-K // lanes) * lanes), out.dtype)
    weight[:, :, :K] = filters.reshape(groups, taps * C, K)
    added = np.zeros(0, out.dtype) if bias is None else bias
    rows = _rows_of_block(len(out), view.grid, packing, C * out.itemsize)
    runs, count = _runs(packing, rows, C)
    where = view.step, view.grid, view.first, view.apart
    _products(
        source,
        packing.planes,
        packing.high,
        packing.wide,
        *where,
        runs,
        count,
        frozen(weight),
        frozen(added),
        rows,
        lanes,
        out,
    )


def _rows_of_block(N: int, grid: Pair, packing: Packing, pixel_bytes: int) -> int:
    """Return how many rows of places a block has: what fits, but of few images fewer."""
    row_bytes = max(1, len(packing.planes)) * packing.wide * pixel_bytes
    fits = BLOCK // row_bytes - packing.high
    spread = -(-grid[0] * N // PARTS)  # so that one image, too, makes enough blocks
    return int(max(1, min(grid[0], fits, max(spread, ROWS // packing.wide))))


def _runs(packing: Packing, rows: int, C: int) -> tuple[Array, int]:
    """Return where each run of numbers begins, seen from a place, and how long they are."""
    plane, row, column = packing.taps[:: packing.merged].T
    places = (plane * (rows + packing.high) + row) * packing.wide + column
    return frozen(np.asarray(places * C, np.intp)), packing.merged * C


@kernel
def _products(
    source,
    planes,
    high,
    wide,
    step,
    grid,
    first,
    apart,
    runs,
    count,
    weight,
    bias,
    rows,
    lanes,
    out,
):
    """Pack and multiply, a block of rows of one image at a time."""
    groups, T, width = weight.shape
    C, K = source.shape[3] // groups, out.shape[3] // groups
    blocks = -(-grid[0] // rows)
    flat_weight, flat_out = weight.reshape(-1), out.reshape(-1)
    room = -(-rows * wide // ROWS) * ROWS * width
    for block in prange(len(source) * blocks):
        n, top = block // blocks, block % blocks * rows
        bottom = min(top + rows, grid[0])
        image = np.empty(room_of(len(planes), rows + high, wide, C), out.dtype)
        sums = np.empty(room, out.dtype)
        for g in range(groups):
            pack(source, n, g * C, C, planes, step, top, rows + high, wide, image)
            zero(sums, 0, room)
            for k in range(0, width, lanes):
                for m in range(0, (bottom - top) * wide, ROWS):
                    b, c = g * T * width + k, m * width + k
                    tile(image, m * C, C, 1, runs, count, flat_weight, b, width, sums, c, width)
            for p in range(top, bottom):
                row = (n * out.shape[1] + first[0] + p * apart[0]) * out.shape[2] + first[1]
                at = (p - top) * wide * width
                to = row * out.shape[3] + g * K
                copy_pixels(sums, at, width, K, grid[1], flat_out, to, apart[1] * out.shape[3])
                if len(bias):
                    _add_bias(bias, g * K, K, grid[1], flat_out, to, apart[1] * out.shape[3])


@part
def _add_bias(bias, first, count, pixels, target, to, target_apart):
    for _ in range(pixels):
        for i in range(count):
            target[to + i] += bias[first + i]
        to += target_apart


def _weight_gradient(x: Array, dout: Array, view: View, groups: int) -> Array:
    """Return dfilters (groups, taps, C // groups, K // groups)."""
    C, K, taps = x.shape[3] // groups, dout.shape[3] // groups, len(view.taps)
    lanes, packing = lanes_of(x.dtype), _packing(view)
    rows = _rows_of_block(len(x), view.grid, packing, C * x.itemsize)
    runs, count = _runs(packing, rows, C)
    shape = groups, len(runs), -(-count // ROWS) * ROWS, -(-K // lanes) * lanes
    parts = np.zeros((min(PARTS, len(x) * -(-view.grid[0] // rows)), *shape), x.dtype)
    how = packing.planes, packing.high, packing.wide, view.step
    _outer_products(x, dout, *how, runs, rows, lanes, parts)
    total = _sum_of_parts(parts)
    return total[:, :, :count, :K].reshape(groups, taps, C, K)


@kernel
def _outer_products(x, dout, planes, high, wide, step, runs, rows, lanes, parts):
    """Add up image.T @ dout over the blocks of each part."""
    OH, OW = dout.shape[1:3]
    _, groups, _, T, width = parts.shape
    C, K = x.shape[3] // groups, dout.shape[3] // groups
    blocks = -(-OH // rows)
    all_blocks = len(x) * blocks
    start, pixels = np.zeros(1, np.intp), dout.reshape(-1)
    for one in prange(len(parts)):
        image = np.empty(room_of(len(planes), rows + high, wide, C), x.dtype)
        douts = np.zeros(rows * wide * width, x.dtype)
        sums = parts[one].reshape(-1)
        for block in range(one * all_blocks // len(parts), (one + 1) * all_blocks // len(parts)):
            n, top = block // blocks, block % blocks * rows
            bottom = min(top + rows, OH)
            places = (bottom - top) * wide
            for g in range(groups):
                pack(x, n, g * C, C, planes, step, top, rows + high, wide, image)
                for p in range(top, bottom):
                    pixel, to = (
                        ((n * OH + p) * OW) * dout.shape[3] + g * K,
                        (p - top) * wide * width,
                    )
                    copy_pixels(pixels, pixel, dout.shape[3], K, OW, douts, to, width)
                for near in range(0, places, NEAR):
                    steps = min(NEAR, places - near)
                    for r in range(len(runs)):
                        for t in range(0, T, ROWS):
                            a = runs[r] + t + near * C
                            for k in range(0, width, lanes):
                                b = near * width + k
                                c = ((g * len(runs) + r) * T + t) * width + k
                                tile(image, a, 1, C, start, steps, douts, b, width, sums, c, width)


@kernel
def _sum_of_parts(parts):
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


@kernel
def _sum_of_pixels(pixels):
    """Add up (N, H, W, C) over all but the channels, in parts that are added in order."""
    N, H, W, C = pixels.shape
    parts = min(N, PARTS)
    sums = np.zeros((parts, C))
    for one in prange(parts):
        for n in range(one * N // parts, (one + 1) * N // parts):
            for i in range(H):
                for j in range(W):
                    for c in range(C):
                        sums[one, c] += pixels[n, i, j, c]
    total = np.empty(C, pixels.dtype)
    for c in range(C):
        channel = 0.0
        for one in range(parts):
            channel += sums[one, c]
        total[c] = channel
    return total

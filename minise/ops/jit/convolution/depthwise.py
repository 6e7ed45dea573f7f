"""The depthwise convolution: one filter per channel, so products of vectors are elementwise.

Tap by tap, a vector of channels is multiplied by a vector of weights. The vectors of channels are
packed one after another, like the groups in direct.py, so that a block of an image fits into the L1
cache; geometry.py describes which pixels a window sees. Each weight is loaded once for
POSITIONS_PER_STEP positions, each of which has its sum in a register.
"""

from functools import partial

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function, kernel
from minise.ops.jit.convolution.direct import sum_of_parts
from minise.ops.jit.convolution.epilogue import Correlation, apply_epilogue
from minise.ops.jit.convolution.geometry import MAX_PARTS, View, rows_per_block, runs_of
from minise.ops.jit.convolution.packing import copy_pixels, pack, packed_size
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import filled, fma, lanes_of, load, store
from minise.ops.jit.vector.tile import zero

POSITIONS_PER_STEP = 4


def depthwise_applies(weight: Array, groups: int) -> bool:
    """Return True if each channel has exactly one filter, and the channels fill vectors."""
    one_each = groups == weight.shape[0] and weight.shape[1] == 1
    return one_each and groups % lanes_of(weight.dtype) == 0


def correlation(view: View, filters: Array, bias: Array, shape: tuple[int, ...]) -> Correlation:
    """Return a function that fills out, of shape (N, OH, OW, C), at the positions of a view.

    filters is (taps, C).
    """
    rows, taps = _blocks(view, shape[0], filters)
    packing = view.planes, view.halo_rows, view.wide, *view.placement
    return partial(_correlate, packing, taps, rows, filters, bias)


def weight_gradient(x: Array, dout: Array, view: View) -> Array:
    """Return the gradient of the filters, (taps, C)."""
    rows, taps = _blocks(view, len(x), x)
    part_count = min(MAX_PARTS, len(x) * -(-view.grid[0] // rows))
    parts = np.zeros((part_count, len(taps), x.shape[3]), x.dtype)
    _products(x, dout, view.planes, view.halo_rows, view.wide, view.step, taps, rows, parts)
    return np.asarray(sum_of_parts(parts))


def _blocks(view: View, N: int, array: Array) -> tuple[int, Array]:
    """Return the rows of positions per block, and the offset of each tap from a position."""
    lanes = lanes_of(array.dtype)
    rows = rows_per_block(N, view, lanes * array.itemsize)
    runs, count = runs_of(view, rows, lanes)
    return rows, frozen((runs[:, None] + np.arange(0, count, lanes)).reshape(-1))


@kernel
def _correlate(packing, taps, rows, filters, bias, source, shortcut, relu, out):
    """Fill out: pack and multiply one vector of channels of one block of rows at a time."""
    planes, halo_rows, wide, step, grid, first, spacing = packing
    _, H, W, C = out.shape
    blocks, lanes, right = -(-grid[0] // rows), lanes_of(out.dtype), spacing[1] * C
    weights, flat = filters.reshape(-1), out.reshape(-1)
    end = bias, shortcut.reshape(-1), relu
    for block in prange(len(source) * blocks):
        n, top = block // blocks, block % blocks * rows
        image = np.empty(packed_size(len(planes), rows + halo_rows, wide, lanes), out.dtype)
        for c in range(0, C, lanes):
            pack(source, n, c, lanes, planes, step, top, rows + halo_rows, wide, image)
            for p in range(top, min(top + rows, grid[0])):
                at = (p - top) * wide * lanes
                to = ((n * H + first[0] + p * spacing[0]) * W + first[1]) * C + c
                row = to
                for _ in range(grid[1] // POSITIONS_PER_STEP):
                    _correlate_four(image, at, taps, weights, c, C, flat, to, right)
                    at += POSITIONS_PER_STEP * lanes
                    to += POSITIONS_PER_STEP * right
                for _ in range(grid[1] % POSITIONS_PER_STEP):
                    total = filled(0.0, image)
                    for t in range(len(taps)):
                        total = fma(load(image, at + taps[t]), load(weights, t * C + c), total)
                    store(total, flat, to)
                    at += lanes
                    to += right
                if len(bias) or shortcut.size or relu:
                    apply_epilogue(flat, row, right, lanes, grid[1], c, *end, flat, row, right)


@device_function
def _correlate_four(image, at, taps, weights, c, C, out, to, right):
    """Compute one vector of channels at four adjacent positions."""
    lanes = lanes_of(image.dtype)
    s0 = s1 = s2 = s3 = filled(0.0, image)
    for t in range(len(taps)):
        weight, p = load(weights, t * C + c), at + taps[t]
        s0, s1 = fma(load(image, p), weight, s0), fma(load(image, p + lanes), weight, s1)
        s2 = fma(load(image, p + 2 * lanes), weight, s2)
        s3 = fma(load(image, p + 3 * lanes), weight, s3)
    store(s0, out, to)
    store(s1, out, to + right)
    store(s2, out, to + 2 * right)
    store(s3, out, to + 3 * right)


@kernel
def _products(x, dout, planes, halo_rows, wide, step, taps, rows, parts):
    """Set each part to the sum of image * dout over its blocks, tap by tap."""
    _, OH, OW, C = dout.shape
    blocks, lanes, pixels = -(-OH // rows), lanes_of(x.dtype), dout.reshape(-1)
    all_blocks = len(x) * blocks
    for part in prange(len(parts)):
        image = np.empty(packed_size(len(planes), rows + halo_rows, wide, lanes), x.dtype)
        douts = np.empty(
            -(-rows * wide // POSITIONS_PER_STEP) * POSITIONS_PER_STEP * lanes, x.dtype
        )
        zero(douts, 0, len(douts))  # the elements between the rows stay 0
        sums = parts[part].reshape(-1)
        for block in range(part * all_blocks // len(parts), (part + 1) * all_blocks // len(parts)):
            n, top = block // blocks, block % blocks * rows
            bottom = min(top + rows, OH)
            for c in range(0, C, lanes):
                pack(x, n, c, lanes, planes, step, top, rows + halo_rows, wide, image)
                for p in range(top, bottom):
                    at, to = (n * OH + p) * OW * C + c, (p - top) * wide * lanes
                    copy_pixels(pixels, at, C, lanes, OW, douts, to, lanes)
                end = (bottom - top) * wide * lanes
                zero(douts, end, len(douts) - end)
                for t in range(len(taps)):
                    _add_tap(image, taps[t], douts, end, sums, t * C + c)


@device_function
def _add_tap(image, at, douts, end, sums, to):
    """Add the products of one tap over all positions to a vector of sums."""
    lanes = lanes_of(image.dtype)
    s0 = load(sums, to)
    s1 = s2 = s3 = filled(0.0, sums)
    for m in range(0, end, POSITIONS_PER_STEP * lanes):
        p = at + m
        s0 = fma(load(image, p), load(douts, m), s0)
        s1 = fma(load(image, p + lanes), load(douts, m + lanes), s1)
        s2 = fma(load(image, p + 2 * lanes), load(douts, m + 2 * lanes), s2)
        s3 = fma(load(image, p + 3 * lanes), load(douts, m + 3 * lanes), s3)
    store((s0 + s1) + (s2 + s3), sums, to)

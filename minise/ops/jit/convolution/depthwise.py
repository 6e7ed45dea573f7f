"""The depthwise convolution: every channel has a filter of its own, so vectors need no product.

A vector of channels is multiplied by a vector of weights, tap by tap, number by number. One vector
of channels after the other is packed, as one group is in direct.py, so that a block of an image
lies in the first-level cache; geometry.py says what sees what. A weight is loaded once for QUAD
places, each of which has its sum in a register.
"""

from functools import partial

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel, part
from minise.ops.jit.convolution.direct import sum_of_parts
from minise.ops.jit.convolution.finish import Correlation, finish
from minise.ops.jit.convolution.geometry import PARTS, View, rows_of_block, runs_of
from minise.ops.jit.convolution.packing import copy_pixels, pack, room_of
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import filled, fma, lanes_of, load, store
from minise.ops.jit.vector.tile import zero

QUAD = 4


def depthwise_can(weight: Array, groups: int) -> bool:
    """Return whether each channel has one filter, and the channels are whole vectors."""
    one_each = groups == weight.shape[0] and weight.shape[1] == 1
    return one_each and groups % lanes_of(weight.dtype) == 0


def correlation(view: View, filters: Array, bias: Array, shape: tuple[int, ...]) -> Correlation:
    """Return a function that fills out, of a shape (N, OH, OW, C), at the places of a view.

    filters is (taps, C).
    """
    rows, taps = _blocks(view, shape[0], filters)
    packing = view.planes, view.high, view.wide, *view.where
    return partial(_correlate, packing, taps, rows, filters, bias)


def weight_gradient(x: Array, dout: Array, view: View) -> Array:
    """Return dfilters (taps, C)."""
    rows, taps = _blocks(view, len(x), x)
    how_many = min(PARTS, len(x) * -(-view.grid[0] // rows))
    parts = np.zeros((how_many, len(taps), x.shape[3]), x.dtype)
    _products(x, dout, view.planes, view.high, view.wide, view.step, taps, rows, parts)
    return np.asarray(sum_of_parts(parts))


def _blocks(view: View, N: int, array: Array) -> tuple[int, Array]:
    """Return how many rows of places a block has, and where in it a place sees its taps."""
    lanes = lanes_of(array.dtype)
    rows = rows_of_block(N, view, lanes * array.itemsize)
    runs, count = runs_of(view, rows, lanes)
    return rows, frozen((runs[:, None] + np.arange(0, count, lanes)).reshape(-1))


@kernel
def _correlate(packing, taps, rows, filters, bias, source, shortcut, relu, out):
    """Pack and multiply, a block of rows of one image, and of it a vector of channels at a time."""
    planes, high, wide, step, grid, first, apart = packing
    _, H, W, C = out.shape
    blocks, lanes, right = -(-grid[0] // rows), lanes_of(out.dtype), apart[1] * C
    weights, flat = filters.reshape(-1), out.reshape(-1)
    end = bias, shortcut.reshape(-1), relu
    for block in prange(len(source) * blocks):
        n, top = block // blocks, block % blocks * rows
        image = np.empty(room_of(len(planes), rows + high, wide, lanes), out.dtype)
        for c in range(0, C, lanes):
            pack(source, n, c, lanes, planes, step, top, rows + high, wide, image)
            for p in range(top, min(top + rows, grid[0])):
                at = (p - top) * wide * lanes
                to = ((n * H + first[0] + p * apart[0]) * W + first[1]) * C + c
                row = to
                for _ in range(grid[1] // QUAD):
                    _quad(image, at, taps, weights, c, C, flat, to, right)
                    at += QUAD * lanes
                    to += QUAD * right
                for _ in range(grid[1] % QUAD):
                    total = filled(0.0, image)
                    for t in range(len(taps)):
                        total = fma(load(image, at + taps[t]), load(weights, t * C + c), total)
                    store(total, flat, to)
                    at += lanes
                    to += right
                if len(bias) or shortcut.size or relu:
                    finish(flat, row, right, lanes, grid[1], c, *end, flat, row, right)


@part
def _quad(image, at, taps, weights, c, C, out, to, right):
    """Make a vector of channels of four neighbouring places."""
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
def _products(x, dout, planes, high, wide, step, taps, rows, parts):
    """Add up image * dout, tap by tap, over the blocks of each part."""
    _, OH, OW, C = dout.shape
    blocks, lanes, pixels = -(-OH // rows), lanes_of(x.dtype), dout.reshape(-1)
    all_blocks = len(x) * blocks
    for one in prange(len(parts)):
        image = np.empty(room_of(len(planes), rows + high, wide, lanes), x.dtype)
        douts = np.empty(-(-rows * wide // QUAD) * QUAD * lanes, x.dtype)
        zero(douts, 0, len(douts))  # between the rows it stays so
        sums = parts[one].reshape(-1)
        for block in range(one * all_blocks // len(parts), (one + 1) * all_blocks // len(parts)):
            n, top = block // blocks, block % blocks * rows
            bottom = min(top + rows, OH)
            for c in range(0, C, lanes):
                pack(x, n, c, lanes, planes, step, top, rows + high, wide, image)
                for p in range(top, bottom):
                    at, to = (n * OH + p) * OW * C + c, (p - top) * wide * lanes
                    copy_pixels(pixels, at, C, lanes, OW, douts, to, lanes)
                end = (bottom - top) * wide * lanes
                zero(douts, end, len(douts) - end)
                for t in range(len(taps)):
                    _add_tap(image, taps[t], douts, end, sums, t * C + c)


@part
def _add_tap(image, at, douts, end, sums, to):
    """Add the products of a tap over all places to a vector of sums."""
    lanes = lanes_of(image.dtype)
    s0 = load(sums, to)
    s1 = s2 = s3 = filled(0.0, sums)
    for m in range(0, end, QUAD * lanes):
        p = at + m
        s0 = fma(load(image, p), load(douts, m), s0)
        s1 = fma(load(image, p + lanes), load(douts, m + lanes), s1)
        s2 = fma(load(image, p + 2 * lanes), load(douts, m + 2 * lanes), s2)
        s3 = fma(load(image, p + 3 * lanes), load(douts, m + 3 * lanes), s3)
    store((s0 + s1) + (s2 + s3), sums, to)

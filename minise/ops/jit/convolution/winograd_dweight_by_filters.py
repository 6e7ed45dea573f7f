"""Winograd's gradient of the weight of few tiles with many filters: the sums stay in cache.

In winograd_dweight.py each part of the batch adds to sums (36, C, K) in memory. With few tiles,
that takes longer than the products: half of the time at 128 channels, 28 x 28, batch 4. Here the
points of all tiles of x and dout are stored, as in winograd_by_filters.py, and the sums are split:
each task multiplies one run of channels by one run of filters, over all tiles, and transforms the
sums back while they are in the L2 cache. There are no parts to add, and each sum is one sum over
the tiles, in order, for any number of threads.
"""

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import device_function, inlined, kernel
from minise.ops.jit.convolution.blocks import Blocks, padded_origin, plane_stride, scratch
from minise.ops.jit.convolution.transforms import POINTS, TAP, transform_dweights
from minise.ops.jit.convolution.winograd_filters import CHANNELS_PER_RUN, TAPS
from minise.ops.jit.convolution.winograd_runs import (
    run_tasks,
    shape_of_points,
    transform_run,
)
from minise.ops.jit.vector.memory import empty
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, set_tile


def weight_gradient_by_filters(
    x: Array, dout: Array, padding: Pair, groups: int, blocks: Blocks
) -> Array:
    """Return dweight (K, C // groups, 3, 3) from x (N, H, W, C) and dout (N, OH, OW, K)."""
    C, K = x.shape[3] // groups, dout.shape[3] // groups
    tiles = len(x) * blocks.high * blocks.wide
    points, dpoints = (
        empty(shape_of_points(tiles, images.shape[3], groups, x.dtype), x.dtype)
        for images in (x, dout)
    )
    dweight = empty((groups, K, C, TAP, TAP), x.dtype)
    origins = padded_origin(padding), padded_origin((0, 0))
    _weight_gradient_by_filters(x, dout, *origins, tuple(blocks), points, dpoints, dweight)
    return dweight.reshape(groups * K, C, TAP, TAP)


@kernel
def _weight_gradient_by_filters(x, dout, origin, unpadded, cut, points, dpoints, dweight):
    """Transform all tiles, and compute dweight run by run."""
    groups, K, C = dweight.shape[:3]
    for task in prange(run_tasks(x, groups, cut)):
        transform_run(task, x, groups, cut, origin, False, points)
    for task in prange(run_tasks(dout, groups, cut)):
        transform_run(task, dout, groups, cut, unpadded, True, dpoints)
    tasks = groups * -(-K // CHANNELS_PER_RUN) * -(-C // CHANNELS_PER_RUN)
    for task in prange(tasks):
        _multiply_runs(task, len(x) * cut[0] * cut[1], points, dpoints, dweight)


@inlined
def _multiply_runs(task, tiles, points, dpoints, dweight):
    """Compute dweight of one run of channels and one run of filters."""
    _, K, C = dweight.shape[:3]
    lanes, start = lanes_of(dweight.dtype), np.zeros(1, np.intp)
    runs, druns = -(-C // CHANNELS_PER_RUN), -(-K // CHANNELS_PER_RUN)
    group, drun, run = task // (runs * druns), task // runs % druns, task % runs
    c, k = run * CHANNELS_PER_RUN, drun * CHANNELS_PER_RUN
    count, width = min(CHANNELS_PER_RUN, C - c), min(CHANNELS_PER_RUN, K - k)
    plane, flat, dflat = points.shape[2], points.reshape(-1), dpoints.reshape(-1)
    product = plane_stride(CHANNELS_PER_RUN, width, dweight)
    sums = scratch(POINTS * product, dweight)
    a, b = (group * runs + run) * POINTS * plane, (group * druns + drun) * POINTS * plane
    for point in range(POINTS):
        for i in range(0, count, ROWS):
            left = flat, a + point * plane + i, 1, CHANNELS_PER_RUN, start, tiles
            for j in range(0, width, 2 * lanes):
                at, vectors = b + point * plane + j, min(2, (width - j) // lanes)
                right = dflat, at, CHANNELS_PER_RUN, lanes, vectors
                set_tile(*left, *right, sums, point * product + i * width + j, width)
    taps = scratch(TAPS * count * width, dweight)
    transform_dweights(sums, count * width, product, taps)
    _store_dweight(taps, count, width, dweight, (group * K + k) * C + c)


@device_function
def _store_dweight(taps, count, width, dweight, to):
    """Move taps (9, channels, filters) to dweight, from filter and channel `to` on."""
    weights, C = dweight.reshape(-1), dweight.shape[2]
    for k in range(width):
        at = (to + k * C) * TAPS
        for c in range(count):
            for tap in range(TAPS):
                weights[at + tap] = taps[(tap * count + c) * width + k]
            at += TAPS

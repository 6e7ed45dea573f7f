"""Winograd's convolution of few tiles with many filters: each filter is transformed once, in cache.

In winograd.py the transformed filters, four times as large as the weights, are written to memory
and read by every block of tiles. With few tiles, that takes longer than the products: 37.7 MB at
512 channels, for 16 tiles in a batch of four images of 7 x 7. Here it is the points of the tiles
that are stored (they are fewer: see `filters_outnumber_tiles`), and the filters that are split:

    1  each row of tiles is transformed to points (36, tiles, C)
    2  each task has a few panels of filters. For one run of channels after another, it transforms
       their weights and adds the products with all tiles to its sums (36, tiles, filters); then it
       transforms the sums back. Weights, panels and sums stay in its L2 cache.

So weights are read once, and the points once per task. Each sum adds the same products in the same
order as in winograd.py, one channel after another, so the results are bit-identical to those.
"""

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import device_function, inlined, kernel
from minise.ops.jit.convolution.blocks import (
    Blocks,
    padded_origin,
    plane_stride,
    scratch,
    tile_stride,
)
from minise.ops.jit.convolution.epilogue import apply_epilogue
from minise.ops.jit.convolution.transforms import (
    OUT,
    POINTS,
    transform_outputs,
)
from minise.ops.jit.convolution.winograd_filters import (
    CHANNELS_PER_RUN,
    multiply_tiles,
    transform_panel,
)
from minise.ops.jit.convolution.winograd_runs import (
    run_tasks,
    shape_of_points,
    transform_run,
)
from minise.ops.jit.vector.memory import empty
from minise.ops.jit.vector.simd import lanes_of

SCRATCH_BYTES = 256 << 10  # of the sums and panels of a task: half of a small L2 cache
MIN_TASKS = 8  # if there are enough panels


@device_function
def _panels_per_task(tiles, K, like):
    """Return the number of panels of a task: their sums and filters fit into SCRATCH_BYTES."""
    wide = 2 * lanes_of(like.dtype)
    fit = SCRATCH_BYTES // (POINTS * (tiles + CHANNELS_PER_RUN) * wide * like.itemsize)
    return max(1, min(fit, -(-K // wide) // MIN_TASKS))


@inlined
def _correlate_task(task, tasks, cut, weight, rotated, points, C, bias, shortcut, relu, out):
    """Compute some filters of a group: `tasks` tasks per group."""
    (high, wide, _, _), (N, OH, OW, channels) = cut, out.shape
    groups, tiles, lanes = len(weight), N * high * wide, lanes_of(out.dtype)
    K, group = channels // groups, task // tasks
    panels = -(-K // (2 * lanes))
    first = task % tasks * panels // tasks * 2 * lanes
    width = min(K, (task % tasks + 1) * panels // tasks * 2 * lanes) - first
    plane, sum_stride, flat_points = points.shape[2], tile_stride(width, out), points.reshape(-1)
    product, runs = plane_stride(tiles, sum_stride, out), -(-C // CHANNELS_PER_RUN)
    each = plane_stride(CHANNELS_PER_RUN, width, out)
    filters, sums = scratch(POINTS * each, out), scratch(POINTS * product, out)
    flat, others, start = out.reshape(-1), shortcut.reshape(-1), np.zeros(1, np.intp)
    for c in range(0, C, CHANNELS_PER_RUN):
        count, run = min(CHANNELS_PER_RUN, C - c), group * runs + c // CHANNELS_PER_RUN
        for k in range(0, width, 2 * lanes):
            size = min(2 * lanes, width - k)
            left = weight, group, c, count, first + k, size
            transform_panel(*left, rotated, filters, k * count, each)
        for point in range(POINTS):
            at = (run * POINTS + point) * plane
            right = filters, point * each, count, width, sums, point * product, sum_stride
            multiply_tiles(start, flat_points, at, CHANNELS_PER_RUN, tiles, *right, c > 0)
    k = group * K + first
    for strip in range(N * high):
        n, top = strip // high, strip % high * OUT
        to, at = ((n * OH + top) * OW) * channels + k, strip * wide * sum_stride
        source = sums, at, sum_stride, product
        transform_outputs(*source, width, wide, OH - top, OW, flat, to, channels, OW * channels)
        if len(bias) or shortcut.size or relu:
            end, pixels = (bias, others, relu), min(OUT, OH - top) * OW
            apply_epilogue(flat, to, channels, width, pixels, k, *end, flat, to, channels)


@kernel
def _convolve_by_filters(weight, rotated, points, cut, bias, origin, x, shortcut, relu, out):
    """Transform the tiles of x, and compute out filter by filter."""
    groups, C, K = len(weight), x.shape[3] // len(weight), out.shape[3] // len(weight)
    for task in prange(run_tasks(x, groups, cut)):
        transform_run(task, x, groups, cut, origin, False, points)
    wide = 2 * lanes_of(x.dtype)
    tasks = -(-K // wide) // _panels_per_task(len(x) * cut[0] * cut[1], K, x)
    for task in prange(groups * tasks):
        _correlate_task(task, tasks, cut, weight, rotated, points, C, bias, shortcut, relu, out)


def convolve_by_filters(
    weight: Array,
    rotated: bool,
    bias: Array,
    padding: Pair,
    blocks: Blocks,
    x: Array,
    shortcut: Array,
    relu: bool,
    out: Array,
) -> None:
    """Fill out (N, OH, OW, K) from x (N, H, W, C) and weight (groups, K, C, 3, 3).

    With `rotated`, weight is (groups, C, K, 3, 3), and the filters are those of dx. bias and
    shortcut may be empty.
    """
    tiles = len(x) * blocks.high * blocks.wide
    points = empty(shape_of_points(tiles, x.shape[3], len(weight), x.dtype), x.dtype)
    cut = tuple(blocks), bias, padded_origin(padding)
    _convolve_by_filters(weight, rotated, points, *cut, x, shortcut, relu, out)

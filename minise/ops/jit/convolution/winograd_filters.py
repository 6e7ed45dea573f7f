"""The filters of Winograd's convolution: transform weights to panels, and multiply tiles by them.

A panel holds two vectors of filters at one point, for some channels: (channels, 2 * lanes), the
right factor of a register tile (vector/tile.py). It is contiguous, so that hardware prefetches it,
and its channels do not compete for the same cache sets, as rows of K filters would. The filters of
a group are the panels (36 points, K / (2 lanes), C, 2 lanes); the last panel of a point has one
vector if K / lanes is odd.

Weights (K, C, 3, 3) are read in runs of up to CHANNELS_PER_RUN * 9 adjacent elements, moved to taps
(9, channels, filters) in the L1 cache, and transformed as vectors of filters.
"""

import numpy as np

from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.convolution.transforms import POINTS, TAP, transform_weights
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, add_tile, set_tile

CHANNELS_PER_RUN = 32  # their taps fill half of an L1 cache of 32 kB, with 8 lanes
TAPS = TAP * TAP


@device_function
def transform_panel(weight, group, channel, count, k, width, rotated, panels, to, plane):
    """Transform the weights of `count` channels and `width` filters from k on to a panel.

    weight is (groups, K, C, 3, 3), or with `rotated` (groups, C, K, 3, 3): the filters of dx are
    rotated by 180 degrees, and C counts the channels of dout. Results are stored in
    panels[point * plane + to + channel * width + filter].
    """
    _, rows, columns, _, _ = weight.shape
    weights, last = weight.reshape(-1), TAPS - 1
    row, column = (channel, k) if rotated else (k, channel)
    row_count, column_count = (count, width) if rotated else (width, count)
    row_step, column_step = (width, 1) if rotated else (1, width)
    taps = np.empty(TAPS * CHANNELS_PER_RUN * width, panels.dtype)
    for r in range(row_count):
        at = ((group * rows + row + r) * columns + column) * TAPS
        for c in range(column_count):
            beside = r * row_step + c * column_step
            for tap in range(TAPS):
                turned = last - tap if rotated else tap
                taps[turned * count * width + beside] = weights[at + tap]
            at += TAPS
    transform_weights(taps, count * width, panels, to, plane)


@device_function
def transform_panels(task, weight, rotated, filters):
    """Transform a task of filters (groups, 36, C, K): a run of channels of one panel, all points.

    There are `panel_tasks(filters)` tasks.
    """
    _, _, C, K = filters.shape
    wide, runs = 2 * lanes_of(filters.dtype), -(-C // CHANNELS_PER_RUN)
    run, panel, group = task % runs, task // runs % -(-K // wide), task // runs // -(-K // wide)
    channel, k = run * CHANNELS_PER_RUN, panel * wide
    count, width = min(CHANNELS_PER_RUN, C - channel), min(wide, K - k)
    to = group * POINTS * C * K + k * C + channel * width
    flat = filters.reshape(-1)
    transform_panel(weight, group, channel, count, k, width, rotated, flat, to, C * K)


@device_function
def panel_tasks(filters):
    """Return the number of tasks of `transform_panels`."""
    groups, _, C, K = filters.shape
    return groups * -(-K // (2 * lanes_of(filters.dtype))) * -(-C // CHANNELS_PER_RUN)


@device_function
def multiply_tiles(start, points, at, stride, tiles, panels, b, C, K, sums, to, sum_stride, adds):
    """Set the sums of one point, or with `adds` add to them: points (tiles, C) @ panels (C, K).

    at, b and to are the indices of the first elements, stride and sum_stride the distances from
    tile to tile; start is [0]. A panel stays in the L1 cache while it multiplies all tiles.
    """
    lanes = lanes_of(sums.dtype)
    for k in range(0, K, 2 * lanes):
        vectors = min(2, (K - k) // lanes)
        right = b + k * C, vectors * lanes, lanes, vectors
        for m in range(0, tiles, ROWS):
            p, q = at + m * stride, to + m * sum_stride + k
            if adds:
                add_tile(points, p, stride, 1, start, C, panels, *right, sums, q, sum_stride)
            else:
                set_tile(points, p, stride, 1, start, C, panels, *right, sums, q, sum_stride)

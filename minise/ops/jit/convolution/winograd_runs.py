"""The points of all tiles of a batch, in runs of channels, for algorithms that split the channels.

What a task reads of a run is contiguous: points is (runs, 36, plane), where a plane is (tiles,
CHANNELS_PER_RUN), with the tiles rounded up to the rows of a register tile, and a cache line, so
that the points do not compete for the same cache sets. A group's last run may have fewer channels.
"""

from typing import Any

import numpy as np

from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.convolution.blocks import Blocks, scratch
from minise.ops.jit.convolution.packing import pack_rows
from minise.ops.jit.convolution.transforms import (
    IN,
    OUT,
    POINTS,
    transform_douts,
    transform_inputs,
)
from minise.ops.jit.convolution.winograd_filters import CHANNELS_PER_RUN
from minise.ops.jit.vector.simd import CACHE_LINE_BYTES
from minise.ops.jit.vector.tile import ROWS


def filters_outnumber_tiles(N: int, blocks: Blocks, C: int, K: int, parts: int = 1) -> bool:
    """Return True if `parts` times the points of all filters exceed those of tiles and products."""
    return N * blocks.high * blocks.wide * (C + K) < parts * C * K


def shape_of_points(
    tiles: int, channels: int, groups: int, dtype: np.dtype[Any]
) -> tuple[int, int, int]:
    """Return the shape (runs of all groups, 36, plane) of the points of all tiles of a batch."""
    runs = groups * -(-channels // groups // CHANNELS_PER_RUN)
    plane = -(-tiles // ROWS) * ROWS * CHANNELS_PER_RUN + CACHE_LINE_BYTES // dtype.itemsize
    return runs, POINTS, plane


@device_function
def transform_run(task, x, groups, cut, origin, is_dout, points):
    """Transform one run of channels of one row of tiles of x, or with `is_dout`, of dout."""
    (high, wide, _, _), C = cut, x.shape[3] // groups
    runs = -(-C // CHANNELS_PER_RUN)
    strip, run = task // (groups * runs), task % (groups * runs)
    c = run % runs * CHANNELS_PER_RUN
    first, count = run // runs * C + c, min(CHANNELS_PER_RUN, C - c)
    n, top = strip // high, strip % high * OUT
    across, plane, flat = OUT * wide + IN - OUT, points.shape[2], points.reshape(-1)
    band, half = scratch(IN * across * count, x), scratch(IN * across * count, x)
    to = run * POINTS * plane + strip * wide * CHANNELS_PER_RUN
    if is_dout:
        pack_rows(x, n, first, count, origin, (1, 1), top, OUT, OUT * wide, band, 0)
        row = OUT * wide * count
        transform_douts(band, 0, row, count, wide, flat, to, CHANNELS_PER_RUN, plane)
    else:
        pack_rows(x, n, first, count, origin, (1, 1), top, IN, across, band, 0)
        transform_inputs(band, 0, across, count, wide, half, flat, to, CHANNELS_PER_RUN, plane)


@device_function
def run_tasks(x, groups, cut):
    """Return the number of tasks of `transform_run`."""
    return len(x) * cut[0] * groups * -(-x.shape[3] // groups // CHANNELS_PER_RUN)

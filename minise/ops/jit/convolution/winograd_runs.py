"""The points of all tiles of a batch, in runs of channels, for algorithms that split the channels.

points has (groups, runs per group, 36, tiles, CHANNELS_PER_RUN): what a task reads of one run is
contiguous. A group's last run may have fewer channels. Points are CHANNELS_PER_RUN * tiles apart,
plus a cache line (plane_stride of blocks.py), with tiles rounded up to a register tile's rows.
"""


from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.convolution.blocks import Blocks, plane_stride, scratch
from minise.ops.jit.convolution.packing import pack
from minise.ops.jit.convolution.transforms import (
    IN,
    OUT,
    POINTS,
    transform_douts,
    transform_inputs,
)
from minise.ops.jit.convolution.winograd_filters import CHANNELS_PER_RUN
from minise.ops.jit.vector.memory import empty


def filters_outnumber_tiles(N: int, blocks: Blocks, C: int, K: int) -> bool:
    """Return True if the points of all filters are larger than those of all tiles and products."""
    return N * blocks.high * blocks.wide * (C + K) < C * K


def memory_of_runs(x: Array, blocks: Blocks, groups: int) -> Array:
    """Return memory for the points of all tiles of images x (N, H, W, C)."""
    runs = groups * -(-x.shape[3] // groups // CHANNELS_PER_RUN)
    size = size_of_run(len(x) * blocks.high * blocks.wide, x)
    return empty((runs * size,), x.dtype)


@device_function
def size_of_run(tiles, like):
    """Return the size of the points of a run of channels: 36 planes."""
    return POINTS * plane_stride(tiles, CHANNELS_PER_RUN, like)


@device_function
def transform_run(task, x, groups, cut, origin, is_dout, points):
    """Transform one run of channels of one row of tiles of x, or with `is_dout`, of dout."""
    (high, wide, _, _), C = cut, x.shape[3] // groups
    tiles, runs = len(x) * high * wide, -(-C // CHANNELS_PER_RUN)
    strip, run = task // (groups * runs), task % (groups * runs)
    c = run % runs * CHANNELS_PER_RUN
    first, count, n, top = (
        run // runs * C + c,
        min(CHANNELS_PER_RUN, C - c),
        strip // high,
        strip % high * OUT,
    )
    across, plane = OUT * wide + IN - OUT, plane_stride(tiles, CHANNELS_PER_RUN, x)
    band, half = scratch(IN * across * count, x), scratch(IN * across * count, x)
    to = run * size_of_run(tiles, x) + strip * wide * CHANNELS_PER_RUN
    if is_dout:
        pack(x, n, first, count, origin, (1, 1), top, OUT, OUT * wide, band)
        row = OUT * wide * count
        transform_douts(band, 0, row, count, wide, points, to, CHANNELS_PER_RUN, plane)
    else:
        pack(x, n, first, count, origin, (1, 1), top, IN, across, band)
        transform_inputs(band, 0, across, count, wide, half, points, to, CHANNELS_PER_RUN, plane)


@device_function
def run_tasks(x, groups, cut):
    """Return the number of tasks of `transform_run`."""
    return len(x) * cut[0] * groups * -(-x.shape[3] // groups // CHANNELS_PER_RUN)

"""The memory that ops need besides their results, for predictions of a step's memory.

Only convolutions and normalisations need much; the other ops write results directly. Those of
convolutions are declared here, beside the algorithms, from the same sizes: for Winograd's
algorithm, transformed filters and the parts of dweight, or the points of few tiles; for the others,
panels and parts; and the scratch of a block on each thread. minise.ops.cost adds them to the bytes
of living arrays.
"""

from math import prod
from typing import Any

import numba

from minise.ops.jit.convolution.algorithm import algorithm_of, merged_groups
from minise.ops.jit.convolution.blocks import blocks_of
from minise.ops.jit.convolution.direct_dweight import split_of
from minise.ops.jit.convolution.geometry import BLOCK_BYTES, MAX_PARTS, windows_in
from minise.ops.jit.convolution.transforms import IN, OUT, POINTS
from minise.ops.jit.convolution.winograd_dweight import PART_BYTES
from minise.ops.jit.convolution.winograd_runs import filters_outnumber_tiles, shape_of_points
from minise.ops.jit.vector.layout import MAX_CHANNELS
from minise.ops.jit.vector.tile import ROWS
from minise.ops.reference.conv import Conv2dCache


def workspace(
    name: str, arguments: tuple[Any, ...], settings: dict[str, Any], results: Any
) -> tuple[list[int], int]:
    """Return the bytes of arrays from the caching allocator, and all other bytes, of one call.

    Parameters
    ----------
    name : str
        A function of the back end, such as conv2d_backward.
    arguments, settings, results
        Of the call; only shapes and dtypes are read.
    """
    if name == "conv2d_forward":
        return _convolution(results[1], backward=False, needs_dx=True)
    copied = _spread(arguments[0])
    if name == "conv2d_backward":
        needs_dx = settings.get("needs_dx", True)
        pooled, other = _convolution(arguments[1], backward=True, needs_dx=needs_dx)
        return pooled, other + copied
    return [], copied


def _convolution(cache: Any, **settings: bool) -> tuple[list[int], int]:
    return conv2d_workspace(cache, threads=numba.get_num_threads(), **settings)


def _spread(dout: Any) -> int:
    """Return the bytes of a copy of dout if it repeats numbers, as after a global average."""
    steps = getattr(dout, "steps", None)
    if steps is None:
        return 0
    repeats = any(size > 1 and not step for size, step in zip(dout.shape, steps, strict=True))
    return int(dout.nbytes) if repeats else 0


def conv2d_workspace(
    cache: Conv2dCache, *, backward: bool, needs_dx: bool, threads: int
) -> tuple[list[int], int]:
    """Return the bytes of arrays from the caching allocator, and all other bytes.

    Parameters
    ----------
    cache : Conv2dCache
        Only the shapes and dtypes of its arrays are read.
    backward, needs_dx : bool
        Whether the call is conv2d_backward, and its setting.
    threads : int
        Number of threads, each of which has its own scratch.
    """
    x, weight = cache.x, cache.weight
    pooled = [x.nbytes] if x.shape[1] <= MAX_CHANNELS // 2 else []  # planes are moved
    if algorithm_of(cache) == "winograd":
        forward, dx, dweight, scratch = _winograd(cache)
        if not backward:
            return [*pooled, *forward], scratch * threads
        return [*pooled, *(dx if needs_dx else []), *dweight], 2 * scratch * threads
    panels = weight.nbytes * -(-len(weight) // ROWS) * ROWS // len(weight)
    if not backward:
        return [*pooled, panels], 2 * BLOCK_BYTES * threads
    if algorithm_of(cache) == "depthwise":
        return pooled, 3 * BLOCK_BYTES * threads
    groups, view = merged_groups(weight, cache.groups), windows_in(cache)
    C, K = x.shape[1] // groups, len(weight) // groups
    _, shape = split_of(C, K, groups, view, len(x), x.dtype)
    sums = prod(shape) * x.itemsize
    return [*pooled, *([panels] if needs_dx else []), sums], 3 * BLOCK_BYTES * threads


def _winograd(cache: Conv2dCache) -> tuple[list[int], list[int], list[int], int]:
    """Return the bytes of the arrays of forward, dx and dweight, and of a thread's scratch.

    They are transformed filters and parts of dweight, or the points of few tiles.
    """
    x, weight, groups = cache.x, cache.weight, merged_groups(cache.weight, cache.groups)
    (N, C), K, item = x.shape[:2], len(weight), x.itemsize
    blocks = blocks_of(N, windows_in(cache).grid)
    shape = groups, POINTS, -(-C // groups // ROWS) * ROWS, K // groups
    count = -(-N // blocks.images) * -(-blocks.high // blocks.rows)
    fit = max(2, PART_BYTES // (prod(shape) * item))
    tiles = -(-blocks.images * blocks.rows * blocks.wide // ROWS) * ROWS
    band = (blocks.rows * OUT + IN) * (OUT * blocks.wide + IN) * max(C, K)
    filters = [POINTS * C * K // groups * item]
    part_count = min(MAX_PARTS, fit, count)
    parts = [part_count * prod(shape) * item]
    scratch = (band + POINTS * tiles * (C + K)) * item

    def points(size: tuple[int, ...], *channels: int, parts: int = 1) -> list[int]:
        """Return the bytes of points, or [] if there are more tiles than filters."""
        grid = blocks_of(N, size)
        if not filters_outnumber_tiles(N, grid, C // groups, K // groups, parts):
            return []
        total = N * grid.high * grid.wide
        return [prod(shape_of_points(total, c, groups, x.dtype)) * item for c in channels]

    size, image = windows_in(cache).grid, x.shape[2:]
    forward, dx = points(size, C) or filters, points(image, K) or filters
    dweight = points(size, C, K, parts=part_count) or parts
    return forward, dx, dweight, scratch

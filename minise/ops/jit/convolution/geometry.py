"""The memory geometry of a convolution's windows, computed once for each size.

A `View` describes the pixels of an image that each position of an output grid reads. A convolution
has two kinds of views: in forward, positions are pixels of out and read x; in backward, they are
pixels of x and read the pixels of dout to which they contributed. With a stride, pixels of x whose
row and column have different remainders contributed through different taps, so there is one view
for each remainder.

Kernels read a packed image (packing.py): the pixels that a block of positions reads, with zeros
beyond the edge. `Packing` describes it. Along an axis with a single tap, pixels that no position
reads are not packed.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import chain
from math import prod
from typing import NamedTuple

import numpy as np

from minise.checks import Array, Pair
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import VECTOR_BYTES
from minise.ops.reference.conv import Conv2dCache
from minise.ops.reference.windows import windows_of

MAX_CACHED_SIZES = 4096  # of the functions here that cache their results
BLOCK_BYTES = 256 * 1024  # largest packed image of a block: half of the L2 cache of most processors
SUM_BYTES = 16 * 1024  # largest sums of a block for two vectors of filters: half of the L1 cache
MAX_PARTS = 16  # of a batch, for sums over the batch
MIN_TASKS = 16  # of a parallel loop, if there are enough positions and channels
PIXEL_BYTES = 128  # of the channels of narrow groups that share a task: two cache lines


class Packing(NamedTuple):
    """How the pixels that positions read are packed; pairs are (rows, columns)."""

    origin: Pair  # image pixel of the first packed pixel of position (0, 0)
    step: Pair  # image pixels from one packed pixel to the next
    move: Pair  # packed pixels from one position to the next
    halo: Pair  # packed pixels that the last position reads after its own


@dataclass(frozen=True, eq=False)
class View:
    """The pixels that each position of a grid reads, and where its result goes."""

    grid: Pair  # number of positions
    first: Pair  # pixel of the first result
    spacing: Pair  # pixels from one result to the next
    packing: Packing
    taps: Array  # (taps, 2)  packed row and column of each tap, relative to its position
    tap_indices: Array  # (taps,)  indices i * KW + j of the taps in the filters
    merged: int  # taps in a row that are adjacent in memory: they form one run

    @cached_property
    def layout(self) -> tuple[int, ...]:
        """The packing and the grid as one tuple of integers, which parallel loops can take."""
        return tuple(chain(*self.packing, self.grid))

    def rows_that_fit(self, pixel_bytes: int) -> int:
        """Return the rows of positions whose packed image fits into BLOCK_BYTES; it may be < 1."""
        packed_rows = BLOCK_BYTES // (self.packed_size(1)[1] * pixel_bytes)
        return (packed_rows - self.packing.halo[0] - 1) // self.packing.move[0] + 1

    def packed_size(self, rows: int) -> Pair:
        """Return the rows and columns of the packed image for some rows of positions."""
        (down, right), halo = self.packing.move, self.packing.halo
        return (rows - 1) * down + 1 + halo[0], (self.grid[1] - 1) * right + 1 + halo[1]


class Blocks(NamedTuple):
    """The size of a block of positions: some complete images, or some rows of one image."""

    images: int
    rows: int
    total: int  # number of blocks


@lru_cache(MAX_CACHED_SIZES)
def windows(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> View:
    """Return the view in which each pixel of out reads its window of an image of a size."""
    window_grid = windows_of(size, kernel, stride, padding, dilation)
    (top, left), (down, right) = padding, dilation
    taps = [(i * down - top, j * right - left) for i, j in window_grid.offsets()]
    return _view(range(len(taps)), taps, stride, window_grid.outputs, (0, 0), (1, 1))


@lru_cache(MAX_CACHED_SIZES)
def sources(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[View, ...]:
    """Return the views in which pixels of x read dout, one for each remainder of the stride."""
    return tuple(_sources(size, kernel, stride, padding, dilation))


def windows_in(cache: Conv2dCache) -> View:
    """Return the view in which each pixel of out reads its window of x."""
    return windows(*_sizes(cache))


def sources_in(cache: Conv2dCache) -> tuple[View, ...]:
    """Return the views in which pixels of x read dout, one for each remainder of the stride."""
    return sources(*_sizes(cache))


def _sizes(cache: Conv2dCache) -> tuple[Pair, Pair, Pair, Pair, Pair]:
    (_, _, H, W), (_, _, KH, KW) = cache.x.shape, cache.weight.shape
    return (H, W), (KH, KW), cache.stride, cache.padding, cache.dilation


def _sources(size: Pair, kernel: Pair, *settings: Pair) -> Iterator[View]:
    stride = settings[0]
    for rest in np.ndindex(*stride):
        rows, columns = (
            _contributions(rest[axis], kernel[axis], *(pair[axis] for pair in settings))
            for axis in (0, 1)
        )
        tap_indices = [i * kernel[1] + j for i, _ in rows for j, _ in columns]
        taps = [(row, column) for _, row in rows for _, column in columns]
        high, wide = (len(range(r, n, s)) for r, n, s in zip(rest, size, stride, strict=True))
        if high and wide:
            yield _view(tap_indices, taps, (1, 1), (high, wide), (rest[0], rest[1]), stride)


def _contributions(rest: int, taps: int, stride: int, padding: int, dilation: int) -> list[Pair]:
    """Return (tap, position of out) along one axis for each tap that read the pixel at `rest`."""
    positions = [(i, rest + padding - i * dilation) for i in range(taps)]
    return [(i, position // stride) for i, position in positions if position % stride == 0]


def _view(
    tap_indices: range | list[int],
    seen: list[Pair],
    step: Pair,
    grid: Pair,
    first: Pair,
    spacing: Pair,
) -> View:
    """Return the view whose position (0, 0) reads the pixels `seen`, a step further the next."""
    positions = np.array(seen, np.intp).reshape(-1, 2)
    origin = positions.min(axis=0) if seen else np.zeros(2, np.intp)
    taps = positions - origin
    halo = [int(length) for length in taps.max(axis=0, initial=0)]
    pairs = [((s, 1) if h == 0 else (1, s)) for s, h in zip(step, halo, strict=True)]
    steps, moves = zip(*pairs, strict=True)
    packing = Packing((int(origin[0]), int(origin[1])), steps, moves, (halo[0], halo[1]))
    indices = np.asarray(tap_indices, np.intp)
    merged = _merged(taps, halo[1] + 1)
    return View(grid, first, spacing, packing, frozen(taps), frozen(indices), merged)


def _merged(taps: Array, taps_per_row: int) -> int:
    """Return the taps per run: a row of taps if they are adjacent in every row, otherwise 1."""
    if len(taps) % taps_per_row:
        return 1
    steps = np.diff(taps, axis=0)[np.arange(1, len(taps)) % taps_per_row != 0]
    return taps_per_row if (steps == (0, 1)).all() else 1


@lru_cache(MAX_CACHED_SIZES)
def blocks_of(view: View, N: int, pixel_bytes: int) -> Blocks:
    """Return the blocks of positions whose packed images and sums fit into cache."""
    (high, wide), positions = view.grid, SUM_BYTES // (2 * VECTOR_BYTES)
    rows = max(1, min(high, view.rows_that_fit(pixel_bytes), positions // wide))
    images = 1
    if rows == high:
        image_bytes = prod(view.packed_size(rows)) * pixel_bytes
        images = max(1, min(N, positions // (high * wide), BLOCK_BYTES // image_bytes))
    return Blocks(images, rows, -(-N // images) * -(-high // rows))

"""The memory geometry of a convolution's windows, computed once for each size.

A `View` describes the pixels of an image that each position of an output grid reads. A convolution
has two kinds of views: in forward, positions are pixels of out and read x; in backward, they are
pixels of x and read the pixels of dout to which they contributed. With a stride, pixels of x whose
row and column have different remainders contributed through different taps, so there is one view
for each remainder.

Kernels read a packed image in place (packing.py). With a stride, it is packed as one plane for each
remainder of row and column, so that in each plane the window moves by one pixel from position to
position. The taps of a window then have the same offsets from their position everywhere.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from minise.checks import Array, Pair
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.tile import ROWS
from minise.ops.reference.conv import Conv2dCache
from minise.ops.reference.windows import windows_of

MAX_CACHED_SIZES = 4096  # of the functions here that cache their results
BLOCK_BYTES = 128 * 1024  # largest packed image of a block
MAX_PARTS = 16  # of a batch, for sums over the batch


@dataclass(frozen=True, eq=False)
class View:
    """The pixels that each position of a grid reads, where its result goes, and how to pack them.

    Pairs are (rows, columns).
    """

    tap_indices: tuple[int, ...]  # indices i * KW + j of the taps in the filters
    step: Pair  # pixels of the image from one position to the next
    grid: Pair  # number of positions
    first: Pair  # pixel of the first result
    spacing: Pair  # pixels from one result to the next
    planes: Array  # (planes, 2)  row and column of the first image pixel of each plane
    halo_rows: int  # rows of a plane in addition to those of the block's positions
    wide: int  # positions in a row, with those that are discarded
    taps: Array  # (taps, 3)  plane, row, column of each tap, relative to position (0, 0)
    merged: int  # taps in a row that are adjacent in memory: they form one run

    @property
    def placement(self) -> tuple[Pair, Pair, Pair, Pair]:
        """Arguments of a kernel: step, grid, first, spacing."""
        return self.step, self.grid, self.first, self.spacing


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
    """Return the view whose position (0, 0) reads the pixels `seen`, with the planes to pack."""
    placement = tuple(tap_indices), step, grid, first, spacing
    if not seen:  # pixels that no window read
        nothing = np.zeros((0, 3), np.intp)
        return View(*placement, frozen(nothing[:, :2]), 0, grid[1], frozen(nothing), 1)
    positions = np.array(seen, np.intp)
    origin = positions.min(axis=0)
    inside, rest = np.divmod(positions - origin, step)
    remainders, plane = np.unique(rest, axis=0, return_inverse=True)
    taps = np.column_stack([plane.ravel(), inside])
    halo_rows, beyond = (int(size) for size in inside.max(axis=0))
    planes, wide = frozen(remainders + origin), grid[1] + beyond
    return View(*placement, planes, halo_rows, wide, frozen(taps), _merged(taps, beyond + 1))


def _merged(taps: Array, taps_per_row: int) -> int:
    """Return the taps per run: a row of taps if they are adjacent in every row, otherwise 1."""
    if len(taps) % taps_per_row:
        return 1
    steps = np.diff(taps, axis=0)[np.arange(1, len(taps)) % taps_per_row != 0]
    return taps_per_row if (steps == (0, 0, 1)).all() else 1


def rows_per_block(N: int, view: View, pixel_bytes: int) -> int:
    """Return the rows of positions per block: as many as fit, but fewer for few images."""
    row_bytes = max(1, len(view.planes)) * view.wide * pixel_bytes
    fits = BLOCK_BYTES // row_bytes - view.halo_rows
    spread = -(-view.grid[0] * N // MAX_PARTS)  # so that even one image has enough blocks
    return int(max(1, min(view.grid[0], fits, max(spread, ROWS // view.wide))))


@lru_cache(MAX_CACHED_SIZES)
def runs_of(view: View, rows: int, C: int) -> tuple[Array, int]:
    """Return the offset of each run of elements from a position, and the length of a run."""
    plane, row, column = view.taps[:: view.merged].T
    positions = (plane * (rows + view.halo_rows) + row) * view.wide + column
    return frozen(np.asarray(positions * C, np.intp)), view.merged * C

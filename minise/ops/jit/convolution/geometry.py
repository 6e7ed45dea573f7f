"""Where the windows of a convolution lie in memory, found once for each size.

A `View` tells what each place of a grid of results sees of an image. Two of them describe a
convolution: forward, where the places are pixels of out and see x, and backward, where they are
pixels of x and see those pixels of dout to which they contributed. With a stride, pixels of x whose
row and column have different remainders contributed through different taps, so there is one view
for each remainder.

To be read in place, an image is packed (packing.py): with a stride, as one plane for each
remainder of row and column, so that all windows of a plane move on by one pixel from place to
place. Seen from its own place, a window then has its taps at the same distances everywhere.
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

SIZES = 4096  # are remembered
BLOCK = 128 * 1024  # bytes of packed image that a block may have
PARTS = 16  # of a batch, at most


@dataclass(frozen=True, eq=False)
class View:
    """What each place of a grid sees of an image, where its result stands, and how to pack it."""

    kept: tuple[int, ...]  # which taps of the filters these are
    step: Pair  # of the image, from place to place
    grid: Pair  # places
    first: Pair  # of the results
    apart: Pair  # results
    planes: Array  # (planes, 2)  row and column of the image that stands first in each
    high: int  # rows that a plane has beyond those of the block's places
    wide: int  # places in a row, with those that are thrown away
    taps: Array  # (taps, 3)  plane, row, column, seen from place (0, 0)
    merged: int  # taps in a row that are neighbours in memory, and so one run

    @property
    def where(self) -> tuple[Pair, Pair, Pair, Pair]:
        """What a kernel is told of the places."""
        return self.step, self.grid, self.first, self.apart


@lru_cache(SIZES)
def windows(size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair) -> View:
    """Return what the pixels of out see of an image of a size."""
    where = windows_of(size, kernel, stride, padding, dilation)
    (top, left), (down, right) = padding, dilation
    taps = [(i * down - top, j * right - left) for i, j in where.offsets()]
    return _view(range(len(taps)), taps, stride, where.outputs, (0, 0), (1, 1))


@lru_cache(SIZES)
def sources(
    size: Pair, kernel: Pair, stride: Pair, padding: Pair, dilation: Pair
) -> tuple[View, ...]:
    """Return what pixels of x get from dout, one remainder of the stride after the other."""
    return tuple(_sources(size, kernel, stride, padding, dilation))


def windows_in(cache: Conv2dCache) -> View:
    """Return what the pixels of out see of x."""
    return windows(*_sizes(cache))


def sources_in(cache: Conv2dCache) -> tuple[View, ...]:
    """Return what pixels of x get from dout."""
    return sources(*_sizes(cache))


def _sizes(cache: Conv2dCache) -> tuple[Pair, Pair, Pair, Pair, Pair]:
    (_, _, H, W), (_, _, KH, KW) = cache.x.shape, cache.weight.shape
    return (H, W), (KH, KW), cache.stride, cache.padding, cache.dilation


def _sources(size: Pair, kernel: Pair, *settings: Pair) -> Iterator[View]:
    stride = settings[0]
    for rest in np.ndindex(*stride):
        rows, columns = (
            _seen_by(rest[axis], kernel[axis], *(pair[axis] for pair in settings))
            for axis in (0, 1)
        )
        kept = [i * kernel[1] + j for i, _ in rows for j, _ in columns]
        taps = [(row, column) for _, row in rows for _, column in columns]
        high, wide = (len(range(r, n, s)) for r, n, s in zip(rest, size, stride, strict=True))
        if high and wide:
            yield _view(kept, taps, (1, 1), (high, wide), (rest[0], rest[1]), stride)


def _seen_by(rest: int, taps: int, stride: int, padding: int, dilation: int) -> list[Pair]:
    """Return, for the pixel at rest, every tap that saw it, and from which place of out."""
    places = [(i, rest + padding - i * dilation) for i in range(taps)]
    return [(i, place // stride) for i, place in places if place % stride == 0]


def _view(
    kept: range | list[int], seen: list[Pair], step: Pair, grid: Pair, first: Pair, apart: Pair
) -> View:
    """Return a view, with how an image is to be packed for it."""
    where = tuple(kept), step, grid, first, apart
    if not seen:  # pixels that no window saw
        nothing = np.zeros((0, 3), np.intp)
        return View(*where, frozen(nothing[:, :2]), 0, grid[1], frozen(nothing), 1)
    places = np.array(seen, np.intp)
    least = places.min(axis=0)
    inside, rest = np.divmod(places - least, step)
    remainders, plane = np.unique(rest, axis=0, return_inverse=True)
    taps = np.column_stack([plane.ravel(), inside])
    high, beyond = (int(size) for size in inside.max(axis=0))
    planes, wide = frozen(remainders + least), grid[1] + beyond
    return View(*where, planes, high, wide, frozen(taps), _merged(taps, beyond + 1))


def _merged(taps: Array, in_a_row: int) -> int:
    """Return how many taps are one run: those of a row, where they are neighbours in every row."""
    if len(taps) % in_a_row:
        return 1
    steps = np.diff(taps, axis=0)[np.arange(1, len(taps)) % in_a_row != 0]
    return in_a_row if (steps == (0, 0, 1)).all() else 1


def rows_of_block(N: int, view: View, pixel_bytes: int) -> int:
    """Return how many rows of places a block has: what fits, but of few images fewer."""
    row_bytes = max(1, len(view.planes)) * view.wide * pixel_bytes
    fits = BLOCK // row_bytes - view.high
    spread = -(-view.grid[0] * N // PARTS)  # so that one image, too, makes enough blocks
    return int(max(1, min(view.grid[0], fits, max(spread, ROWS // view.wide))))


@lru_cache(SIZES)
def runs_of(view: View, rows: int, C: int) -> tuple[Array, int]:
    """Return where each run of numbers begins, seen from a place, and how long they are."""
    plane, row, column = view.taps[:: view.merged].T
    places = (plane * (rows + view.high) + row) * view.wide + column
    return frozen(np.asarray(places * C, np.intp)), view.merged * C

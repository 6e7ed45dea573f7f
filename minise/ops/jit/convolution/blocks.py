"""The blocks of tiles that Winograd's convolution does one after another, each within a cache.

A block is made of some images whole, or of some rows of tiles of one image. Its pixels are packed,
zeros beyond the edge, and its tiles are transformed into 36 points (transforms.py), each of which
is a matrix (tiles, C) that is multiplied.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import part
from minise.ops.jit.convolution.geometry import SIZES
from minise.ops.jit.convolution.packing import pack
from minise.ops.jit.convolution.transforms import IN, OUT, see_tiles
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import LINE
from minise.ops.jit.vector.tile import ROWS

TILES = 64  # of a block, about
BLOCKS = 8  # at least, where there are so many tiles


class Blocks(NamedTuple):
    """How the tiles of a batch are cut: some images whole, or some rows of tiles of one."""

    high: int  # rows of tiles of an image
    wide: int  # tiles in a row
    images: int  # of a block
    rows: int  # rows of tiles of each image of a block


@lru_cache(SIZES)
def blocks_of(N: int, size: Pair) -> Blocks:
    """Return how to cut the tiles of N images of results of a size."""
    high, wide = (-(-length // OUT) for length in size)
    tiles = max(ROWS, min(TILES, N * high * wide // BLOCKS))
    if high * wide <= tiles:
        return Blocks(high, wide, min(N, tiles // (high * wide)), high)
    return Blocks(high, wide, 1, max(1, min(high, tiles // wide)))


@lru_cache(SIZES)
def places_of(padding: Pair) -> Array:
    """Return where an image begins that is padded, as pack takes it: one plane, its first pixel."""
    return frozen(np.array([[-padding[0], -padding[1]]], np.intp))


@part
def scratch(count, like):
    """Return memory for so many numbers that begins at a line of the cache."""
    itemsize = like.itemsize
    memory = np.empty(count + LINE // itemsize, like.dtype)
    skip = (-memory.ctypes.data % LINE) // itemsize
    return memory[skip : skip + count]


@part
def plane_of(tiles, channels, like):
    """Return how far the points of a block lie apart: a power of two would share cache lines."""
    return -(-tiles // ROWS) * ROWS * channels + LINE // like.itemsize


@part
def see_images(x, n, top, strips, wide, places, band, half, seen, at, plane):
    """Pack some rows of tiles of an image and transform what they see; return the next place."""
    C, across = x.shape[3], OUT * wide + IN - OUT
    pack(x, n, 0, C, places, (1, 1), top * OUT, strips * OUT + IN - OUT, across, band)
    for strip in range(strips):
        see_tiles(band, strip * OUT * across * C, across, C, wide, half, seen, at, plane)
        at += wide * C
    return at


@part
def span_of(block, high, images, rows, array):
    """Return where the pixels of a block begin and end in an array (N, H, W, C), if it has any."""
    (N, H, W, C), stacks = array.shape, -(-high // rows)
    first, top = block // stacks * images, block % stacks * rows * OUT
    last = min(N, first + images) - 1
    return (first * H + min(H, top)) * W * C, (last * H + min(H, top + rows * OUT)) * W * C

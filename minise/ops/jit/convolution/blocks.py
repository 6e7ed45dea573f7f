"""Blocks of tiles for Winograd's convolution, each small enough for the L2 cache.

A block is some complete images, or some rows of tiles of one image. Its pixels are packed, with
zeros beyond the edge, and its tiles are transformed to 36 points (transforms.py); each point is a
matrix (tiles, C), one factor of a matrix product.
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from minise.checks import Pair
from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.convolution.geometry import MAX_CACHED_SIZES
from minise.ops.jit.convolution.packing import pack_rows
from minise.ops.jit.convolution.transforms import IN, OUT, transform_inputs
from minise.ops.jit.vector.simd import CACHE_LINE_BYTES
from minise.ops.jit.vector.tile import ROWS

TILES_PER_BLOCK = 64  # approximately
MIN_BLOCKS = 8  # if there are enough tiles


class Blocks(NamedTuple):
    """The size of a block: some complete images, or some rows of tiles of one image."""

    high: int  # rows of tiles per image
    wide: int  # tiles per row
    images: int  # images per block
    rows: int  # rows of tiles of each image in a block


@lru_cache(MAX_CACHED_SIZES)
def blocks_of(N: int, size: Pair) -> Blocks:
    """Return the blocks for N output images of a size (rows, columns)."""
    high, wide = (-(-length // OUT) for length in size)
    tiles = max(ROWS, min(TILES_PER_BLOCK, N * high * wide // MIN_BLOCKS))
    if high * wide <= tiles:
        return Blocks(high, wide, min(N, tiles // (high * wide)), high)
    return Blocks(high, wide, 1, max(1, min(high, tiles // wide)))


def padded_origin(padding: Pair) -> Pair:
    """Return the row and column of the first pixel of padded images."""
    return -padding[0], -padding[1]


@device_function
def scratch(count, like):
    """Return an uninitialised array of `count` elements, aligned to a cache line."""
    itemsize = like.itemsize
    memory = np.empty(count + CACHE_LINE_BYTES // itemsize, like.dtype)
    skip = (-memory.ctypes.data % CACHE_LINE_BYTES) // itemsize
    return memory[skip : skip + count]


@device_function
def tile_stride(channels, like):
    """Return the distance, in elements, from one tile of a point to the next.

    From 8 cache lines on it is an odd number of lines: at a power of two, the tiles of a point
    would compete for the same few cache sets.
    """
    line = CACHE_LINE_BYTES // like.itemsize
    return channels if channels < 8 * line else (-(-channels // line) | 1) * line


@device_function
def plane_stride(tiles, stride, like):
    """Return the distance, in elements, from one point of a block to the next.

    It is never a power of two, so that the points do not compete for the same cache sets.
    """
    return -(-tiles // ROWS) * ROWS * stride + CACHE_LINE_BYTES // like.itemsize


@device_function
def transform_images(x, n, top, strips, wide, origin, band, half, points, at, plane):
    """Pack and transform the pixels of some rows of tiles of an image; return the next index."""
    C, across = x.shape[3], OUT * wide + IN - OUT
    stride = tile_stride(C, x)
    pack_rows(x, n, 0, C, origin, (1, 1), top * OUT, strips * OUT + IN - OUT, across, band, 0)
    for strip in range(strips):
        begin = strip * OUT * across * C
        transform_inputs(band, begin, across, C, wide, half, points, at, stride, plane)
        at += wide * stride
    return at


@device_function
def block_span(block, high, images, rows, array):
    """Return the span of a block's pixels in a flat array (N, H, W, C), empty after the last."""
    (N, H, W, C), stacks = array.shape, -(-high // rows)
    first, top = block // stacks * images, block % stacks * rows * OUT
    last = min(N, first + images) - 1
    return (first * H + min(H, top)) * W * C, (last * H + min(H, top + rows * OUT)) * W * C

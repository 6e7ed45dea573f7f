"""The 1 x 1 convolution: a matrix product over all pixels, which are read in place.

    out (pixels, K) = x (pixels, C) @ weight.T         dx = dout @ weight
    dweight (C, K)  = x.T @ dout                       in parts that are added in order

The pixels are split into blocks that stay in the L2 cache while the vectors of filters are applied
one after another, from panels as in direct.py. If the last tile would extend beyond the end of its
block, it begins earlier and computes some rows twice.
"""

from functools import partial

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.convolution.direct import sum_of_parts
from minise.ops.jit.convolution.epilogue import Correlation, apply_epilogue
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, add_tile, copy, set_tile

BLOCK_BYTES = 256 * 1024  # of the pixels of a block
MAX_PARTS = 16  # of the sum over all pixels, for dweight
PIXELS_PER_CHUNK = 64  # of dweight; their elements stay in the L1 cache


def pointwise_applies(x: Array, weight: Array, stride: Pair, padding: Pair, groups: int) -> bool:
    """Return True for an ungrouped 1 x 1 convolution in full tiles, of at least 64 pixels."""
    K, C, KH, KW = weight.shape
    fill = max(ROWS, lanes_of(weight.dtype))  # both are powers of two
    full_tiles = C % fill == K % fill == 0
    plain = (KH, KW) == stride == (1, 1) and padding == (0, 0) and groups == 1
    return plain and full_tiles and x.size >= PIXELS_PER_CHUNK * C


def correlation(panels: Array, bias: Array) -> Correlation:
    """Return a function that fills out (N, H, W, K); panels is panels_of(weight.T)."""
    rows = max(ROWS, BLOCK_BYTES // (panels.shape[1] * panels.itemsize))
    return partial(_correlate, panels, bias, rows)


@kernel
def _correlate(panels, bias, rows, source, shortcut, relu, out):
    """Fill out: multiply one block of pixels at a time."""
    vectors, C, lanes = panels.shape
    K, start, M = vectors * lanes, np.zeros(1, np.intp), source.size // C
    flat, weights, flat_out = source.reshape(-1), panels.reshape(-1), out.reshape(-1)
    end = bias, shortcut.reshape(-1), relu
    blocks = max(1, M // rows)  # of at least `rows` pixels, or all
    for block in prange(blocks):
        first, last = block * M // blocks, (block + 1) * M // blocks
        for v in range(0, vectors, 2):
            right = v * C * lanes, lanes, C * lanes, min(2, vectors - v)
            for at in range(first, last, ROWS):
                m = min(at, last - ROWS)
                c = m * K + v * lanes
                set_tile(flat, m * C, C, 1, start, C, weights, *right, flat_out, c, K)
        if len(bias) or shortcut.size or relu:
            at = first * K
            apply_epilogue(flat_out, at, K, K, last - first, 0, *end, flat_out, at, K)


def weight_gradient(x: Array, dout: Array) -> Array:
    """Return dweight as (C, K) from x (N, H, W, C) and dout (N, H, W, K)."""
    C, K = x.shape[3], dout.shape[3]
    pixels = x.size // C
    parts = np.zeros((max(1, min(MAX_PARTS, pixels // PIXELS_PER_CHUNK)), C, K), x.dtype)
    _outer_products(x.reshape(-1, C), dout.reshape(-1, K), lanes_of(x.dtype), parts)
    return np.asarray(sum_of_parts(parts))


@kernel
def _outer_products(x, dout, lanes, parts):
    """Set each part to the sum of x.T @ dout over its pixels."""
    (M, C), K = x.shape, dout.shape[1]
    flat, douts, start = x.reshape(-1), dout.reshape(-1), np.zeros(1, np.intp)
    for part in prange(len(parts)):
        sums, panels = parts[part].reshape(-1), np.empty(PIXELS_PER_CHUNK * K, x.dtype)
        end = (part + 1) * M // len(parts)
        for begin in range(part * M // len(parts), end, PIXELS_PER_CHUNK):
            steps = min(PIXELS_PER_CHUNK, end - begin)
            for k in range(0, K, lanes):
                for m in range(steps):
                    copy(
                        douts, (begin + m) * K + k, panels, k * PIXELS_PER_CHUNK + m * lanes, lanes
                    )
            for c in range(0, C, ROWS):
                a = begin * C + c
                for k in range(0, K, 2 * lanes):
                    to, two = c * K + k, min(2, (K - k) // lanes)
                    right = k * PIXELS_PER_CHUNK, lanes, PIXELS_PER_CHUNK * lanes, two
                    add_tile(flat, a, 1, C, start, steps, panels, *right, sums, to, K)

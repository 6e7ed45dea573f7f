"""The 1 x 1 convolution: a matrix product of all pixels, read where they lie.

    out (pixels, K) = x (pixels, C) @ weight.T         dx = dout @ weight
    dweight (C, K)  = x.T @ dout                       in parts that are added in order

Rows of pixels are cut into blocks that stay in the second-level cache while one vector of filters
after the other passes over them, from panels as in direct.py. A last tile that would reach over the
end of its block begins earlier, and makes some rows twice.
"""

from functools import partial

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.convolution.direct import sum_of_parts
from minise.ops.jit.convolution.finish import Correlation, finish
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS, copy, fresh, tile

BLOCK = 256 * 1024  # bytes of the pixels of a block
PARTS = 16  # of all pixels, at most
NEAR = 64  # pixels whose numbers stay in the first-level cache, for dweight


def pointwise_can(x: Array, weight: Array, stride: Pair, padding: Pair, groups: int) -> bool:
    """Return whether it is a product of all pixels, and of whole tiles: 64 pixels at least."""
    K, C, KH, KW = weight.shape
    fill = max(ROWS, lanes_of(weight.dtype))  # both are powers of two
    whole = C % fill == K % fill == 0
    plain = (KH, KW) == stride == (1, 1) and padding == (0, 0) and groups == 1
    return plain and whole and x.size >= NEAR * C


def correlation(panels: Array, bias: Array) -> Correlation:
    """Return a function that fills out (N, H, W, K); panels is what panels_of makes of weight.T."""
    rows = max(ROWS, BLOCK // (panels.shape[1] * panels.itemsize))
    return partial(_correlate, panels, bias, rows)


@kernel
def _correlate(panels, bias, rows, source, shortcut, relu, out):
    """Multiply a block of pixels after the other."""
    vectors, C, lanes = panels.shape
    K, start, M = vectors * lanes, np.zeros(1, np.intp), source.size // C
    flat, weights, flat_out = source.reshape(-1), panels.reshape(-1), out.reshape(-1)
    end = bias, shortcut.reshape(-1), relu
    blocks = max(1, M // rows)  # of at least so many rows, or all
    for block in prange(blocks):
        first, last = block * M // blocks, (block + 1) * M // blocks
        for v in range(0, vectors, 2):
            right = v * C * lanes, lanes, C * lanes, min(2, vectors - v)
            for at in range(first, last, ROWS):
                m = min(at, last - ROWS)
                c = m * K + v * lanes
                fresh(flat, m * C, C, 1, start, C, weights, *right, flat_out, c, K)
        if len(bias) or shortcut.size or relu:
            at = first * K
            finish(flat_out, at, K, K, last - first, 0, *end, flat_out, at, K)


def weight_gradient(x: Array, dout: Array) -> Array:
    """Return (C, K) from x (N, H, W, C) and dout (N, H, W, K)."""
    C, K = x.shape[3], dout.shape[3]
    pixels = x.size // C
    parts = np.zeros((max(1, min(PARTS, pixels // NEAR)), C, K), x.dtype)
    _outer_products(x.reshape(-1, C), dout.reshape(-1, K), lanes_of(x.dtype), parts)
    return np.asarray(sum_of_parts(parts))


@kernel
def _outer_products(x, dout, lanes, parts):
    """Add up x.T @ dout over the pixels of each part."""
    (M, C), K = x.shape, dout.shape[1]
    flat, douts, start = x.reshape(-1), dout.reshape(-1), np.zeros(1, np.intp)
    for one in prange(len(parts)):
        sums, panels = parts[one].reshape(-1), np.empty(NEAR * K, x.dtype)
        end = (one + 1) * M // len(parts)
        for begin in range(one * M // len(parts), end, NEAR):
            steps = min(NEAR, end - begin)
            for k in range(0, K, lanes):
                for m in range(steps):
                    copy(douts, (begin + m) * K + k, panels, k * NEAR + m * lanes, lanes)
            for c in range(0, C, ROWS):
                a = begin * C + c
                for k in range(0, K, 2 * lanes):
                    to, two = c * K + k, min(2, (K - k) // lanes)
                    right = k * NEAR, lanes, NEAR * lanes, two
                    tile(flat, a, 1, C, start, steps, panels, *right, sums, to, K)

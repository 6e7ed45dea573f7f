"""Squeeze-and-excitation, compiled: one image at a time, which stays in cache until it is scaled.

The formulas and their derivation are in minise/ops/reference/squeeze_excite.py; this file changes
only the order of computation. Kernels read an image as rows of channels, one row per pixel
(vector/layout.py), and P rows of gates: one per image, or one per pixel with squeeze="none".

Results are bit-identical for any number of threads: each image is one iteration of a parallel loop,
and each row of a weight gradient is one iteration of another, which sums over the images in order.
Sums are in double precision.
"""

import math

import numpy as np
from numba import prange

from minise.checks import Array, check_choice
from minise.ops.jit.compiler.compile import device_function, kernel
from minise.ops.jit.normalisation.gates import excite, excite_backward, frozen_weights, weight_row
from minise.ops.jit.vector.layout import frozen, images_of, rows_of
from minise.ops.jit.vector.memory import empty, empty_like
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeeze_excite import SHAPES, Gates, SqueezeExciteCache
from minise.ops.reference.squeezes import SQUEEZES
from minise.ops.shapes import check_arrays, check_gradient

AVG, MAX, NONE = range(3)  # the order of SQUEEZES


def squeeze_excite_forward(
    x: Array,
    w1: Array,
    b1: Array | None,
    w2: Array,
    b2: Array | None,
    *,
    squeeze: str = "avg",
    gate: str = "sigmoid",
) -> tuple[Array, SqueezeExciteCache]:
    """See minise.ops.reference.squeeze_excite_forward; out is channels-last in memory."""
    shapes = SHAPES["squeeze_excite"]
    size = check_arrays("squeeze_excite", shapes, x, w1, b1, w2, b2)
    check_choice("squeeze_excite", "squeeze", squeeze, SQUEEZES)
    check_choice("squeeze_excite", "gate", gate, GATES)
    N, C, H, W, R = (size[axis] for axis in "NCHWR")
    P, Q = (H, W) if squeeze == "none" else (1, 1)
    weights = frozen_weights(w1, b1, w2, b2)
    pixel = np.empty((N, C), np.intp)
    pooled = np.empty((N, 1, C), x.dtype)
    hidden = np.empty((N, P * Q, R), x.dtype)
    gates = np.empty((N, P * Q, C), x.dtype)
    rows = empty((N, H * W, C), x.dtype)
    _forward(rows_of(x), *weights, *_codes(squeeze, gate), pixel, pooled, hidden, gates, rows)
    argmax = pixel.reshape(N, C, 1, 1) if squeeze == "max" else None
    z = x if squeeze == "none" else images_of(pooled, 1, 1)
    h = images_of(hidden, P, Q)
    s = images_of(gates, P, Q)
    out = images_of(rows, H, W)
    return out, SqueezeExciteCache(x, argmax, Gates(w1, b1, w2, b2, z, h, s, squeeze, gate))


def squeeze_excite_backward(dout: Array, cache: SqueezeExciteCache) -> tuple[Array | None, ...]:
    """See minise.ops.reference.squeeze_excite_backward; dx is channels-last in memory."""
    check_gradient("squeeze_excite", dout, cache.x)
    images, argmax, gates = cache
    x, z, h, s = (rows_of(array) for array in (images, gates.z, gates.h, gates.s))
    N, C, H, W = images.shape
    pixel = np.zeros((N, C), np.intp) if argmax is None else argmax.reshape(N, C)
    weights = frozen(gates.w1), frozen(gates.w2)
    codes = _codes(gates.squeeze, gates.gate)
    dv = np.empty_like(s)
    du = np.empty_like(h)
    dx = empty_like(x)
    _backward(rows_of(dout), x, *weights, *codes, frozen(pixel), h, s, dv, du, dx)
    dw1, sum1 = weight_gradient(*(frozen(a).reshape(-1, a.shape[2]) for a in (du, z)))
    dw2, sum2 = weight_gradient(*(frozen(a).reshape(-1, a.shape[2]) for a in (dv, h)))
    db1 = None if gates.b1 is None else sum1
    db2 = None if gates.b2 is None else sum2
    return images_of(dx, H, W), dw1, db1, dw2, db2


def _codes(squeeze: str, gate: str) -> tuple[int, int]:
    return list(SQUEEZES).index(squeeze), GATES.index(gate)


@kernel
def _forward(x, w1, b1, w2, b2, squeeze, gate, argmax, z, h, s, out):
    for n in prange(len(x)):
        if squeeze == NONE:
            excite(x[n], w1, b1, w2, b2, gate, h[n], s[n])
        else:
            _squeeze(x[n], squeeze, argmax[n], z[n, 0])
            excite(z[n], w1, b1, w2, b2, gate, h[n], s[n])
        for i in range(x.shape[1]):
            p = min(i, s.shape[1] - 1)  # one row of gates for all pixels, or one per pixel
            for c in range(x.shape[2]):
                out[n, i, c] = x[n, i, c] * s[n, p, c]


@device_function
def _squeeze(x, squeeze, argmax, z):
    """Set z (C,) to the mean or the maximum of an image (H*W, C), argmax to the maximum's pixel."""
    pixels, C = x.shape
    if squeeze == AVG:
        total = np.zeros(C)
        for i in range(pixels):
            for c in range(C):
                total[c] += x[i, c]
        for c in range(C):
            z[c] = total[c] / pixels
    else:
        argmax[:] = 0
        z[:] = x[0]
        for i in range(1, pixels):
            for c in range(C):
                if x[i, c] > z[c] or (math.isnan(x[i, c]) and not math.isnan(z[c])):
                    argmax[c] = i
                    z[c] = x[i, c]


@kernel
def _backward(dout, x, w1, w2, squeeze, gate, argmax, h, s, dv, du, dx):
    for n in prange(len(x)):
        _, pixels, C = x.shape
        P = h.shape[1]
        ds = np.zeros((P, C))
        for i in range(pixels):
            p = min(i, P - 1)
            for c in range(C):
                ds[p, c] += dout[n, i, c] * x[n, i, c]
        dz = np.zeros((P, C))
        excite_backward(ds, w1, w2, gate, h[n], s[n], dv[n], du[n], dz)
        for i in range(pixels):
            p = min(i, P - 1)
            for c in range(C):
                share = dz[p, c]
                if squeeze == AVG:
                    share /= pixels
                elif squeeze == MAX and i != argmax[n, c]:
                    share = 0.0
                dx[n, i, c] = dout[n, i, c] * s[n, p, c] + share


@kernel
def weight_gradient(dout, x):
    """Return dweight (K, C) and dbias (K,) of out = x weight.T + bias from dout (rows, K)."""
    K, C = dout.shape[1], x.shape[1]
    dweight, dbias = np.empty((K, C), dout.dtype), np.empty(K, dout.dtype)
    for k in prange(K):
        weight_row(k, dout, x, dweight, dbias)
    return dweight, dbias

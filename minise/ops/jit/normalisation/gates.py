"""Device functions for the gates of an SE block: both dense layers of one image, and backward.

The formulas are in minise/ops/reference/squeeze_excite.py, those of the gate functions in
minise/ops/reference/gates.py. One iteration of a parallel loop computes each image, and each row of
a weight gradient, so results are bit-identical for any number of threads. Sums are in double
precision.
"""

import math

import numpy as np

from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.vector.layout import frozen

SIGMOID, TANH, RELU, HARD_SIGMOID = range(4)  # the order of GATES


@device_function
def gate_forward(v, gate):
    """Return the gate function s of a scalar v; gate is an index into GATES."""
    if gate == RELU:
        return 0.0 if v <= 0 else v
    if gate == SIGMOID:
        e = math.exp(-abs(v))  # at most 1, so it cannot overflow
        return (e if v < 0 else 1.0) / (1 + e)
    if gate == TANH:
        return math.tanh(v)
    if v <= -3:
        return 0.0
    return 1.0 if v >= 3 else (v + 3) / 6


@device_function
def gate_backward(ds, s, gate):
    """Return the scalar dv from ds and s."""
    if gate == SIGMOID:
        return ds * s * (1 - s)
    if gate == TANH:
        return ds * (1 - s * s)
    if s <= 0 or (gate == HARD_SIGMOID and s >= 1):
        return 0.0
    return ds if gate == RELU else ds / 6


def frozen_weights(w1: Array, b1: Array | None, w2: Array, b2: Array | None) -> tuple[Array, ...]:
    """Return both dense layers frozen, with zeros for a bias that is None."""
    bias1 = np.zeros(len(w1), w1.dtype) if b1 is None else b1
    bias2 = np.zeros(len(w2), w2.dtype) if b2 is None else b2
    return frozen(w1), frozen(bias1), frozen(w2), frozen(bias2)


@device_function
def excite(z, w1, b1, w2, b2, gate, h, s):
    """Compute the hidden units (P, R) and the gates (P, C) of one image from z (P, C)."""
    R, C = w1.shape
    for p in range(len(z)):
        for r in range(R):
            u = 0.0
            for c in range(C):
                u += w1[r, c] * z[p, c]
            u += b1[r]
            h[p, r] = 0 if u <= 0 else u
        for c in range(C):
            v = 0.0
            for r in range(R):
                v += w2[c, r] * h[p, r]
            s[p, c] = gate_forward(v + b2[c], gate)


@device_function
def excite_backward(ds, w1, w2, gate, h, s, dv, du, dz):
    """Compute dv (P, C), du (P, R) and dz (P, C) of one image from ds (P, C)."""
    R, C = w1.shape
    for p in range(len(ds)):
        for c in range(C):
            dz[p, c] = 0
            dv[p, c] = gate_backward(ds[p, c], s[p, c], gate)
        for r in range(R):
            dh = 0.0
            for c in range(C):
                dh += dv[p, c] * w2[c, r]
            du[p, r] = 0 if h[p, r] <= 0 else dh
            for c in range(C):
                dz[p, c] += du[p, r] * w1[r, c]


@device_function
def weight_row(k, dout, x, dweight, dbias):
    """Set dweight[k] and dbias[k] to their sums over all rows of dout and x."""
    total, row = 0.0, np.zeros(x.shape[1])
    for n in range(len(x)):
        total += dout[n, k]
        for c in range(x.shape[1]):
            row[c] += dout[n, k] * x[n, c]
    for c in range(x.shape[1]):
        dweight[k, c] = row[c]
    dbias[k] = total

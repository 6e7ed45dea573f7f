"""The dense layer, compiled: one iteration of a parallel loop computes one row of a product.

The formulas are in minise/ops/reference/linear.py. All three products have the form
out[n] = sum over i of a[n, i] * b[i], whose innermost loop runs over adjacent elements.
"""

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.vector.layout import frozen
from minise.ops.reference.linear import SHAPES, LinearCache
from minise.ops.shapes import check_arrays, check_gradient


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, LinearCache]:
    """See minise.ops.reference.linear_forward."""
    check_arrays("linear", SHAPES["linear"], x, weight, bias)
    start = np.zeros(len(weight), x.dtype) if bias is None else bias
    out = _product(frozen(x), frozen(weight.T), frozen(start))
    return out, LinearCache(x, weight, bias)


def linear_backward(dout: Array, cache: LinearCache) -> tuple[Array | None, ...]:
    """See minise.ops.reference.linear_backward."""
    x, weight, bias = cache
    check_gradient("linear", dout, x, (len(x), len(weight)))
    rows = frozen(dout)
    dx = _product(rows, frozen(weight), frozen(np.zeros(weight.shape[1], x.dtype)))
    dweight = _product(frozen(dout.T), frozen(x), frozen(np.zeros(x.shape[1], x.dtype)))
    dbias = None if bias is None else _sum_of_rows(rows)
    return dx, dweight, dbias


@kernel
def _product(a, b, start):
    """Return a @ b + start, summed in double precision."""
    rows, inner = a.shape
    out = np.empty((rows, b.shape[1]), a.dtype)
    for n in prange(rows):
        total = start.astype(np.float64)
        for i in range(inner):
            factor = np.float64(a[n, i])
            for k in range(b.shape[1]):
                total[k] += factor * b[i, k]
        for k in range(b.shape[1]):
            out[n, k] = total[k]
    return out


@kernel
def _sum_of_rows(rows):
    """Return the sum of the rows, added in order."""
    out = np.empty(rows.shape[1], rows.dtype)
    for k in prange(rows.shape[1]):
        total = 0.0
        for n in range(len(rows)):
            total += rows[n, k]
        out[k] = total
    return out

"""The epilogue of a convolution: bias, shortcut and ReLU, while the results are in cache.

Training uses the bias only; inference may use all three (see minise/ops/jit/inference.py).
"""

from collections.abc import Callable

import numpy as np

from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import lanes_of, load, store, where_positive

# (source (N, H, W, C), shortcut (like out, or empty), relu, out (N, OH, OW, K)): fills out
Correlation = Callable[[Array, Array, bool, Array], None]

NO_BIAS = {np.dtype(t): frozen(np.empty(0, t)) for t in (np.float32, np.float64)}
NO_SHORTCUT = {np.dtype(t): frozen(np.empty((0, 0, 0, 0), t)) for t in (np.float32, np.float64)}


def bias_or_empty(bias: Array | None, like: Array) -> Array:
    """Return the frozen bias, or an empty array of the dtype of `like` if it is None."""
    return NO_BIAS[like.dtype] if bias is None else frozen(bias)


@device_function
def apply_epilogue(
    results, at, stride, count, pixels, first, bias, shortcut, relu, out, to, out_stride
):
    """Set out to results + bias + shortcut for a row of pixels, and apply the ReLU if relu.

    Each pixel has `count` elements, to the first of which bias[first] is added. at and to are the
    indices of the first pixel in results and out, stride and out_stride the distances between
    pixels, all in elements. bias and shortcut may be empty; shortcut has the layout of out.
    """
    lanes = lanes_of(out.dtype)
    vector_end = count - count % lanes
    if not (len(bias) or len(shortcut) or relu):
        for _ in range(pixels):
            for k in range(0, vector_end, lanes):
                store(load(results, at + k), out, to + k)
            for k in range(vector_end, count):
                out[to + k] = results[at + k]
            at += stride
            to += out_stride
        return
    for _ in range(pixels):
        for k in range(0, vector_end, lanes):
            y = load(results, at + k)
            if len(bias):
                y = y + load(bias, first + k)
            if len(shortcut):
                y = y + load(shortcut, to + k)
            if relu:
                y = where_positive(y, y)
            store(y, out, to + k)
        for k in range(vector_end, count):
            z = results[at + k]
            if len(bias):
                z += bias[first + k]
            if len(shortcut):
                z += shortcut[to + k]
            out[to + k] = 0 if relu and z <= 0 else z
        at += stride
        to += out_stride

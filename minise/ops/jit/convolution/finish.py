"""What may follow a convolution, done while its results are in cache: bias, shortcut and ReLU.

In training only the bias is there; in inference all three may be (see minise/ops/jit/inference.py).
"""

from collections.abc import Callable

import numpy as np

from minise.ops.checks import Array
from minise.ops.jit.compiler.compile import part
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import kept, lanes_of, load, store

# Fills out (N, OH, OW, K) from source (N, H, W, C), shortcut (as out, or none) and relu
Correlation = Callable[[Array, Array, bool, Array], None]

NO_BIAS = {np.dtype(t): frozen(np.empty(0, t)) for t in (np.float32, np.float64)}
NO_SHORTCUT = {np.dtype(t): frozen(np.empty((0, 0, 0, 0), t)) for t in (np.float32, np.float64)}


def plainly(bias: Array | None, like: Array) -> Array:
    """Return a bias as kernels take it: empty where it is None."""
    return NO_BIAS[like.dtype] if bias is None else frozen(bias)


@part
def finish(results, at, apart, count, pixels, first, bias, shortcut, relu, out, to, out_apart):
    """Set some numbers of a row of pixels of out to results + bias + shortcut, with relu above 0.

    A pixel has `count` numbers, its first one has bias[first], and pixels lie apart by so many
    numbers. bias and shortcut may be empty; shortcut lies as out does.
    """
    lanes = lanes_of(out.dtype)
    whole = count - count % lanes
    for _ in range(pixels):
        for k in range(0, whole, lanes):
            y = load(results, at + k)
            if len(bias):
                y = y + load(bias, first + k)
            if len(shortcut):
                y = y + load(shortcut, to + k)
            if relu:
                y = kept(y, y)
            store(y, out, to + k)
        for k in range(whole, count):
            z = results[at + k]
            if len(bias):
                z += bias[first + k]
            if len(shortcut):
                z += shortcut[to + k]
            out[to + k] = 0 if relu and z <= 0 else z
        at += apart
        to += out_apart

"""The dense layer on the GPU: matrix products, which can round to TF32, without copies."""

from minise.checks import Array
from minise.ops.cuda.launcher import Launcher
from minise.ops.reference.linear import SHAPES, LinearCache
from minise.ops.reference.sums import sum_over
from minise.ops.shapes import check_arrays, check_gradient


def linear_forward(
    gpu: Launcher, x: Array, weight: Array, bias: Array | None = None
) -> tuple[Array, LinearCache]:
    """See minise.ops.reference.linear_forward."""
    check_arrays("linear", SHAPES["linear"], x, weight, bias)
    out = gpu.xp.empty((len(x), len(weight)), x.dtype)
    gpu.multiply(gpu.contiguous(x), gpu.contiguous(weight).T, out)
    if bias is not None:
        out += bias
    return out, LinearCache(x, weight, bias)


def linear_backward(gpu: Launcher, dout: Array, cache: LinearCache) -> tuple[Array | None, ...]:
    """See minise.ops.reference.linear_backward."""
    x, weight, bias = cache
    check_gradient("linear", dout, x, (len(x), len(weight)))
    dout = gpu.contiguous(dout)
    dx, dweight = (gpu.xp.empty(a.shape, x.dtype) for a in (x, weight))
    gpu.multiply(dout, gpu.contiguous(weight), dx)
    gpu.multiply(dout.T, gpu.contiguous(x), dweight)
    return dx, dweight, None if bias is None else sum_over(dout, 0)

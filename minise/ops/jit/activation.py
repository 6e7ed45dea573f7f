"""Activations, compiled: elementwise, in memory order.

The formulas are in minise/ops/reference/activation.py, their scalar functions in
normalisation/gates.py.
"""

from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.normalisation.gates import SIGMOID, gate_backward, gate_forward
from minise.ops.jit.vector.layout import flat, unflat
from minise.ops.jit.vector.memory import empty_like
from minise.ops.reference.activation import (
    SHAPES,
    HardSigmoidCache,
    ReluCache,
    SigmoidCache,
    SiluCache,
    TanhCache,
)
from minise.ops.reference.gates import GATES
from minise.ops.shapes import check_arrays, check_gradient


def relu_forward(x: Array) -> tuple[Array, ReluCache]:
    """See minise.ops.reference.relu_forward."""
    out = _forward("relu", x)
    return out, ReluCache(out)


def relu_backward(dout: Array, cache: ReluCache) -> tuple[Array]:
    """See minise.ops.reference.relu_backward."""
    return _backward("relu", dout, cache.out)


def sigmoid_forward(x: Array) -> tuple[Array, SigmoidCache]:
    """See minise.ops.reference.sigmoid_forward."""
    out = _forward("sigmoid", x)
    return out, SigmoidCache(out)


def sigmoid_backward(dout: Array, cache: SigmoidCache) -> tuple[Array]:
    """See minise.ops.reference.sigmoid_backward."""
    return _backward("sigmoid", dout, cache.out)


def tanh_forward(x: Array) -> tuple[Array, TanhCache]:
    """See minise.ops.reference.tanh_forward."""
    out = _forward("tanh", x)
    return out, TanhCache(out)


def tanh_backward(dout: Array, cache: TanhCache) -> tuple[Array]:
    """See minise.ops.reference.tanh_backward."""
    return _backward("tanh", dout, cache.out)


def hard_sigmoid_forward(x: Array) -> tuple[Array, HardSigmoidCache]:
    """See minise.ops.reference.hard_sigmoid_forward."""
    out = _forward("hard_sigmoid", x)
    return out, HardSigmoidCache(out)


def hard_sigmoid_backward(dout: Array, cache: HardSigmoidCache) -> tuple[Array]:
    """See minise.ops.reference.hard_sigmoid_backward."""
    return _backward("hard_sigmoid", dout, cache.out)


def silu_forward(x: Array) -> tuple[Array, SiluCache]:
    """See minise.ops.reference.silu_forward."""
    check_arrays("silu", SHAPES["silu"], x)
    numbers = flat(x)
    out, s = empty_like(numbers), empty_like(numbers)
    _silu(numbers, out, s)
    out, s = unflat(out, x), unflat(s, x)
    return out, SiluCache(out, s)


def silu_backward(dout: Array, cache: SiluCache) -> tuple[Array]:
    """See minise.ops.reference.silu_backward."""
    out, s = cache
    check_gradient("silu", dout, out)
    numbers = flat(out)
    dx = empty_like(numbers)
    _silu_backward(flat(dout, like=out), numbers, flat(s, like=out), dx)
    return (unflat(dx, out),)


def _forward(op: str, x: Array) -> Array:
    check_arrays(op, SHAPES[op], x)
    numbers = flat(x)
    out = empty_like(numbers)
    _gates(numbers, GATES.index(op), out)
    return unflat(out, x)


def _backward(op: str, dout: Array, out: Array) -> tuple[Array]:
    check_gradient(op, dout, out)
    numbers = flat(out)
    dx = empty_like(numbers)
    _gates_backward(flat(dout, like=out), numbers, GATES.index(op), dx)
    return (unflat(dx, out),)


@kernel
def _gates(x, gate, out):
    for i in prange(len(x)):
        out[i] = gate_forward(x[i], gate)


@kernel
def _gates_backward(dout, out, gate, dx):
    for i in prange(len(dout)):
        dx[i] = gate_backward(dout[i], out[i], gate)


@kernel
def _silu(x, out, s):
    for i in prange(len(x)):
        s[i] = gate_forward(x[i], SIGMOID)
        out[i] = x[i] * s[i]


@kernel
def _silu_backward(dout, out, s, dx):
    for i in prange(len(dout)):
        dx[i] = dout[i] * (s[i] + out[i] * (1 - s[i]))

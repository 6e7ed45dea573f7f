"""Activations, compiled: one number at a time, in the order in which they lie in memory.

The formulas are in minise/ops/reference/activation.py and gates.py.
"""

import math

from numba import prange

from minise.ops.checks import Array, check_arrays, check_gradient
from minise.ops.jit.compiler.compile import kernel, part
from minise.ops.jit.vector.layout import flat, unflat
from minise.ops.jit.vector.memory import empty_like
from minise.ops.reference.activation import (
    SHAPES,
    HardSigmoidCache,
    ReluCache,
    SigmoidCache,
    TanhCache,
)
from minise.ops.reference.gates import GATES

SIGMOID, TANH, RELU, HARD_SIGMOID = range(4)  # the order of GATES


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


@part
def gate_forward(v, gate):
    """Return s of one number."""
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


@part
def gate_backward(ds, s, gate):
    """Return dv of one number, from s alone."""
    if gate == SIGMOID:
        return ds * s * (1 - s)
    if gate == TANH:
        return ds * (1 - s * s)
    if s <= 0 or (gate == HARD_SIGMOID and s >= 1):
        return 0.0
    return ds if gate == RELU else ds / 6

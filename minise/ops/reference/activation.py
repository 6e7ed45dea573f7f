"""Elementwise activations; gates.py has the formulas and slopes.

Each slope is a function of out alone (sigmoid: s (1 - s); tanh: 1 - t t; ReLU: 1 where out is above
0), so the cache holds only out, which the next op stores anyway. SiLU is not monotonic, so its
cache holds the sigmoid too. At a kink the slope is 0, as in PyTorch.
"""

from typing import NamedTuple

from minise.checks import Array
from minise.ops.reference.gates import gate_backward, gate_forward, gate_side
from minise.ops.shapes import check_arrays, check_gradient

SHAPES = {
    "relu": "x: ...",
    "sigmoid": "x: ...",
    "tanh": "x: ...",
    "hard_sigmoid": "x: ...",
    "silu": "x: ...",
}


class ReluCache(NamedTuple):
    """What backward needs from forward."""

    out: Array  # of the shape of x


class SigmoidCache(NamedTuple):
    """What backward needs from forward."""

    out: Array  # of the shape of x


class TanhCache(NamedTuple):
    """What backward needs from forward."""

    out: Array  # of the shape of x


class HardSigmoidCache(NamedTuple):
    """What backward needs from forward."""

    out: Array  # of the shape of x


class SiluCache(NamedTuple):
    """What backward needs from forward."""

    out: Array  # of the shape of x
    s: Array  # of the shape of x: the sigmoid of x


def relu_forward(x: Array) -> tuple[Array, ReluCache]:
    """Return x where it is above 0, and 0 elsewhere.

    Parameters
    ----------
    x : ndarray of any shape
        Pre-activations.

    Returns
    -------
    out : ndarray of the shape of x
        A new array, in the dtype of x.
    cache : ReluCache
        For relu_backward.

    Raises
    ------
    ValueError, TypeError
        If x is empty, or not of a float dtype.
    """
    check_arrays("relu", SHAPES["relu"], x, complex_step=True)
    out = gate_forward(x, "relu")
    return out, ReluCache(out)


def relu_backward(dout: Array, cache: ReluCache) -> tuple[Array]:
    """Return dx: dout where out is above 0, and 0 elsewhere. Raises as relu_forward does."""
    check_gradient("relu", dout, cache.out)

    # forward: out = max(x, 0)
    # why: max(x, 0) follows x with slope 1 where x is positive, so dout passes there, and stays at
    #      0 with slope 0 elsewhere, so nothing does; out is positive exactly where x is.
    dx = gate_backward(dout, cache.out, "relu")
    return (dx,)


def relu_branches(cache: ReluCache) -> Array:
    """Return, of the shape of x, 1 where x is above 0 (or NaN), and 0 elsewhere."""
    return gate_side(cache.out, "relu")


def sigmoid_forward(x: Array) -> tuple[Array, SigmoidCache]:
    """Return 1 / (1 + exp(-x)).

    Parameters
    ----------
    x : ndarray of any shape
        Logits; no value overflows.

    Returns
    -------
    out : ndarray of the shape of x
        In 0..1, a new array, in the dtype of x.
    cache : SigmoidCache
        For sigmoid_backward.

    Raises
    ------
    ValueError, TypeError
        If x is empty, or not of a float dtype.
    """
    check_arrays("sigmoid", SHAPES["sigmoid"], x, complex_step=True)
    out = gate_forward(x, "sigmoid")
    return out, SigmoidCache(out)


def sigmoid_backward(dout: Array, cache: SigmoidCache) -> tuple[Array]:
    """Return dx = dout * out * (1 - out). Raises as sigmoid_forward does."""
    check_gradient("sigmoid", dout, cache.out)

    # forward: out = 1 / (1 + exp(-x))
    # why: With e = exp(-x) the slope of out = 1 / (1 + e) is e / (1 + e) ** 2: that is out times e
    #      / (1 + e), and e / (1 + e) = 1 - out, hence out (1 - out). Each out depends on its own x
    #      alone, so there is no sum.
    dx = gate_backward(dout, cache.out, "sigmoid")
    return (dx,)


def tanh_forward(x: Array) -> tuple[Array, TanhCache]:
    """Return the hyperbolic tangent of x.

    Parameters
    ----------
    x : ndarray of any shape
        Pre-activations.

    Returns
    -------
    out : ndarray of the shape of x
        In -1..1, a new array, in the dtype of x.
    cache : TanhCache
        For tanh_backward.

    Raises
    ------
    ValueError, TypeError
        If x is empty, or not of a float dtype.
    """
    check_arrays("tanh", SHAPES["tanh"], x, complex_step=True)
    out = gate_forward(x, "tanh")
    return out, TanhCache(out)


def tanh_backward(dout: Array, cache: TanhCache) -> tuple[Array]:
    """Return dx = dout * (1 - out * out). Raises as tanh_forward does."""
    check_gradient("tanh", dout, cache.out)

    # forward: out = tanh(x)
    # why: tanh is sinh / cosh, so by the quotient rule its slope is (cosh ** 2 - sinh ** 2) / cosh
    #      ** 2, that is 1 - out * out; each out depends on its own x alone, so there is no sum.
    dx = gate_backward(dout, cache.out, "tanh")
    return (dx,)


def hard_sigmoid_forward(x: Array) -> tuple[Array, HardSigmoidCache]:
    """Return relu6(x + 3) / 6, a piecewise linear sigmoid with kinks at -3 and 3.

    Parameters
    ----------
    x : ndarray of any shape
        Logits.

    Returns
    -------
    out : ndarray of the shape of x
        In 0..1, a new array, in the dtype of x.
    cache : HardSigmoidCache
        For hard_sigmoid_backward.

    Raises
    ------
    ValueError, TypeError
        If x is empty, or not of a float dtype.
    """
    check_arrays("hard_sigmoid", SHAPES["hard_sigmoid"], x, complex_step=True)
    out = gate_forward(x, "hard_sigmoid")
    return out, HardSigmoidCache(out)


def hard_sigmoid_backward(dout: Array, cache: HardSigmoidCache) -> tuple[Array]:
    """Return dx: dout / 6 between the kinks, and 0 elsewhere. Raises as hard_sigmoid_forward."""
    check_gradient("hard_sigmoid", dout, cache.out)

    # forward: out = relu6(x + 3) / 6
    # why: Between -3 and 3 out is the line (x + 3) / 6, of slope 1/6; beyond, it stays at 0 or 1
    #      whatever x does, so its slope is 0 there.
    dx = gate_backward(dout, cache.out, "hard_sigmoid")
    return (dx,)


def hard_sigmoid_branches(cache: HardSigmoidCache) -> Array:
    """Return, of the shape of x, 0 up to -3, 2 from 3 on, and 1 between (or for NaN)."""
    return gate_side(cache.out, "hard_sigmoid")


def silu_forward(x: Array) -> tuple[Array, SiluCache]:
    """Return x * sigmoid(x), the sigmoid linear unit, also called swish (arXiv:1702.03118).

    Parameters
    ----------
    x : ndarray of any shape
        Pre-activations; no value overflows. As in PyTorch, out is NaN at -inf and dx is NaN at
        both infinities, because they are inf * 0.

    Returns
    -------
    out : ndarray of the shape of x
        At least -0.279, a new array, in the dtype of x.
    cache : SiluCache
        For silu_backward.

    Raises
    ------
    ValueError, TypeError
        If x is empty, or not of a float dtype.
    """
    check_arrays("silu", SHAPES["silu"], x, complex_step=True)
    s = gate_forward(x, "sigmoid")
    out = x * s
    return out, SiluCache(out, s)


def silu_backward(dout: Array, cache: SiluCache) -> tuple[Array]:
    """Return dx = dout * (s + out * (1 - s)). Raises as silu_forward does.

    By the product rule the slope is s + x s', where s' = s (1 - s) and x s = out: x is not needed.
    """
    check_gradient("silu", dout, cache.out)
    out, s = cache

    # forward: out = x * s
    # why: x is in both factors, so by the product rule the slope is s, for x itself, plus x times
    #      the slope s (1 - s) of the sigmoid; and x s is out, so the second term is out (1 - s).
    dx = dout * (s + out * (1 - s))
    return (dx,)

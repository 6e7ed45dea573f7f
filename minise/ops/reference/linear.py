"""The linear (dense, fully connected) layer: out = x @ weight.T + bias.

Row by row, ``out[n, o] = sum over i of x[n, i] * weight[o, i] + bias[o]``. A small change of x
therefore changes out by ``dx @ weight.T``, and a change of weight by ``x @ dweight.T``; backward
computes the transposes of these two products, and the shapes allow only one order::

    dx      (N, I) = dout (N, O)   @ weight (O, I)
    dweight (O, I) = dout.T (O, N) @ x (N, I)
"""

from typing import NamedTuple

from minise.checks import Array
from minise.ops.reference.sums import matmul, sum_over
from minise.ops.shapes import check_arrays, check_gradient

SHAPES = {"linear": "x: N I, weight: O I, bias?: O"}


class LinearCache(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (N, I)
    weight: Array  # (O, I)
    bias: Array | None  # (O,)


def linear_forward(x: Array, weight: Array, bias: Array | None = None) -> tuple[Array, LinearCache]:
    """Return x @ weight.T + bias.

    Parameters
    ----------
    x : ndarray of shape (N, I)
        One row per sample.
    weight : ndarray of shape (O, I)
        One row per output.
    bias : ndarray of shape (O,), optional
        Added to each output.

    Returns
    -------
    out : ndarray of shape (N, O)
        A new array, in the dtype of x.
    cache : LinearCache
        For linear_backward.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree.
    """
    check_arrays("linear", SHAPES["linear"], x, weight, bias, complex_step=True)
    product = matmul(x, weight.T)
    out = product if bias is None else product + bias
    return out, LinearCache(x, weight, bias)


def linear_backward(dout: Array, cache: LinearCache) -> tuple[Array | None, ...]:
    """Return the gradients of the loss with respect to x, weight and bias.

    Parameters
    ----------
    dout : ndarray of shape (N, O)
        Gradient of the loss with respect to out.
    cache : LinearCache
        As forward returned it.

    Returns
    -------
    dx, dweight, dbias : ndarray
        With the shapes of x, weight, bias; dbias is None if bias was None.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out.
    """
    x, weight, bias = cache
    check_gradient("linear", dout, x, (len(x), len(weight)))

    # forward: out = product + bias
    # why: bias[o] is added to out[n, o] of every row n with slope 1, so its gradient sums dout over
    #      n.
    dbias = None if bias is None else sum_over(dout, 0)

    # forward: product = matmul(x, weight.T)
    # why: x[n, i] is a term of every out[n, o], with the factor weight[o, i], so its gradient sums
    #      over o; forward summed over i with weight transposed, and summing over o takes weight as
    #      it is.
    dx = matmul(dout, weight)
    # why: weight[o, i] multiplies x[n, i] in out[n, o] of every row n, so its gradient sums dout[n,
    #      o] * x[n, i] over n; a matrix product sums over the inner axis, and dout is transposed to
    #      put n there.
    dweight = matmul(dout.T, x)
    return dx, dweight, dbias

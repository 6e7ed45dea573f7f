"""Fused ops: the ends of residual units, each equal to the sequence of ops that it replaces.

    batch_norm2d_relu        out = relu(batch_norm2d(x))
    batch_norm2d_add_relu    out = relu(batch_norm2d(x) + shortcut)
    se_block_tail            out = relu(squeeze_excite(batch_norm2d(x)) + shortcut)

They are implemented here as that composition, so that no derivation is repeated. A fast back end
saves memory traffic, the cost of such ops, because it writes no array between x and out. Arrays of
x's size that are read and written, by separate ops and fused:

                             forward             fused    backward            fused
    batch_norm2d_relu        3 read, 2 written    2, 1    6 read, 2 written    6, 1
    batch_norm2d_add_relu    5 read, 3 written    3, 1    6 read, 2 written    5, 2
    se_block_tail            7 read, 4 written    3, 1    9 read, 3 written    5, 2

The closed form of a fused implementation follows. Let y = gamma * xhat + beta, with xhat as in
norm.py, and let s be the gates of squeeze_excite.py, one for each image n and channel c; the two
ops without gates have s = 1 and dz = 0. The squeeze needs no pass over x, because y is affine in x
per channel, and so is its mean in the mean of x::

    zhat = (mean of x over H, W - mean) * rstd          (N, C)
    z    = gamma * zhat + beta
    out  = relu(s * (gamma * xhat + beta) + shortcut)

Backward, one pass over dout, out and x computes two sums for each (n, c), which determine all
gradients except dx::

    g     = dout, but 0 where out <= 0                 (N, C, H, W)    the gradient before the ReLU
    sum_g = sum of g over H, W                         (N, C)
    sum_gxhat = sum of g * xhat over H, W              (N, C)
              = rstd * (sum of g * x - mean * sum_g)                   from a sum of g * x

    dshortcut = g
    ds = sum of g * y over H, W = gamma * sum_gxhat + beta * sum_g     (N, C)

From ds, squeeze_excite.py's backward computes dw1, db1, dw2, db2 and dz without reading an image.
y reaches out through the scale and through the gate, so its gradient is
``dy = s * g + dz / (H * W)``, and::

    dbeta  = sum of dy over N, H, W        = sum over N of s * sum_g + dz
    dgamma = sum of dy * xhat over N, H, W = sum over N of s * sum_gxhat + dz * zhat

and norm.py's dx, with M = N * H * W, is an affine map of g and xhat, written by a second pass::

    dx = gamma * rstd * (dy - dbeta / M - xhat * dgamma / M)                     in training
       = (gamma * rstd * s) * g                                                  (N, C) times g
       + (gamma * rstd) * (dz / (H * W) - dbeta / M)                             (N, C)
       - (gamma * rstd * dgamma / M) * xhat                                      (C,) times xhat

In evaluation the two terms over M are absent. zhat is in the cache beside z, because it cannot be
computed from z where gamma is 0 or small.
"""

from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array, check_choice
from minise.ops.reference.activation import ReluCache, relu_backward, relu_forward
from minise.ops.reference.combine import AddCache, add_backward, add_forward
from minise.ops.reference.gates import GATES, gate_side
from minise.ops.reference.norm import (
    BatchNorm2dCache,
    batch_norm2d_backward,
    batch_norm2d_forward,
)
from minise.ops.reference.squeeze_excite import (
    Gates,
    SqueezeExciteCache,
    squeeze_excite_backward,
    squeeze_excite_forward,
)
from minise.ops.reference.sums import mean_over
from minise.ops.shapes import check_arrays, check_batch_norm, check_gradient

STATISTICS = "running_mean: C, running_var: C"
SHAPES = {
    "batch_norm2d_relu": f"x: N C H W, gamma: C, beta: C; {STATISTICS}",
    "batch_norm2d_add_relu": f"x: N C H W, gamma: C, beta: C, shortcut: N C H W; {STATISTICS}",
    "se_block_tail": "x: N C H W, gamma: C, beta: C, w1: R C, b1?: R, w2: C R, b2?: C, "
    f"shortcut: N C H W; {STATISTICS}",
}


class BatchNorm2dReluCache(NamedTuple):
    """What backward needs from forward; the fields of norm are attributes of it as well."""

    norm: BatchNorm2dCache
    out: Array  # (N, C, H, W)  above 0 where the ReLU passes its input

    def __getattr__(self, name: str) -> Any:  # running_mean, running_var, training, …
        return getattr(self.norm, name)


class BatchNorm2dAddReluCache(NamedTuple):
    """What backward needs from forward; the fields of norm are attributes of it as well."""

    norm: BatchNorm2dCache
    out: Array  # (N, C, H, W)  above 0 where the ReLU passes its input

    def __getattr__(self, name: str) -> Any:  # running_mean, running_var, training, …
        return getattr(self.norm, name)


class SeBlockTailCache(NamedTuple):
    """What backward needs from forward; the fields of norm are attributes of it as well."""

    norm: BatchNorm2dCache
    gates: Gates
    zhat: Array  # (N, C, 1, 1)  mean of xhat over H, W, for fused back ends
    out: Array  # (N, C, H, W)  above 0 where the ReLU passes its input

    def __getattr__(self, name: str) -> Any:  # running_mean, running_var, training, …
        return getattr(self.norm, name)


def batch_norm2d_relu_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNorm2dReluCache]:
    """Return relu(batch_norm2d(x)).

    Parameters
    ----------
    x, gamma, beta, running_mean, running_var, training, momentum, eps
        As in batch_norm2d_forward.

    Returns
    -------
    out : ndarray of shape (N, C, H, W)
        A new array, in the dtype of x, nowhere below 0.
    cache : BatchNorm2dReluCache
        For batch_norm2d_relu_backward; its running_mean and running_var are updated.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or settings are wrong, or there is only one value per channel.
    """
    arrays = x, gamma, beta, running_mean, running_var
    check_arrays("batch_norm2d_relu", SHAPES["batch_norm2d_relu"], *arrays, complex_step=True)
    check_batch_norm("batch_norm2d_relu", x, training, momentum, eps)
    settings: dict[str, Any] = dict(training=training, momentum=momentum, eps=eps)
    y, norm = batch_norm2d_forward(
        x, gamma, beta, running_mean=running_mean, running_var=running_var, **settings
    )
    out, _ = relu_forward(y)
    return out, BatchNorm2dReluCache(norm, out)


def batch_norm2d_relu_backward(dout: Array, cache: BatchNorm2dReluCache) -> tuple[Array, ...]:
    """Return the gradients of the loss with respect to x, gamma and beta.

    Parameters
    ----------
    dout : ndarray of shape (N, C, H, W)
        Gradient of the loss with respect to out.
    cache : BatchNorm2dReluCache
        As forward returned it.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        With the shapes of x, gamma, beta.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out.
    """
    check_gradient("batch_norm2d_relu", dout, cache.out)

    # forward: out = relu(y)
    (dy,) = relu_backward(dout, ReluCache(cache.out))

    # forward: y = batch_norm2d(x, gamma, beta)
    dx, dgamma, dbeta = batch_norm2d_backward(dy, cache.norm)
    return dx, dgamma, dbeta


def batch_norm2d_relu_branches(cache: BatchNorm2dReluCache) -> Array:
    """Return, of the shape of out, 1 where it is above 0 (or NaN), and 0 elsewhere."""
    return gate_side(cache.out, "relu")


def batch_norm2d_add_relu_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    shortcut: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNorm2dAddReluCache]:
    """Return relu(batch_norm2d(x) + shortcut).

    Parameters
    ----------
    x, gamma, beta, running_mean, running_var, training, momentum, eps
        As in batch_norm2d_forward.
    shortcut : ndarray of shape (N, C, H, W)
        The shortcut of the residual unit whose branch ends in x.

    Returns
    -------
    out : ndarray of shape (N, C, H, W)
        A new array, in the dtype of x, nowhere below 0.
    cache : BatchNorm2dAddReluCache
        For batch_norm2d_add_relu_backward; its running_mean and running_var are updated.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or settings are wrong, or there is only one value per channel.
    """
    arrays = x, gamma, beta, shortcut, running_mean, running_var
    line = SHAPES["batch_norm2d_add_relu"]
    check_arrays("batch_norm2d_add_relu", line, *arrays, complex_step=True)
    check_batch_norm("batch_norm2d_add_relu", x, training, momentum, eps)
    settings: dict[str, Any] = dict(training=training, momentum=momentum, eps=eps)
    y, norm = batch_norm2d_forward(
        x, gamma, beta, running_mean=running_mean, running_var=running_var, **settings
    )
    total, _ = add_forward(y, shortcut)
    out, _ = relu_forward(total)
    return out, BatchNorm2dAddReluCache(norm, out)


def batch_norm2d_add_relu_backward(
    dout: Array, cache: BatchNorm2dAddReluCache
) -> tuple[Array, ...]:
    """Return the gradients of the loss with respect to x, gamma, beta and the shortcut.

    Parameters
    ----------
    dout : ndarray of shape (N, C, H, W)
        Gradient of the loss with respect to out.
    cache : BatchNorm2dAddReluCache
        As forward returned it.

    Returns
    -------
    dx, dgamma, dbeta, dshortcut : ndarray
        With the shapes of x, gamma, beta, shortcut.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out.
    """
    check_gradient("batch_norm2d_add_relu", dout, cache.out)

    # forward: out = relu(total)
    (dtotal,) = relu_backward(dout, ReluCache(cache.out))

    # forward: total = y + shortcut
    dy, dshortcut = add_backward(dtotal, AddCache(cache.out.shape, cache.out.dtype))

    # forward: y = batch_norm2d(x, gamma, beta)
    dx, dgamma, dbeta = batch_norm2d_backward(dy, cache.norm)
    return dx, dgamma, dbeta, dshortcut


def batch_norm2d_add_relu_branches(cache: BatchNorm2dAddReluCache) -> Array:
    """Return, of the shape of out, 1 where it is above 0 (or NaN), and 0 elsewhere."""
    return gate_side(cache.out, "relu")


def se_block_tail_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    w1: Array,
    b1: Array | None,
    w2: Array,
    b2: Array | None,
    shortcut: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    gate: str = "sigmoid",
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, SeBlockTailCache]:
    """Return relu(squeeze_excite(batch_norm2d(x)) + shortcut).

    Parameters
    ----------
    x, gamma, beta, running_mean, running_var, training, momentum, eps
        As in batch_norm2d_forward.
    w1, b1, w2, b2, gate
        As in squeeze_excite_forward with squeeze="avg".
    shortcut : ndarray of shape (N, C, H, W)
        The shortcut of the residual unit whose branch ends in x.

    Returns
    -------
    out : ndarray of shape (N, C, H, W)
        A new array, in the dtype of x, nowhere below 0.
    cache : SeBlockTailCache
        For se_block_tail_backward; its running_mean and running_var are updated.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or settings are wrong, or there is only one value per channel.
    """
    arrays = x, gamma, beta, w1, b1, w2, b2, shortcut, running_mean, running_var
    check_arrays("se_block_tail", SHAPES["se_block_tail"], *arrays, complex_step=True)
    check_batch_norm("se_block_tail", x, training, momentum, eps)
    check_choice("se_block_tail", "gate", gate, GATES)
    settings: dict[str, Any] = dict(training=training, momentum=momentum, eps=eps)
    y, norm = batch_norm2d_forward(
        x, gamma, beta, running_mean=running_mean, running_var=running_var, **settings
    )
    gated, se = squeeze_excite_forward(y, w1, b1, w2, b2, squeeze="avg", gate=gate)
    total, _ = add_forward(gated, shortcut)
    out, _ = relu_forward(total)
    centred = mean_over(x, (2, 3), keepdims=True) - norm.mean[:, None, None]
    zhat = centred * norm.rstd[:, None, None]
    return out, SeBlockTailCache(norm, se.gates, zhat, out)


def se_block_tail_backward(dout: Array, cache: SeBlockTailCache) -> tuple[Array | None, ...]:
    """Return the gradients of the loss with respect to the eight arrays of forward.

    Parameters
    ----------
    dout : ndarray of shape (N, C, H, W)
        Gradient of the loss with respect to out.
    cache : SeBlockTailCache
        As forward returned it.

    Returns
    -------
    dx, dgamma, dbeta, dw1, db1, dw2, db2, dshortcut : ndarray
        With the shapes of x, gamma, beta, w1, b1, w2, b2, shortcut; db1 and db2 are None if b1 and
        b2 were.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out.
    """
    check_gradient("se_block_tail", dout, cache.out)

    # forward: out = relu(total)
    (dtotal,) = relu_backward(dout, ReluCache(cache.out))

    # forward: total = gated + shortcut
    dgated, dshortcut = add_backward(dtotal, AddCache(cache.out.shape, cache.out.dtype))

    # forward: gated = squeeze_excite(y, w1, b1, w2, b2)
    # y is computed again, because no array between x and out is kept
    dy, dw1, db1, dw2, db2 = squeeze_excite_backward(dgated, _squeeze_excite_cache(cache))
    assert dy is not None  # only biases may have no gradient

    # forward: y = batch_norm2d(x, gamma, beta)
    dx, dgamma, dbeta = batch_norm2d_backward(dy, cache.norm)
    return dx, dgamma, dbeta, dw1, db1, dw2, db2, dshortcut


def se_block_tail_branches(cache: SeBlockTailCache) -> Array:
    """Return the side of every kink as one row of integers.

    The row holds the sides of the hidden units and of the gates (see gate_side), then of out.
    """
    gates = cache.gates
    sides = gate_side(gates.h, "relu"), gate_side(gates.s, gates.gate), gate_side(cache.out, "relu")
    return np.concatenate([side.ravel() for side in sides])


def _squeeze_excite_cache(cache: SeBlockTailCache) -> SqueezeExciteCache:
    """Return squeeze_excite's cache; y has the same bits as in batch_norm2d_forward."""
    x, gamma, beta, mean, rstd, *_ = cache.norm
    xhat = (x - mean[:, None, None]) * rstd[:, None, None]
    y = gamma[:, None, None] * xhat + beta[:, None, None]
    return SqueezeExciteCache(y, None, cache.gates)

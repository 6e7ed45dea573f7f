"""By how much two right back ends may differ: what rounding can do, entry by entry.

Two sums of the same terms in different orders differ by at most one rounding of the terms'
magnitude for each term. So for every op, `magnitudes` bounds what the terms of out and of each
gradient add up to, all taken as positive.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minise.ops import reference
from minise.ops.checks import Array

SELECTING = {"max_pool2d", "global_max_pool2d", "relu"}
POINTWISE = {"sigmoid", "tanh", "hard_sigmoid"}


def magnitudes(op: str, inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Return one bound for out and one for each gradient, entry by entry."""
    if op in SELECTING:
        out, cache = getattr(reference, f"{op}_forward")(*inputs, **keywords)
        return [abs(out), *getattr(reference, f"{op}_backward")(abs(dout), cache)]
    if op in POINTWISE:  # slopes are at most 1
        return [1 + abs(inputs[0]), abs(dout)]
    special: dict[str, Callable[..., list[Any]]] = dict(
        batch_norm2d=_batch_norm_terms,
        batch_norm2d_add_relu=_batch_norm_relu_terms,
        batch_norm2d_relu=_batch_norm_relu_terms,
        se_block_tail=_se_block_tail_terms,
        softmax_cross_entropy=_cross_entropy_terms,
        squeeze_excite=_squeeze_excite_terms,
    )
    if op in special:
        return special[op](inputs, keywords, dout)
    positive = [a if a is None or a.dtype == bool else abs(a) for a in inputs]  # sums of products
    out, cache = getattr(reference, f"{op}_forward")(*positive, **keywords)
    return [out, *getattr(reference, f"{op}_backward")(abs(dout), cache)]


def _batch_norm_terms(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound batch norm: taking off the mean costs x's digits as often as x is deviations long."""
    x, gamma, beta = inputs
    out, cache = reference.batch_norm2d_forward(x, gamma, beta, **keywords)
    axes = (0, 2, 3)
    g, rstd = abs(gamma)[:, None, None], cache.rstd[:, None, None]
    mean = abs(cache.mean)[:, None, None]
    lost = 1 + rstd * (abs(x).max(axis=axes, keepdims=True) + mean)
    xhat = 1 + rstd * abs(x - cache.mean[:, None, None])
    d = abs(dout)
    dgamma = (d * xhat).sum(axis=axes, keepdims=True) * lost
    count = x.size // len(gamma)
    dx = 4 * g * rstd * lost * (d + (d.sum(axis=axes, keepdims=True) + xhat * dgamma) / count)
    out = g * lost * xhat + abs(beta)[:, None, None]
    return [out, dx, dgamma.ravel(), d.sum(axis=axes)]


def _batch_norm_relu_terms(
    inputs: Sequence[Any], keywords: dict[str, Any], dout: Array
) -> list[Any]:
    """Bound batch norm, shortcut and ReLU by batch norm, where the ReLU lets through.

    The ReLU makes no difference larger and selects; so does the sum with the shortcut in backward.
    """
    *norm, shortcut = inputs if len(inputs) == 4 else (*inputs, None)
    op = "batch_norm2d_relu" if shortcut is None else "batch_norm2d_add_relu"
    _, cache = getattr(reference, f"{op}_forward")(*inputs, **keywords)
    g = np.where(cache.out <= 0, 0, abs(dout))
    out, *gradients = _batch_norm_terms(norm, keywords, g)
    return [out, *gradients] if shortcut is None else [out + abs(shortcut), *gradients, g]


def _se_block_tail_terms(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound the tail part by part: what bounds batch norm's out goes into SE, and back again.

    A bound on a part's rounding bounds its numbers too, so that the next part's bound covers what
    it makes of their errors.
    """
    x, gamma, beta, w1, b1, w2, b2, shortcut = inputs
    _, cache = reference.se_block_tail_forward(*inputs, **keywords)
    g = np.where(cache.out <= 0, 0, abs(dout))
    norm = {name: value for name, value in keywords.items() if name != "gate"}
    y, *_ = _batch_norm_terms((x, gamma, beta), norm, g)
    gated, dy, *dense = _squeeze_excite_terms((y, w1, b1, w2, b2), {}, g)
    _, *gradients = _batch_norm_terms((x, gamma, beta), norm, dy)
    return [gated + abs(shortcut), *gradients, *dense, g]


def _cross_entropy_terms(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound the loss: a log-probability is a difference of logits and of at most log(K)."""
    logits, _ = inputs
    N, K = logits.shape
    largest = 1 + math.log(K) + np.ptp(logits, axis=1, keepdims=True)
    return [largest.mean(), abs(dout) / N * np.broadcast_to(1 + largest, logits.shape), None]


def _squeeze_excite_terms(
    inputs: Sequence[Any], keywords: dict[str, Any], dout: Array
) -> list[Any]:
    """Bound SE by its run on absolute values with the gate max(v, 0).

    Its slope 1 is the largest of all gates, and b2 + 1 makes it pass every gate's s and |v|.
    Slopes change by at most 2 per unit of v.
    """
    positive: list[Any] = [None if a is None else abs(a) for a in inputs]
    x, w1, b1, w2, b2 = positive
    squeeze = keywords.get("squeeze", "avg")
    x = np.broadcast_to(x.max(axis=(2, 3), keepdims=True), x.shape) if squeeze == "max" else x
    b2 = 1 + (np.zeros(len(w2), w2.dtype) if b2 is None else b2)
    out, cache = reference.squeeze_excite_forward(x, w1, b1, w2, b2, squeeze=squeeze, gate="relu")
    gradients = reference.squeeze_excite_backward(abs(dout), cache)
    steepness = 1 + 2 * cache.s.max()
    terms = [None if a is None else a * steepness for a in (out, *gradients)]
    return [t if a is not None else None for t, a in zip(terms, (out, *inputs), strict=True)]


def count_of(inputs: Sequence[Any], out: Array) -> int:
    """Return how many numbers an op has: no sum in it is longer."""
    return int(out.size + sum(a.size for a in inputs if a is not None))

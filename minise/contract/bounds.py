"""By how much two right back ends may differ: what rounding can do, entry by entry.

Two sums of the same terms in different orders differ by at most one rounding of the terms'
magnitude for each term. So for every op, `magnitudes` bounds what the terms of out and of each
gradient add up to, all taken as positive. Where an op does one thing after another, an error on
the way grows by what comes behind it, to first order: batch norm, SE and the fused ops are
followed step by step.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minise.ops import reference
from minise.ops.checks import Array
from minise.ops.reference.gates import gate_backward
from minise.ops.reference.norm import AXES
from minise.ops.reference.squeezes import SQUEEZES, squeeze_backward

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
    _, cache = reference.batch_norm2d_forward(*inputs, **keywords)
    return [_norm_out(cache), *_norm_gradients(cache, abs(dout), abs(dout))]


def _xhat(cache: Any) -> tuple[Array, Array, Array]:
    """Return a bound on rstd's relative error, the size of xhat, and a bound on its error.

    Taking off the mean costs x's digits as often as x is deviations long. In training the mean of
    squares has lost them too.
    """
    rstd = cache.rstd[:, None, None]
    longest = rstd * (abs(cache.x).max(axis=AXES, keepdims=True) + abs(cache.mean)[:, None, None])
    relative = 2 + longest if cache.training else np.full_like(longest, 2)
    xhat = rstd * abs(cache.x - cache.mean[:, None, None])
    return relative, xhat, longest + relative * xhat


def _norm_out(cache: Any) -> Array:
    """Bound batch norm's out."""
    *_, exhat = _xhat(cache)
    return abs(cache.gamma)[:, None, None] * exhat + abs(cache.beta)[:, None, None]


def _norm_gradients(cache: Any, dout: Array, edout: Array) -> list[Array]:
    """Bound batch norm's gradients, given the size of dout and a bound on its error."""
    relative, xhat, exhat = _xhat(cache)
    M = cache.x.size // len(cache.gamma) if cache.training else np.inf  # constants bring no more
    dbeta, edbeta = (one.sum(axis=AXES, keepdims=True) for one in (dout, edout))
    dgamma = (dout * xhat).sum(axis=AXES, keepdims=True)
    edgamma = (edout * xhat + dout * exhat).sum(axis=AXES, keepdims=True)
    size = dout + (dbeta + xhat * dgamma) / M
    error = edout + (edbeta + xhat * edgamma + exhat * dgamma) / M
    scale = abs(cache.gamma * cache.rstd)[:, None, None]
    return [scale * (relative * size + error), edgamma.ravel(), edbeta.ravel()]


def _batch_norm_relu_terms(
    inputs: Sequence[Any], keywords: dict[str, Any], dout: Array
) -> list[Any]:
    """Bound them by batch norm; the ReLU and the sum with the shortcut only select in backward."""
    *norm, shortcut = inputs if len(inputs) == 4 else [*inputs, np.zeros_like(inputs[0])]
    y, cache = reference.batch_norm2d_forward(*norm, **keywords)
    g = np.where(y + shortcut <= 0, 0, abs(dout))
    terms = [_norm_out(cache) + abs(shortcut), *_norm_gradients(cache, g, g), g]
    return terms[: len(inputs) + 1]


def _se_block_tail_terms(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound the tail part by part, each given the bound on what the one before it hands on."""
    settings = {name: value for name, value in keywords.items() if name != "gate"}
    gate = keywords.get("gate", "sigmoid")
    x, gamma, beta, *dense, shortcut = inputs
    y, norm = reference.batch_norm2d_forward(x, gamma, beta, **settings)
    gated, se = reference.squeeze_excite_forward(y, *dense, gate=gate)
    g = np.where(gated + shortcut <= 0, 0, dout)
    (egated, edy, *edense), dy = _gated(se, _norm_out(norm), g)
    return [egated + abs(shortcut), *_norm_gradients(norm, dy, edy), *edense, abs(g)]


def _cross_entropy_terms(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound the loss: a log-probability is a difference of logits and of at most log(K)."""
    logits, _ = inputs
    N, K = logits.shape
    largest = 1 + math.log(K) + np.ptp(logits, axis=1, keepdims=True)
    return [largest.mean(), abs(dout) / N * np.broadcast_to(1 + largest, logits.shape), None]


def _squeeze_excite_terms(
    inputs: Sequence[Any], keywords: dict[str, Any], dout: Array
) -> list[Any]:
    _, cache = reference.squeeze_excite_forward(*inputs, **keywords)
    return _gated(cache, abs(inputs[0]), dout)[0]


def _gated(cache: Any, ex: Array, dout: Array) -> tuple[list[Any], Array]:
    """Bound SE's out and gradients, given a bound on x's error; return the size of dx as well.

    Each line bounds the error of what is named behind its e, line by line as in squeeze_excite.py:
    a product's is that of each factor times the size of the other. No bound is below the size of
    its number, so that its own rounding is in it.
    """
    gates = cache.gates
    axes = SQUEEZES[gates.squeeze]
    x, w1, w2, s, h, z = (abs(a) for a in (cache.x, gates.w1, gates.w2, gates.s, gates.h, gates.z))
    largest = gates.squeeze == "max"
    ez = ex.max(axis=axes, keepdims=True) if largest else ex.mean(axis=axes, keepdims=True)
    eu = np.einsum("rc,ncij->nrij", w1, z + ez) + _column(gates.b1)
    eh = np.where(h <= 0, 0, eu)
    ev = np.einsum("cr,nrij->ncij", w2, h + eh) + _column(gates.b2)
    es = s + gate_backward(ev, gates.s, gates.gate)
    eout = x * es + s * ex

    ds = (dout * cache.x).sum(axis=axes, keepdims=True)
    dv = gate_backward(ds, gates.s, gates.gate)
    du = np.where(h <= 0, 0, np.einsum("cr,ncij->nrij", gates.w2, dv))
    dz = np.einsum("rc,nrij->ncij", gates.w1, du)
    dx = abs(dout) * s + squeeze_backward(abs(dz), cache.argmax, x)

    eds = (abs(dout) * ex).sum(axis=axes, keepdims=True)
    bent = gates.gate in ("sigmoid", "tanh")  # an error of s is then one of the slope
    edv = gate_backward(eds, gates.s, gates.gate) + (2 * abs(ds) * es if bent else 0)
    edu = np.where(h <= 0, 0, np.einsum("cr,ncij->nrij", w2, edv))
    edz = np.einsum("rc,nrij->ncij", w1, edu)
    edx = abs(dout) * (s + es) + squeeze_backward(edz, cache.argmax, x)
    edw1 = np.einsum("nrij,ncij->rc", edu, z) + np.einsum("nrij,ncij->rc", abs(du), ez)
    edw2 = np.einsum("ncij,nrij->cr", edv, h) + np.einsum("ncij,nrij->cr", abs(dv), eh)
    edb1 = None if gates.b1 is None else edu.sum(axis=(0, 2, 3))
    edb2 = None if gates.b2 is None else edv.sum(axis=(0, 2, 3))
    return [eout, edx, edw1, edb1, edw2, edb2], dx


def _column(bias: Array | None) -> Any:
    return 0 if bias is None else abs(bias)[:, None, None]


def count_of(inputs: Sequence[Any], out: Array) -> int:
    """Return how many numbers an op has: no sum in it is longer."""
    return int(out.size + sum(a.size for a in inputs if a is not None))

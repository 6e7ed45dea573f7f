"""Test specification of batch_norm2d, and the parts that the fused ops share with it."""

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from minise.checks import Array
from minise.contract.case import IMAGE, ODD, Case
from minise.contract.mistakes import Gradients, Mistake, Wrong, put, scaled
from minise.contract.specification import Spec
from minise.contract.strategies import normalisation_cases
from minise.ops import reference
from minise.ops.reference.norm import AXES

WALK_SIZES = dict(N=2, C=2, H=2, W=3)
MISTAKE_SIZES = dict(N=3, C=4, H=3, W=5)
TRAINING = Case("batch_norm2d", MISTAKE_SIZES, dict(training=True, eps=0.1))
EVALUATION = Case("batch_norm2d", MISTAKE_SIZES, dict(training=False, eps=0.1))


def cases_of(op: str) -> dict[str, Case]:
    """Return the cases of batch_norm2d, or of another op with its settings."""
    return {
        "training": Case(op, IMAGE, dict(training=True, eps=1.0)),
        "training, momentum": Case(op, IMAGE, dict(training=True, momentum=0.5, eps=1.0)),
        "evaluation": Case(op, IMAGE, dict(training=False, eps=1.0)),
        "training, small eps": Case(op, ODD, dict(training=True), exact=False),
        "evaluation, small eps": Case(op, ODD, dict(training=False), exact=False),
    }


# Error bounds


def _magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    _, cache = reference.batch_norm2d_forward(*inputs, **keywords)
    return [norm_out_magnitude(cache), *norm_gradient_magnitudes(cache, abs(dout), abs(dout))]


def _xhat(cache: Any) -> tuple[Array, Array, Array]:
    """Return a bound on the relative error of rstd, |xhat|, and a bound on the error of xhat.

    All in units of one rounding error. Subtracting the mean amplifies the rounding error of x by
    (|x| + |mean|) / std; in training the variance inherits this error.
    """
    rstd = cache.rstd[:, None, None]
    largest_x = abs(cache.x).max(axis=AXES, keepdims=True)
    amplification = rstd * (largest_x + abs(cache.mean)[:, None, None])
    relative = 2 + amplification if cache.training else np.full_like(amplification, 2)
    xhat = rstd * abs(cache.x - cache.mean[:, None, None])
    return relative, xhat, amplification + relative * xhat


def norm_out_magnitude(cache: Any) -> Array:
    """Bound the error of batch norm's out."""
    *_, exhat = _xhat(cache)
    return abs(cache.gamma)[:, None, None] * exhat + abs(cache.beta)[:, None, None]


def norm_gradient_magnitudes(cache: Any, dout: Array, edout: Array) -> list[Array]:
    """Bound the error of batch norm's gradients, given |dout| and a bound on the error of dout."""
    relative, xhat, exhat = _xhat(cache)
    M = cache.x.size // len(cache.gamma) if cache.training else np.inf  # constant in evaluation
    dbeta, edbeta = (size.sum(axis=AXES, keepdims=True) for size in (dout, edout))
    dgamma = (dout * xhat).sum(axis=AXES, keepdims=True)
    edgamma = (edout * xhat + dout * exhat).sum(axis=AXES, keepdims=True)
    size = dout + (dbeta + xhat * dgamma) / M
    error = edout + (edbeta + xhat * edgamma + exhat * dgamma) / M
    scale = abs(cache.gamma * cache.rstd)[:, None, None]
    return [scale * (relative * size + error), edgamma.ravel(), edbeta.ravel()]


# Mistakes


def _parts(d: Array, c: Any) -> tuple[Array, Array, Array, Array]:
    """Return xhat, the scale of dx, and the terms of the mean and of the variance."""
    xhat = (c.x - c.mean[:, None, None]) * c.rstd[:, None, None]
    scale = (c.gamma * c.rstd)[:, None, None]
    dmean, dvar = (a.mean(axis=(0, 2, 3))[:, None, None] for a in (d, d * xhat))
    return xhat, scale, dmean, dvar


def _without(mean: bool, variance: bool) -> Wrong:
    """Return a wrong backward without the path through the mean, the variance, or both."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        xhat, scale, dmean, dvar = _parts(d, c)
        return put(g, 0, scale * (d - (0 if mean else dmean) - (0 if variance else xhat * dvar)))

    return wrong


def _unbiased(g: Gradients, d: Array, c: Any) -> Gradients:
    xhat, scale, dmean, dvar = _parts(d, c)
    M = c.x.size // len(c.gamma)
    return put(g, 0, scale * (d - dmean - xhat * dvar * M / (M - 1)))


def _without_eps(g: Gradients, d: Array, c: Any) -> Gradients:
    rstd = 1 / np.sqrt(1 / c.rstd**2 - c.eps)
    return put(g, 0, g[0] * (rstd / c.rstd)[:, None, None])


def _as_training(g: Gradients, d: Array, c: Any) -> Gradients:
    return reference.batch_norm2d_backward(d, c._replace(training=True))


RstdChange: TypeAlias = Callable[[Array], Any]  # correct rstd -> the wrong one to use
GradientOfNorm: TypeAlias = Callable[[Gradients, Array, Any], Array]  # (g, d, c) -> dy


def _rstd_from(dy: GradientOfNorm, direct: RstdChange, variance: RstdChange) -> Wrong:
    """Return a wrong backward that changes rstd in the direct path and in the variance path."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        M, centred = c.x.size // len(c.gamma), c.x - c.mean[:, None, None]
        dxhat = dy(g, d, c) * c.gamma[:, None, None]
        dvar = -0.5 * variance(c.rstd) ** 3 * (dxhat * centred).sum(axis=(0, 2, 3))
        dcentred = dxhat * direct(c.rstd) + (2 / M * dvar)[:, None, None] * centred
        dmean = -dcentred.sum(axis=(0, 2, 3))
        return put(g, 0, dcentred + dmean[:, None, None] / M)

    return wrong


def mixed_channels(op: str, dy: GradientOfNorm, **axes: int) -> dict[str, Mistake]:
    """Return mistakes that mix up rstd of different channels.

    Parameters
    ----------
    op : str
        batch_norm2d, or a fused op that starts with it.
    dy : callable
        dy(g, d, c) returns the correct gradient with respect to the output of the normalisation.
    **axes : int
        Sizes of the op's axes besides N, C, H, W.
    """
    # C = W, so that rstd without [:, None, None] broadcasts
    case = Case(op, dict(N=2, C=3, H=2, W=3, **axes), dict(training=True))
    kinds = {"missing variance term", "one part", "not accumulated", "wrong slope", "unknown"}
    changes: dict[str, tuple[RstdChange, RstdChange]] = {  # in the direct and the variance path
        "rstd of the first channel for all": (lambda r: r[0], lambda r: r),
        "rstd broadcast along W": (lambda r: r, lambda r: r),
        "the mean of rstd in dvar": (lambda r: r[:, None, None], lambda r: r.mean()),
    }
    return {name: Mistake(case, _rstd_from(dy, *pair), kinds) for name, pair in changes.items()}


MISTAKES = {
    "dx lacks the route through the mean": Mistake(
        TRAINING, _without(mean=True, variance=False), {"missing mean term"}
    ),
    "dx lacks the route through the variance": Mistake(
        TRAINING, _without(mean=False, variance=True), {"missing variance term"}
    ),
    "dx in training as in evaluation": Mistake(
        TRAINING, _without(mean=True, variance=True), {"missing mean and variance terms"}
    ),
    "dx in evaluation as in training": Mistake(
        EVALUATION, _as_training, {"missing mean and variance terms"}
    ),
    "dx by the unbiased variance": Mistake(TRAINING, _unbiased, {"missing variance term"}),
    "dx without eps": Mistake(TRAINING, _without_eps, {"channel factor", "factor"}),
    "dx without gamma": Mistake(
        TRAINING, lambda g, d, c: put(g, 0, g[0] / c.gamma[:, None, None]), {"channel factor"}
    ),
    "dgamma from x instead of xhat": Mistake(
        TRAINING, lambda g, d, c: put(g, 1, (d * c.x).sum(axis=(0, 2, 3))), {"unknown"}
    ),
    "dbeta is a mean": Mistake(
        TRAINING, scaled(2, lambda d, c: len(c.gamma) / d.size), {"factor 1/N*H*W"}
    ),
    **mixed_channels("batch_norm2d", lambda g, d, c: d),
}
SPECS = (
    Spec(
        op="batch_norm2d",
        cases=cases_of("batch_norm2d"),
        strategy=normalisation_cases("batch_norm2d"),
        magnitudes=_magnitudes,
        long_sums=(
            Case("batch_norm2d", dict(N=4, C=2, H=512, W=512), dict(training=True, momentum=1.0)),
        ),
        walk=Case("batch_norm2d", WALK_SIZES, dict(training=True)),
        mistakes=MISTAKES,
    ),
)

"""Test specifications of batch_norm2d_relu, batch_norm2d_add_relu and se_block_tail."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minise.checks import Array
from minise.contract.case import Case
from minise.contract.mistakes import Gradients, Mistake, Wrong, put, scaled
from minise.contract.spec.norm import (
    MISTAKE_SIZES,
    WALK_SIZES,
    cases_of,
    mixed_channels,
    norm_gradient_magnitudes,
    norm_out_magnitude,
)
from minise.contract.spec.squeeze_excite import EXACT_SIZES, ROUNDED_SIZES, gated_magnitudes
from minise.contract.specification import Spec
from minise.contract.strategies import normalisation_cases
from minise.ops import reference
from minise.ops.reference.gates import GATES, gate_backward

LONG_IMAGES, LONG_NORM = dict(N=16, C=2, H=64, W=64), dict(training=True, momentum=1.0)
NORM_RELU = Case("batch_norm2d_relu", MISTAKE_SIZES, dict(training=True, eps=0.1))
ADD_RELU = Case("batch_norm2d_add_relu", MISTAKE_SIZES, dict(training=True, eps=0.1))
TAIL = Case("se_block_tail", dict(N=5, C=6, H=3, W=5, R=4), dict(training=True, eps=0.1))
NARROW_TAIL = Case("se_block_tail", dict(N=4, C=6, H=1, W=3, R=4), dict(training=False, eps=1.0))
TAIL_CASES = {
    **{
        f"training, {gate}": Case(
            "se_block_tail", ROUNDED_SIZES, dict(training=True, gate=gate), exact=False
        )
        for gate in GATES
    },
    "training, relu, powers of two": Case(
        "se_block_tail", EXACT_SIZES, dict(training=True, gate="relu", eps=1.0)
    ),
    "evaluation, relu": Case(
        "se_block_tail", EXACT_SIZES, dict(training=False, gate="relu", eps=1.0)
    ),
    "evaluation, sigmoid": Case(
        "se_block_tail", ROUNDED_SIZES, dict(training=False, momentum=0.5), exact=False
    ),
}


# Error bounds


def _relu_magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Return batch norm's magnitudes; the backward of ReLU and of the sum rounds nothing."""
    *norm, shortcut = inputs if len(inputs) == 4 else [*inputs, np.zeros_like(inputs[0])]
    y, cache = reference.batch_norm2d_forward(*norm, **keywords)
    g = np.where(y + shortcut <= 0, 0, abs(dout))
    terms = [norm_out_magnitude(cache) + abs(shortcut), *norm_gradient_magnitudes(cache, g, g), g]
    return terms[: len(inputs) + 1]


def _tail_magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Return the magnitudes of the tail, from batch norm through SE to the sum."""
    settings = {name: value for name, value in keywords.items() if name != "gate"}
    gate = keywords.get("gate", "sigmoid")
    x, gamma, beta, *dense, shortcut = inputs
    y, norm = reference.batch_norm2d_forward(x, gamma, beta, **settings)
    scaled_by_gate, se = reference.squeeze_excite_forward(y, *dense, gate=gate)
    g = np.where(scaled_by_gate + shortcut <= 0, 0, dout)
    (eout, edy, *edense), dy = gated_magnitudes(se, norm_out_magnitude(norm), g)
    return [eout + abs(shortcut), *norm_gradient_magnitudes(norm, dy, edy), *edense, abs(g)]


# Mistakes


def _relu_backward(d: Array, out: Array) -> Array:
    """Return the gradient with respect to the input of a ReLU with output out."""
    return np.where(out <= 0, 0, d)


def _norm_backward(d: Array, c: Any) -> Gradients:
    """Return dx, dgamma, dbeta of the batch normalisation in a fused op."""
    return reference.batch_norm2d_backward(d, c.norm)


def _normalised(c: Any) -> tuple[Array, Array]:
    """Return xhat and y of a fused op."""
    xhat = (c.x - c.mean[:, None, None]) * c.rstd[:, None, None]
    return xhat, c.gamma[:, None, None] * xhat + c.beta[:, None, None]


def _masked_by(mask_source: Callable[[Any], Array]) -> Wrong:
    """Return a wrong backward of batch norm and ReLU with a mask that is not from out."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        dy = _relu_backward(d, mask_source(c))
        return (*_norm_backward(dy, c), *([dy] if len(g) == 4 else []))

    return wrong


def _without_mean(g: Gradients, d: Array, c: Any) -> Gradients:
    M = c.x.size // len(c.gamma)
    return put(g, 0, g[0] + (c.gamma * c.rstd * g[2] / M)[:, None, None])


def _without_variance(g: Gradients, d: Array, c: Any) -> Gradients:
    M, (xhat, _) = c.x.size // len(c.gamma), _normalised(c)
    return put(g, 0, g[0] + (c.gamma * c.rstd * g[1] / M)[:, None, None] * xhat)


def _tail_dz(d: Array, c: Any) -> Array:
    """Return dz, the gradient with respect to the squeezed channels, of the tail."""
    _, y = _normalised(c)
    ds = (_relu_backward(d, c.out) * y).sum(axis=(2, 3), keepdims=True)
    dh = np.einsum("cr,ncij->nrij", c.gates.w2, gate_backward(ds, c.gates.s, c.gates.gate))
    return np.einsum("rc,nrij->ncij", c.gates.w1, _relu_backward(dh, c.gates.h))


def _tail_with(dy: Callable[[Array, Array, Array, int], Array]) -> Wrong:
    """Return a wrong backward with dy(g, s, dz, H * W) as the gradient of batch norm's output."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        dgated, dz = _relu_backward(d, c.out), _tail_dz(d, c)
        return (*_norm_backward(dy(dgated, c.gates.s, dz, c.x[0, 0].size), c), *g[3:])

    return wrong


def _tail_dgamma_of(moment: Callable[[Any], Array]) -> Wrong:
    """Return a wrong backward whose dgamma uses another moment in the path through the gate."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        xhat, _ = _normalised(c)
        direct = (_relu_backward(d, c.out) * c.gates.s * xhat).sum(axis=(0, 2, 3))
        return put(g, 1, direct + (_tail_dz(d, c) * moment(c)).sum(axis=(0, 2, 3)))

    return wrong


def _tail_masked_by_branch(g: Gradients, d: Array, c: Any) -> Gradients:
    _, y = _normalised(c)
    return put(g, 7, _relu_backward(d, y * c.gates.s))


def _tail_slope_of_one(g: Gradients, d: Array, c: Any) -> Gradients:
    _, y = _normalised(c)
    return put(g, 6, (_relu_backward(d, c.out) * y).sum(axis=(0, 2, 3)))


UNKNOWN_KINDS = {"wrong slope", "unknown"}
MASK_KINDS = {"not accumulated", *UNKNOWN_KINDS}
NORM_RELU_MISTAKES = {
    "the mask is forgotten": Mistake(
        NORM_RELU, _masked_by(lambda c: np.ones_like(c.out)), MASK_KINDS
    ),
    "the mask is taken from x": Mistake(NORM_RELU, _masked_by(lambda c: c.x), MASK_KINDS),
    "the mask is taken from xhat, before beta": Mistake(
        NORM_RELU, _masked_by(lambda c: _normalised(c)[0]), MASK_KINDS
    ),
    "dx is masked, not dout": Mistake(
        NORM_RELU,
        lambda g, d, c: put(g, 0, _relu_backward(_norm_backward(d, c)[0], c.out)),
        {"one part", *MASK_KINDS},
    ),
    "dx lacks the route through the mean": Mistake(NORM_RELU, _without_mean, {"missing mean term"}),
    "dx lacks the route through the variance": Mistake(
        NORM_RELU, _without_variance, {"missing variance term"}
    ),
    "dbeta of all dout": Mistake(
        NORM_RELU, lambda g, d, c: put(g, 2, d.sum(axis=(0, 2, 3))), MASK_KINDS
    ),
    **mixed_channels("batch_norm2d_relu", lambda g, d, c: _relu_backward(d, c.out)),
}
ADD_RELU_MISTAKES = {
    "the mask is dropped in dshortcut": Mistake(
        ADD_RELU, lambda g, d, c: put(g, 3, d), {"wrong mask"}
    ),
    "the mask is taken before the sum": Mistake(
        ADD_RELU, _masked_by(lambda c: _normalised(c)[1]), MASK_KINDS
    ),
    "dshortcut is forgotten": Mistake(ADD_RELU, scaled(3, 0), {"zero"}),
    "dshortcut is scaled as dx": Mistake(
        ADD_RELU,
        lambda g, d, c: put(g, 3, g[3] * (c.gamma * c.rstd)[:, None, None]),
        {"channel factor"},
    ),
    "dx lacks the route through the mean": Mistake(ADD_RELU, _without_mean, {"missing mean term"}),
    "dx lacks the route through the variance": Mistake(
        ADD_RELU, _without_variance, {"missing variance term"}
    ),
    "dgamma of all dout": Mistake(
        ADD_RELU, lambda g, d, c: put(g, 1, _norm_backward(d, c)[1]), MASK_KINDS
    ),
    **mixed_channels("batch_norm2d_add_relu", lambda g, d, c: _relu_backward(d, c.out)),
}
TAIL_MISTAKES = {
    "the mask is dropped in dshortcut": Mistake(TAIL, lambda g, d, c: put(g, 7, d), {"wrong mask"}),
    "the mask of dshortcut is taken before the sum": Mistake(
        TAIL, _tail_masked_by_branch, {"not accumulated"}
    ),
    "the route through the gate is forgotten": Mistake(
        NARROW_TAIL, _tail_with(lambda g, s, dz, size: g * s), {"missing gate path", *UNKNOWN_KINDS}
    ),
    "the route through the scale is forgotten": Mistake(
        NARROW_TAIL,
        _tail_with(lambda g, s, dz, size: dz / size + 0 * g),
        {"missing scale path", *UNKNOWN_KINDS},
    ),
    "dz is not divided by H * W": Mistake(
        TAIL, _tail_with(lambda g, s, dz, size: g * s + dz), UNKNOWN_KINDS
    ),
    "dx is multiplied by the gate twice": Mistake(
        TAIL, _tail_with(lambda g, s, dz, size: g * s * s + dz / size), UNKNOWN_KINDS
    ),
    "dx lacks the route through the batch's mean": Mistake(
        TAIL, _without_mean, {"missing mean term"}
    ),
    "dx lacks the route through the batch's variance": Mistake(
        TAIL, _without_variance, {"missing variance term"}
    ),
    "dgamma lacks the route through the gate": Mistake(
        TAIL, _tail_dgamma_of(lambda c: 0 * c.gates.z), UNKNOWN_KINDS
    ),
    "dgamma through the gate by z, not by zhat": Mistake(
        TAIL, _tail_dgamma_of(lambda c: c.gates.z), UNKNOWN_KINDS
    ),
    "dbeta lacks the route through the gate": Mistake(
        TAIL,
        lambda g, d, c: put(g, 2, (_relu_backward(d, c.out) * c.gates.s).sum(axis=(0, 2, 3))),
        UNKNOWN_KINDS,
    ),
    "db2 lacks the sigmoid's slope": Mistake(TAIL, _tail_slope_of_one, UNKNOWN_KINDS),
    **mixed_channels(
        "se_block_tail",
        lambda g, d, c: _relu_backward(d, c.out) * c.gates.s + _tail_dz(d, c) / c.x[0, 0].size,
        R=2,
    ),
}
SPECS = (
    Spec(
        op="batch_norm2d_relu",
        cases=cases_of("batch_norm2d_relu"),
        strategy=normalisation_cases("batch_norm2d_relu"),
        magnitudes=_relu_magnitudes,
        long_sums=(Case("batch_norm2d_relu", LONG_IMAGES, LONG_NORM),),
        walk=Case("batch_norm2d_relu", WALK_SIZES, dict(training=True)),
        kinks=True,
        mistakes=NORM_RELU_MISTAKES,
    ),
    Spec(
        op="batch_norm2d_add_relu",
        cases=cases_of("batch_norm2d_add_relu"),
        strategy=normalisation_cases("batch_norm2d_add_relu"),
        magnitudes=_relu_magnitudes,
        long_sums=(Case("batch_norm2d_add_relu", LONG_IMAGES, LONG_NORM),),
        walk=Case("batch_norm2d_add_relu", WALK_SIZES, dict(training=True)),
        kinks=True,
        mistakes=ADD_RELU_MISTAKES,
    ),
    Spec(
        op="se_block_tail",
        cases=TAIL_CASES,
        strategy=normalisation_cases("se_block_tail", "NCHWR", gate=st.sampled_from(GATES)),
        magnitudes=_tail_magnitudes,
        long_sums=(Case("se_block_tail", dict(LONG_IMAGES, R=2), LONG_NORM),),
        walk=Case("se_block_tail", dict(WALK_SIZES, R=2), dict(training=True)),
        kinks=True,
        mistakes=TAIL_MISTAKES,
    ),
)

"""What verifiers must know of batch_norm2d_relu, batch_norm2d_add_relu and se_block_tail."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minise.checks import Array
from minise.contract.case import Case
from minise.contract.mistakes import Gradients, Mistake, Wrong, put, scaled
from minise.contract.spec.norm import (
    SMALL,
    WALK,
    cases_of,
    mixed_channels,
    norm_gradients,
    norm_out,
)
from minise.contract.spec.squeeze_excite import NARROW, POWERS, gated
from minise.contract.specification import Spec
from minise.contract.strategies import normalised
from minise.ops import reference
from minise.ops.reference.gates import GATES, gate_backward

LONG_IMAGES, LONG_NORM = dict(N=16, C=2, H=64, W=64), dict(training=True, momentum=1.0)
NORM_RELU = Case("batch_norm2d_relu", SMALL, dict(training=True, eps=0.1))
ADD_RELU = Case("batch_norm2d_add_relu", SMALL, dict(training=True, eps=0.1))
TAIL = Case("se_block_tail", dict(N=5, C=6, H=3, W=5, R=4), dict(training=True, eps=0.1))
NARROW_TAIL = Case("se_block_tail", dict(N=4, C=6, H=1, W=3, R=4), dict(training=False, eps=1.0))
TAIL_CASES = {
    **{
        f"training, {gate}": Case(
            "se_block_tail", NARROW, dict(training=True, gate=gate), exact=False
        )
        for gate in GATES
    },
    "training, relu, powers of two": Case(
        "se_block_tail", POWERS, dict(training=True, gate="relu", eps=1.0)
    ),
    "evaluation, relu": Case("se_block_tail", POWERS, dict(training=False, gate="relu", eps=1.0)),
    "evaluation, sigmoid": Case(
        "se_block_tail", NARROW, dict(training=False, momentum=0.5), exact=False
    ),
}


# By how much rounding may change out and the gradients


def _relu_magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound them by batch norm; the ReLU and the sum with the shortcut only select in backward."""
    *norm, shortcut = inputs if len(inputs) == 4 else [*inputs, np.zeros_like(inputs[0])]
    y, cache = reference.batch_norm2d_forward(*norm, **keywords)
    g = np.where(y + shortcut <= 0, 0, abs(dout))
    terms = [norm_out(cache) + abs(shortcut), *norm_gradients(cache, g, g), g]
    return terms[: len(inputs) + 1]


def _tail_magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound the tail part by part, each given the bound on what the one before it hands on."""
    settings = {name: value for name, value in keywords.items() if name != "gate"}
    gate = keywords.get("gate", "sigmoid")
    x, gamma, beta, *dense, shortcut = inputs
    y, norm = reference.batch_norm2d_forward(x, gamma, beta, **settings)
    scaled_by_gate, se = reference.squeeze_excite_forward(y, *dense, gate=gate)
    g = np.where(scaled_by_gate + shortcut <= 0, 0, dout)
    (eout, edy, *edense), dy = gated(se, norm_out(norm), g)
    return [eout + abs(shortcut), *norm_gradients(norm, dy, edy), *edense, abs(g)]


# Mistakes


def _cut(d: Array, out: Array) -> Array:
    """Return the gradient before a ReLU."""
    return np.where(out <= 0, 0, d)


def _norm_backward(d: Array, c: Any) -> Gradients:
    """Return dx, dgamma, dbeta of the batch normalisation in a fused op."""
    return reference.batch_norm2d_backward(d, c.norm)


def _normalised(c: Any) -> tuple[Array, Array]:
    """Return xhat and y of a fused op."""
    xhat = (c.x - c.mean[:, None, None]) * c.rstd[:, None, None]
    return xhat, c.gamma[:, None, None] * xhat + c.beta[:, None, None]


def _masked_by(sides: Callable[[Any], Array]) -> Wrong:
    """Return a backward of batch norm and ReLU whose mask is another array's than out's."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        dy = _cut(d, sides(c))
        return (*_norm_backward(dy, c), *([dy] if len(g) == 4 else []))

    return wrong


def _without_mean(g: Gradients, d: Array, c: Any) -> Gradients:
    M = c.x.size // len(c.gamma)
    return put(g, 0, g[0] + (c.gamma * c.rstd * g[2] / M)[:, None, None])


def _without_variance(g: Gradients, d: Array, c: Any) -> Gradients:
    M, (xhat, _) = c.x.size // len(c.gamma), _normalised(c)
    return put(g, 0, g[0] + (c.gamma * c.rstd * g[1] / M)[:, None, None] * xhat)


def _tail_dz(d: Array, c: Any) -> Array:
    """Return dz of the tail."""
    _, y = _normalised(c)
    ds = (_cut(d, c.out) * y).sum(axis=(2, 3), keepdims=True)
    dh = np.einsum("cr,ncij->nrij", c.gates.w2, gate_backward(ds, c.gates.s, c.gates.gate))
    return np.einsum("rc,nrij->ncij", c.gates.w1, _cut(dh, c.gates.h))


def _tail_with(dy: Callable[[Array, Array, Array, int], Array]) -> Wrong:
    """Return a backward whose gradient behind the batch normalisation is dy(g, s, dz, H * W)."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        dgated, dz = _cut(d, c.out), _tail_dz(d, c)
        return (*_norm_backward(dy(dgated, c.gates.s, dz, c.x[0, 0].size), c), *g[3:])

    return wrong


def _tail_dgamma_of(moment: Callable[[Any], Array]) -> Wrong:
    """Return a backward whose dgamma takes its route through the gate by another moment."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        xhat, _ = _normalised(c)
        direct = (_cut(d, c.out) * c.gates.s * xhat).sum(axis=(0, 2, 3))
        return put(g, 1, direct + (_tail_dz(d, c) * moment(c)).sum(axis=(0, 2, 3)))

    return wrong


def _tail_masked_by_branch(g: Gradients, d: Array, c: Any) -> Gradients:
    _, y = _normalised(c)
    return put(g, 7, _cut(d, y * c.gates.s))


def _tail_slope_of_one(g: Gradients, d: Array, c: Any) -> Gradients:
    _, y = _normalised(c)
    return put(g, 6, (_cut(d, c.out) * y).sum(axis=(0, 2, 3)))


UNNAMED = {"wrong slope", "unknown"}
MASKS = {"not accumulated", *UNNAMED}
NORM_RELU_MISTAKES = {
    "the mask is forgotten": Mistake(NORM_RELU, _masked_by(lambda c: np.ones_like(c.out)), MASKS),
    "the mask is taken from x": Mistake(NORM_RELU, _masked_by(lambda c: c.x), MASKS),
    "the mask is taken from xhat, before beta": Mistake(
        NORM_RELU, _masked_by(lambda c: _normalised(c)[0]), MASKS
    ),
    "dx is masked, not dout": Mistake(
        NORM_RELU,
        lambda g, d, c: put(g, 0, _cut(_norm_backward(d, c)[0], c.out)),
        {"one part", *MASKS},
    ),
    "dx lacks the route through the mean": Mistake(NORM_RELU, _without_mean, {"missing mean term"}),
    "dx lacks the route through the variance": Mistake(
        NORM_RELU, _without_variance, {"missing variance term"}
    ),
    "dbeta of all dout": Mistake(
        NORM_RELU, lambda g, d, c: put(g, 2, d.sum(axis=(0, 2, 3))), MASKS
    ),
    **mixed_channels("batch_norm2d_relu", lambda g, d, c: _cut(d, c.out)),
}
ADD_RELU_MISTAKES = {
    "the mask is dropped in dshortcut": Mistake(
        ADD_RELU, lambda g, d, c: put(g, 3, d), {"wrong mask"}
    ),
    "the mask is taken before the sum": Mistake(
        ADD_RELU, _masked_by(lambda c: _normalised(c)[1]), MASKS
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
        ADD_RELU, lambda g, d, c: put(g, 1, _norm_backward(d, c)[1]), MASKS
    ),
    **mixed_channels("batch_norm2d_add_relu", lambda g, d, c: _cut(d, c.out)),
}
TAIL_MISTAKES = {
    "the mask is dropped in dshortcut": Mistake(TAIL, lambda g, d, c: put(g, 7, d), {"wrong mask"}),
    "the mask of dshortcut is taken before the sum": Mistake(
        TAIL, _tail_masked_by_branch, {"not accumulated"}
    ),
    "the route through the gate is forgotten": Mistake(
        NARROW_TAIL, _tail_with(lambda g, s, dz, size: g * s), {"missing gate path", *UNNAMED}
    ),
    "the route through the scale is forgotten": Mistake(
        NARROW_TAIL,
        _tail_with(lambda g, s, dz, size: dz / size + 0 * g),
        {"missing scale path", *UNNAMED},
    ),
    "dz is not divided by H * W": Mistake(
        TAIL, _tail_with(lambda g, s, dz, size: g * s + dz), UNNAMED
    ),
    "dx passes the gate twice": Mistake(
        TAIL, _tail_with(lambda g, s, dz, size: g * s * s + dz / size), UNNAMED
    ),
    "dx lacks the route through the batch's mean": Mistake(
        TAIL, _without_mean, {"missing mean term"}
    ),
    "dx lacks the route through the batch's variance": Mistake(
        TAIL, _without_variance, {"missing variance term"}
    ),
    "dgamma lacks the route through the gate": Mistake(
        TAIL, _tail_dgamma_of(lambda c: 0 * c.gates.z), UNNAMED
    ),
    "dgamma through the gate by z, not by zhat": Mistake(
        TAIL, _tail_dgamma_of(lambda c: c.gates.z), UNNAMED
    ),
    "dbeta lacks the route through the gate": Mistake(
        TAIL,
        lambda g, d, c: put(g, 2, (_cut(d, c.out) * c.gates.s).sum(axis=(0, 2, 3))),
        UNNAMED,
    ),
    "db2 lacks the sigmoid's slope": Mistake(TAIL, _tail_slope_of_one, UNNAMED),
    **mixed_channels(
        "se_block_tail",
        lambda g, d, c: _cut(d, c.out) * c.gates.s + _tail_dz(d, c) / c.x[0, 0].size,
        R=2,
    ),
}
SPECS = (
    Spec(
        op="batch_norm2d_relu",
        cases=cases_of("batch_norm2d_relu"),
        strategy=normalised("batch_norm2d_relu"),
        magnitudes=_relu_magnitudes,
        long_sums=(Case("batch_norm2d_relu", LONG_IMAGES, LONG_NORM),),
        walk=Case("batch_norm2d_relu", WALK, dict(training=True)),
        kinks=True,
        mistakes=NORM_RELU_MISTAKES,
    ),
    Spec(
        op="batch_norm2d_add_relu",
        cases=cases_of("batch_norm2d_add_relu"),
        strategy=normalised("batch_norm2d_add_relu"),
        magnitudes=_relu_magnitudes,
        long_sums=(Case("batch_norm2d_add_relu", LONG_IMAGES, LONG_NORM),),
        walk=Case("batch_norm2d_add_relu", WALK, dict(training=True)),
        kinks=True,
        mistakes=ADD_RELU_MISTAKES,
    ),
    Spec(
        op="se_block_tail",
        cases=TAIL_CASES,
        strategy=normalised("se_block_tail", "NCHWR", gate=st.sampled_from(GATES)),
        magnitudes=_tail_magnitudes,
        long_sums=(Case("se_block_tail", dict(LONG_IMAGES, R=2), LONG_NORM),),
        walk=Case("se_block_tail", dict(WALK, R=2), dict(training=True)),
        kinks=True,
        mistakes=TAIL_MISTAKES,
    ),
)

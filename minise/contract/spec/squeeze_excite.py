"""Test specification of squeeze_excite, and the error bounds that se_block_tail shares with it."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minise.checks import Array
from minise.contract.case import ODD, Case
from minise.contract.mistakes import Mistake, put, scaled
from minise.contract.specification import Spec
from minise.contract.strategies import cases_with_axes
from minise.ops import reference
from minise.ops.reference.gates import GATES, gate_backward
from minise.ops.reference.squeezes import SQUEEZES, squeeze_backward

EXACT_SIZES = dict(N=2, C=4, H=2, W=4, R=3)  # N, H, W powers of two: means of integers are exact
ROUNDED_SIZES = dict(ODD, R=2)
OP = "squeeze_excite"
CASES = {
    **{
        f"{squeeze}, relu": Case(OP, EXACT_SIZES, dict(squeeze=squeeze, gate="relu"))
        for squeeze in SQUEEZES
    },
    **{
        f"avg, {gate}": Case(OP, ROUNDED_SIZES, dict(gate=gate), exact=False)
        for gate in GATES
        if gate != "relu"
    },
    "none, sigmoid": Case(OP, EXACT_SIZES, dict(squeeze="none"), exact=False),
    "max, hard_sigmoid": Case(
        OP, EXACT_SIZES, dict(squeeze="max", gate="hard_sigmoid"), exact=False
    ),
}
WIDE = Case(OP, dict(N=5, C=6, H=3, W=5, R=4))
SQUARE = Case(OP, dict(N=3, C=4, H=3, W=5, R=4))


def _magnitudes(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    _, cache = reference.squeeze_excite_forward(*inputs, **keywords)
    return gated_magnitudes(cache, abs(inputs[0]), dout)[0]


def gated_magnitudes(cache: Any, ex: Array, dout: Array) -> tuple[list[Any], Array]:
    """Return error bounds of SE's out and gradients, given that of x; and a bound on |dx|.

    `ez` is the error bound of z, and so on, line by line as in squeeze_excite.py. The error of a
    product is the sum over both factors of the factor's error times the other factor's magnitude.
    Every bound is at least the magnitude of its value, which includes the value's own rounding.
    """
    gates = cache.gates
    axes = SQUEEZES[gates.squeeze]
    x, w1, w2, s, h, z = (abs(a) for a in (cache.x, gates.w1, gates.w2, gates.s, gates.h, gates.z))
    is_max = gates.squeeze == "max"
    ez = ex.max(axis=axes, keepdims=True) if is_max else ex.mean(axis=axes, keepdims=True)
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
    curved = gates.gate in ("sigmoid", "tanh")  # the slope depends on s, so it inherits its error
    edv = gate_backward(eds, gates.s, gates.gate) + (2 * abs(ds) * es if curved else 0)
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


def _through_scale(d: Array, c: Any) -> Array:
    """Return the part of dx from the product with the gate."""
    return d * c.gates.s


MISTAKES = {
    "dx lacks the route through the gate": Mistake(
        WIDE, lambda g, d, c: put(g, 0, _through_scale(d, c)), {"missing gate path"}
    ),
    "dx lacks the route through the scale": Mistake(
        WIDE, lambda g, d, c: put(g, 0, g[0] - _through_scale(d, c)), {"missing scale path"}
    ),
    "dz is not divided by H * W": Mistake(
        WIDE,
        lambda g, d, c: put(g, 0, g[0] + (g[0] - _through_scale(d, c)) * (c.x[0, 0].size - 1)),
        {"missing gate path"},
    ),
    "dx is a billionth too large": Mistake(WIDE, scaled(0, 1 + 1e-9), {"nearly right"}),
    "dw1 is transposed": Mistake(SQUARE, lambda g, d, c: put(g, 1, g[1].T), {"transposed"}),
    "dw1 and dw2 are swapped": Mistake(
        SQUARE, lambda g, d, c: put(put(g, 1, g[3]), 3, g[1]), {"swapped"}
    ),
    "db1 has the wrong sign": Mistake(WIDE, scaled(2, -1), {"sign"}),
    "dw2 is off by one row": Mistake(
        WIDE, lambda g, d, c: put(g, 3, np.roll(g[3], 1, axis=0)), {"shifted"}
    ),
    "db2 is a mean over images": Mistake(WIDE, scaled(4, lambda d, c: 1 / len(d)), {"factor 1/N"}),
    "db2 lacks the sigmoid's slope": Mistake(
        WIDE, lambda g, d, c: put(g, 4, (d * c.x).sum(axis=(0, 2, 3))), {"wrong slope"}
    ),
}
SPECS = (
    Spec(
        op=OP,
        cases=CASES,
        strategy=cases_with_axes(
            OP, "NCHWR", squeeze=st.sampled_from(list(SQUEEZES)), gate=st.sampled_from(GATES)
        ),
        magnitudes=_magnitudes,
        long_sums=(
            Case(OP, dict(N=1, C=2, H=1024, W=1024, R=2)),
            Case(OP, dict(N=16, C=2, H=64, W=64, R=2), dict(squeeze="none")),
        ),
        kinks=True,
        walk=Case(OP, dict(N=2, C=3, H=2, W=3, R=2), dict(squeeze="avg", gate="sigmoid")),
        mistakes=MISTAKES,
    ),
)

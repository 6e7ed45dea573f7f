"""Test specifications of relu, sigmoid, tanh, hard_sigmoid and silu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minise.checks import Array
from minise.contract.bounds import pointwise, selecting
from minise.contract.case import Case
from minise.contract.mistakes import Mistake, scaled
from minise.contract.specification import Spec
from minise.contract.strategies import elementwise_cases
from minise.ops import reference

MISTAKE_SIZES = {"...": (3, 4, 5)}
WALK_SIZES = {"...": (2, 4)}


def _spec(op: str, *, exact: bool, **own: Any) -> Spec:
    """Return a Spec with the fields that all activations share, and the fields in `own`."""
    cases = {
        "four axes": Case(op, {"...": (2, 3, 4, 5)}, {}, exact),
        "no axis": Case(op, {"...": ()}),
    }
    shared: dict[str, Any] = {"cases": cases, "strategy": elementwise_cases(op), "long_sums": ()}
    return Spec(op=op, **shared, walk=Case(op, WALK_SIZES), **own)


def _silu(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Return 2 |out| and 3 |dout| (s + |out|), large enough for the roundings of silu.

    If x has one element, the tolerance is 4 eps * magnitude (bounds.py). The largest errors, to
    first order and in units of eps:

    s     reference 4 s: 3 from exp (NumPy's in float32: 2.52 ulp), 1/2 from 1 + e, 1/2 from the
          quotient; kernel 2 s: 1 from exp, 1 from the rest
    out   one more product, 1/2: reference 4.5 |out|, kernel 2.5 |out|; the sum is 7 |out|, within
          4 * 2 = 8
    slope its term s: 4 s; its term out (1 - s): 4.5 |out| (1 - s) from the error of out, 4 |out| s
          from the error of s, |out| (1 - s) from the difference and the product, at most 5.5 |out|;
          the sum and the product with dout: 1 (s + |out|). In total reference 6.5 (s + |out|),
          kernel 4.5, because s and out have 2 eps less; the sum is 11, within 4 * 3 = 12
    """
    (x,) = inputs
    s, _ = reference.sigmoid_forward(x)
    s = np.maximum(s, np.finfo(s.dtype).tiny)  # subnormal roundings do not shrink with s
    out = abs(x) * s
    return [2 * out, 3 * abs(dout) * (s + out)]


RELU = _spec(
    "relu",
    exact=True,
    magnitudes=selecting("relu"),
    rounds_integers=False,
    kinks=True,
    mistakes={
        "dx without the mask": Mistake(
            Case("relu", MISTAKE_SIZES), lambda g, d, c: (d,), {"wrong mask"}
        ),
        "mask from the sign of dout": Mistake(
            Case("relu", MISTAKE_SIZES),
            lambda g, d, c: (np.where(d > 0, d, 0),),
            {"wrong mask", "not accumulated"},
        ),
    },
)
SIGMOID = _spec(
    "sigmoid",
    exact=False,
    magnitudes=pointwise,
    mistakes={
        "the slope is forgotten": Mistake(
            Case("sigmoid", MISTAKE_SIZES), lambda g, d, c: (d,), {"wrong slope"}
        ),
        "half of the slope is forgotten": Mistake(
            Case("sigmoid", MISTAKE_SIZES), lambda g, d, c: (d * c.out,), {"wrong slope"}
        ),
    },
)
TANH = _spec(
    "tanh",
    exact=False,
    magnitudes=pointwise,
    mistakes={
        "the square is forgotten": Mistake(
            Case("tanh", MISTAKE_SIZES), lambda g, d, c: (d * (1 - c.out),), {"wrong slope"}
        ),
    },
)
HARD_SIGMOID = _spec(
    "hard_sigmoid",
    exact=True,
    magnitudes=pointwise,
    kinks=True,
    mistakes={
        "the slope goes on beyond the kinks": Mistake(
            Case("hard_sigmoid", {"...": (60, 60)}), lambda g, d, c: (d / 6,), {"wrong mask"}
        ),
        "the slope is 1": Mistake(Case("hard_sigmoid", MISTAKE_SIZES), scaled(0, 6), {"factor"}),
    },
)
# silu's derivative has both signs; the diagnosis "wrong slope" requires every sign to be right
SILU = _spec(
    "silu",
    exact=False,
    magnitudes=_silu,
    mistakes={
        "s is treated as a constant": Mistake(
            Case("silu", MISTAKE_SIZES), lambda g, d, c: (d * c.s,), {"unknown"}
        ),
        "only the derivative of s": Mistake(
            Case("silu", MISTAKE_SIZES), lambda g, d, c: (d * c.s * (1 - c.s),), {"unknown"}
        ),
        "out instead of x": Mistake(
            Case("silu", MISTAKE_SIZES),
            lambda g, d, c: (d * c.s * (1 + c.out * (1 - c.s)),),
            {"unknown"},
        ),
        "s instead of the derivative of s": Mistake(
            Case("silu", MISTAKE_SIZES), lambda g, d, c: (d * (c.s + c.out),), {"unknown"}
        ),
    },
)
SPECS = (RELU, SIGMOID, TANH, HARD_SIGMOID, SILU)

"""What verifiers must know of relu, sigmoid, tanh, hard_sigmoid and silu."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minise.checks import Array
from minise.contract.bounds import pointwise, selecting
from minise.contract.case import Case
from minise.contract.mistakes import Mistake, scaled
from minise.contract.specification import Spec
from minise.contract.strategies import any_shape
from minise.ops import reference

SHAPE = {"...": (3, 4, 5)}  # of x in the mistakes
WALK = {"...": (2, 4)}


def _spec(op: str, *, exact: bool, **own: Any) -> Spec:
    """Return what the activations have in common, with what one has of its own."""
    cases = {
        "four axes": Case(op, {"...": (2, 3, 4, 5)}, {}, exact),
        "no axis": Case(op, {"...": ()}),
    }
    shared: dict[str, Any] = {"cases": cases, "strategy": any_shape(op), "long_sums": ()}
    return Spec(op=op, **shared, walk=Case(op, WALK), **own)


def _silu(inputs: Sequence[Any], keywords: dict[str, Any], dout: Array) -> list[Any]:
    """Bound silu by the terms out, and dout (s + |out|), each multiplied by its roundings over 4.

    Results may differ by 4 eps times the magnitude where x is one number (bounds.py). The largest
    errors, to first order and in units of eps:

    s     4 s in the reference: 3 of exp (NumPy's in float32: 2.52 ulp), 1/2 of 1 + e, 1/2 of the
          quotient; 2 s in a kernel: 1 of exp, 1 of the rest
    out   one product more, 1/2: 4.5 |out| and 2.5 |out|; the sum is 7 |out|, and 4 * 2 = 8
    slope of its terms, s: 4 s; out (1 - s): 4.5 |out| (1 - s) for the error of out, 4 |out| s for
          that of s, |out| (1 - s) for the difference and the product, at most 5.5 |out|; the sum
          and the product with dout: 1 (s + |out|). So 6.5 (s + |out|), and 4.5 in a kernel, where
          s and out have 2 eps less; the sum is 11, and 4 * 3 = 12
    """
    (x,) = inputs
    s, _ = reference.sigmoid_forward(x)
    s = np.maximum(s, np.finfo(s.dtype).tiny)  # below it a rounding does not shrink with s
    out = abs(x) * s
    return [2 * out, 3 * abs(dout) * (s + out)]


RELU = _spec(
    "relu",
    exact=True,
    magnitudes=selecting("relu"),
    rounds_integers=False,
    kinks=True,
    mistakes={
        "dx passes everywhere": Mistake(Case("relu", SHAPE), lambda g, d, c: (d,), {"wrong mask"}),
        "dx by the sign of dout": Mistake(
            Case("relu", SHAPE),
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
            Case("sigmoid", SHAPE), lambda g, d, c: (d,), {"wrong slope"}
        ),
        "half of the slope is forgotten": Mistake(
            Case("sigmoid", SHAPE), lambda g, d, c: (d * c.out,), {"wrong slope"}
        ),
    },
)
TANH = _spec(
    "tanh",
    exact=False,
    magnitudes=pointwise,
    mistakes={
        "the square is forgotten": Mistake(
            Case("tanh", SHAPE), lambda g, d, c: (d * (1 - c.out),), {"wrong slope"}
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
        "the slope is 1": Mistake(Case("hard_sigmoid", SHAPE), scaled(0, 6), {"factor"}),
    },
)
# its slope has both signs, so that no mistake keeps every sign, as a "wrong slope" does
SILU = _spec(
    "silu",
    exact=False,
    magnitudes=_silu,
    mistakes={
        "s is taken for a constant": Mistake(
            Case("silu", SHAPE), lambda g, d, c: (d * c.s,), {"unknown"}
        ),
        "the slope is that of s alone": Mistake(
            Case("silu", SHAPE), lambda g, d, c: (d * c.s * (1 - c.s),), {"unknown"}
        ),
        "out is taken for x": Mistake(
            Case("silu", SHAPE),
            lambda g, d, c: (d * c.s * (1 + c.out * (1 - c.s)),),
            {"unknown"},
        ),
        "the slope of s is that of x": Mistake(
            Case("silu", SHAPE), lambda g, d, c: (d * (c.s + c.out),), {"unknown"}
        ),
    },
)
SPECS = (RELU, SIGMOID, TANH, HARD_SIGMOID, SILU)

"""What verifiers must know of relu, sigmoid, tanh and hard_sigmoid."""

import numpy as np

from minise.contract.bounds import pointwise, selecting
from minise.contract.case import Case
from minise.contract.mistakes import Mistake, scaled
from minise.contract.specification import Spec
from minise.contract.strategies import any_shape

SHAPE = {"...": (3, 4, 5)}  # of x in the mistakes
WALK = {"...": (2, 4)}


def _cases(op: str, *, exact: bool) -> dict[str, Case]:
    return {
        "four axes": Case(op, {"...": (2, 3, 4, 5)}, {}, exact),
        "no axis": Case(op, {"...": ()}),
    }


RELU = Spec(
    op="relu",
    cases=_cases("relu", exact=True),
    strategy=any_shape("relu"),
    magnitudes=selecting("relu"),
    rounds_integers=False,
    walk=Case("relu", WALK),
    mistakes={
        "dx passes everywhere": Mistake(Case("relu", SHAPE), lambda g, d, c: (d,), {"wrong mask"}),
        "dx by the sign of dout": Mistake(
            Case("relu", SHAPE),
            lambda g, d, c: (np.where(d > 0, d, 0),),
            {"wrong mask", "not accumulated"},
        ),
    },
)
SIGMOID = Spec(
    op="sigmoid",
    cases=_cases("sigmoid", exact=False),
    strategy=any_shape("sigmoid"),
    magnitudes=pointwise,
    walk=Case("sigmoid", WALK),
    mistakes={
        "the slope is forgotten": Mistake(
            Case("sigmoid", SHAPE), lambda g, d, c: (d,), {"wrong slope"}
        ),
        "half of the slope is forgotten": Mistake(
            Case("sigmoid", SHAPE), lambda g, d, c: (d * c.out,), {"wrong slope"}
        ),
    },
)
TANH = Spec(
    op="tanh",
    cases=_cases("tanh", exact=False),
    strategy=any_shape("tanh"),
    magnitudes=pointwise,
    walk=Case("tanh", WALK),
    mistakes={
        "the square is forgotten": Mistake(
            Case("tanh", SHAPE), lambda g, d, c: (d * (1 - c.out),), {"wrong slope"}
        ),
    },
)
HARD_SIGMOID = Spec(
    op="hard_sigmoid",
    cases=_cases("hard_sigmoid", exact=True),
    strategy=any_shape("hard_sigmoid"),
    magnitudes=pointwise,
    walk=Case("hard_sigmoid", WALK),
    mistakes={
        "the slope goes on beyond the kinks": Mistake(
            Case("hard_sigmoid", {"...": (60, 60)}), lambda g, d, c: (d / 6,), {"wrong mask"}
        ),
        "the slope is 1": Mistake(Case("hard_sigmoid", SHAPE), scaled(0, 6), {"factor"}),
    },
)
SPECS = (RELU, SIGMOID, TANH, HARD_SIGMOID)

"""Test specification of linear."""

from minise.contract.bounds import sums_of_products
from minise.contract.case import Case
from minise.contract.mistakes import Mistake, put, scaled
from minise.contract.specification import Spec
from minise.contract.strategies import cases_with_axes

SQUARE = Case("linear", dict(N=4, I=5, O=5))

SPECS = (
    Spec(
        op="linear",
        cases={"plain": Case("linear", dict(N=4, I=3, O=5))},
        strategy=cases_with_axes("linear", "NIO"),
        magnitudes=sums_of_products("linear"),
        rounds_integers=False,
        long_sums=(
            Case("linear", dict(N=1 << 19, I=1, O=3)),
            Case("linear", dict(N=2, I=1 << 18, O=3)),
        ),
        walk=Case("linear", dict(N=2, I=3, O=2)),
        mistakes={
            "dx is zero": Mistake(SQUARE, scaled(0, 0), {"zero"}),
            "dx uses the transposed weight": Mistake(
                SQUARE, lambda g, d, c: put(g, 0, d @ c.weight.T), {"unknown"}
            ),
            "dweight has the wrong sign": Mistake(SQUARE, scaled(1, -1), {"sign"}),
            "dweight is transposed": Mistake(
                SQUARE, lambda g, d, c: put(g, 1, g[1].T), {"transposed"}
            ),
            "dbias is a mean": Mistake(SQUARE, scaled(2, lambda d, c: 1 / len(d)), {"factor 1/N"}),
        },
    ),
)

"""Test specification of flatten."""

import numpy as np

from minise.contract.bounds import sums_of_products
from minise.contract.case import ODD, Case
from minise.contract.mistakes import Mistake
from minise.contract.specification import Spec
from minise.contract.strategies import cases_with_axes

SPECS = (
    Spec(
        op="flatten",
        cases={"plain": Case("flatten", ODD)},
        strategy=cases_with_axes("flatten", "NCHW"),
        magnitudes=sums_of_products("flatten"),
        rounds_integers=False,
        long_sums=(),
        walk=Case("flatten", dict(N=2, C=2, H=1, W=3)),
        mistakes={
            "dx in the order of channels-last memory": Mistake(
                Case("flatten", ODD),
                lambda g, d, c: (
                    d.reshape(len(d), *c.x.shape[2:], c.x.shape[1]).transpose(0, 3, 1, 2),
                ),
                {"permuted", "unknown"},
            ),
            "dx is shifted by a channel": Mistake(
                Case("flatten", ODD), lambda g, d, c: (np.roll(g[0], 1, axis=1),), {"shifted"}
            ),
        },
    ),
)

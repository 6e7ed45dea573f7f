"""Test specifications of add, concat, channel_scale, channel_shuffle, dropout and shake."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minise.contract.bounds import sums_of_products
from minise.contract.case import ODD, Case
from minise.contract.mistakes import Mistake, put, scaled
from minise.contract.specification import Spec
from minise.contract.strategies import AXIS, Strategy, cases_with_axes, elementwise_cases, sizes_of
from minise.ops import reference

ADD_MISTAKE_SIZES = {"...": (3, 4, 5)}
EQUAL_CHANNELS = Case("concat", {"N": 2, "_": (3, 3), "H": 4, "W": 3})


def _concat() -> Strategy:
    sizes = sizes_of("NHW", _=st.lists(AXIS, min_size=1, max_size=4).map(tuple))
    return sizes.map(lambda sizes: Case("concat", sizes))


@st.composite
def _channel_shuffle(draw: Any) -> Case:
    groups = draw(AXIS)
    sizes = dict(draw(sizes_of("NHW")), C=groups * draw(AXIS))
    return Case("channel_shuffle", sizes, dict(groups=groups))


ADD = Spec(
    op="add",
    cases={"four axes": Case("add", {"...": (2, 3, 4, 5)}), "no axis": Case("add", {"...": ()})},
    strategy=elementwise_cases("add"),
    magnitudes=sums_of_products("add"),
    rounds_integers=False,
    long_sums=(),
    walk=Case("add", {"...": (2, 4)}),
    mistakes={
        "db is zero": Mistake(Case("add", ADD_MISTAKE_SIZES), scaled(1, 0), {"zero"}),
        "both get half": Mistake(
            Case("add", ADD_MISTAKE_SIZES), lambda g, d, c: (d / 2, d / 2), {"factor"}
        ),
    },
)
CONCAT = Spec(
    op="concat",
    cases={
        "three": Case("concat", {"N": 2, "_": (3, 1, 2), "H": 3, "W": 4}),
        "one": Case("concat", {"N": 2, "_": (3,), "H": 3, "W": 4}),
    },
    strategy=_concat(),
    magnitudes=sums_of_products("concat"),
    rounds_integers=False,
    long_sums=(),
    walk=Case("concat", {"N": 1, "_": (1, 2), "H": 2, "W": 3}),
    mistakes={
        "the slices are swapped": Mistake(EQUAL_CHANNELS, lambda g, d, c: g[::-1], {"swapped"})
    },
)
CHANNEL_SCALE = Spec(
    op="channel_scale",
    cases={"plain": Case("channel_scale", ODD)},
    strategy=cases_with_axes("channel_scale", "NCHW"),
    magnitudes=sums_of_products("channel_scale"),
    rounds_integers=False,
    long_sums=(Case("channel_scale", dict(N=1, C=2, H=1024, W=1024)),),
    walk=Case("channel_scale", dict(N=2, C=2, H=2, W=3)),
    mistakes={
        "ds is a mean": Mistake(
            Case("channel_scale", ODD), scaled(1, lambda d, c: 1 / d[0, 0].size), {"factor 1/H*W"}
        ),
        "dx lacks s": Mistake(
            Case("channel_scale", ODD), lambda g, d, c: put(g, 0, d), {"missing scale path"}
        ),
    },
)
CHANNEL_SHUFFLE = Spec(
    op="channel_shuffle",
    cases={
        "two of three": Case("channel_shuffle", dict(ODD, C=6), dict(groups=2)),
        "three of two": Case("channel_shuffle", dict(ODD, C=6), dict(groups=3)),
        "one group": Case("channel_shuffle", ODD, dict(groups=1)),
        "every channel a group": Case("channel_shuffle", ODD, dict(groups=3)),
    },
    strategy=_channel_shuffle(),
    magnitudes=sums_of_products("channel_shuffle"),
    rounds_integers=False,
    long_sums=(),
    walk=Case("channel_shuffle", dict(N=1, C=4, H=1, W=3), dict(groups=2)),
    mistakes={
        "shuffled instead of unshuffled": Mistake(
            Case("channel_shuffle", dict(ODD, C=6), dict(groups=3)),
            lambda g, d, c: reference.channel_shuffle_forward(d, groups=c.groups)[:1],
            {"permuted"},
        ),
    },
)
DROPOUT = Spec(
    op="dropout",
    cases={
        "half": Case("dropout", {"...": (2, 3, 4, 5)}, dict(p=0.5)),
        "none": Case("dropout", {"...": (3,)}, dict(p=0.0)),
        "fifth": Case("dropout", {"...": (3, 4)}, dict(p=0.2)),
    },
    strategy=elementwise_cases("dropout", p=st.sampled_from([0, 0.2, 0.5, 0.9])),
    magnitudes=sums_of_products("dropout"),
    long_sums=(),
    walk=Case("dropout", {"...": (2, 4)}, dict(p=0.5)),
    mistakes={
        "dx is not scaled": Mistake(
            Case("dropout", {"...": (3, 4)}, dict(p=0.2)), scaled(0, 1 - 0.2), {"factor"}
        ),
        "the mask is inverted": Mistake(
            Case("dropout", {"...": (2, 3, 4, 5)}, dict(p=0.5)),
            lambda g, d, c: put(g, 0, np.where(c.mask, 0, d / (1 - c.p))),
            {"wrong mask"},
        ),
    },
)
SHAKE = Spec(
    op="shake",
    cases={"plain": Case("shake", ODD)},
    strategy=cases_with_axes("shake", "NCHW"),
    magnitudes=sums_of_products("shake"),
    rounds_integers=False,
    long_sums=(),
    walk=Case("shake", dict(N=2, C=2, H=1, W=3)),
    mistakes={
        "dx2 gets beta": Mistake(Case("shake", ODD), lambda g, d, c: (g[0], g[0]), {"swapped"}),
        "the shares are exchanged": Mistake(
            Case("shake", ODD), lambda g, d, c: g[::-1], {"swapped"}
        ),
        "both get dout": Mistake(
            Case("shake", ODD), lambda g, d, c: (d, d), {"missing scale path"}
        ),
        "both get half": Mistake(
            Case("shake", ODD), lambda g, d, c: (d / 2, d / 2), {"missing scale path"}
        ),
        "dx1 has the first image's share": Mistake(
            Case("shake", ODD),
            lambda g, d, c: put(g, 0, d * c.beta[0]),
            {"missing scale path"},
        ),
    },
)
SPECS = (ADD, CONCAT, CHANNEL_SCALE, CHANNEL_SHUFFLE, DROPOUT, SHAKE)

"""Test specifications of the windowed and the global pooling ops."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from hypothesis import strategies as st

from minise.checks import Array
from minise.contract.bounds import selecting, sums_of_products
from minise.contract.case import IMAGE, ODD, Case
from minise.contract.mistakes import Gradients, Mistake, assigned, cropped, scaled, windows
from minise.contract.specification import Spec
from minise.contract.strategies import cases_with_axes, images_for, pairs
from minise.ops import reference
from minise.ops.reference.windows import pad, window

LONG_WINDOWS = dict(N=1, C=2, H=63, W=63)  # 1024 windows of 32 x 32 overlap in the central pixel
SETTINGS: dict[str, dict[str, Any]] = {  # of both windowed pooling ops
    "plain": dict(kernel=(2, 3)),
    "overlap": dict(kernel=(3, 2), stride=(1, 1)),
    "remainder": dict(kernel=(2, 3), stride=(3, 2)),
    "stride above kernel": dict(kernel=(1, 2), stride=(2, 3)),
    "padding": dict(kernel=(3, 4), stride=(2, 3), padding=(1, 2)),
    "ceil mode": dict(kernel=(3, 2), stride=(2, 3), ceil_mode=True),
    "ceil mode with padding": dict(kernel=(3, 3), stride=(3, 3), padding=(1, 1), ceil_mode=True),
}
NOT_COUNTED = {
    "padding not counted": dict(SETTINGS["padding"], count_include_pad=False),
    "ceil mode, padding not counted": dict(
        SETTINGS["ceil mode with padding"], count_include_pad=False
    ),
}
MAX_CASES = {name: Case("max_pool2d", ODD, settings) for name, settings in SETTINGS.items()}
AVG_CASES = {
    name: Case("avg_pool2d", ODD, settings) for name, settings in (SETTINGS | NOT_COUNTED).items()
}
GLOBAL_AVG_CASES = {
    "plain": Case("global_avg_pool2d", IMAGE),
    "odd": Case("global_avg_pool2d", ODD, {}, exact=False),
}
TIES = Case("max_pool2d", dict(N=2, C=3, H=5, W=6), dict(kernel=(3, 2), stride=(1, 2)))
WALK_SIZES = dict(N=1, C=2, H=4, W=4)
GLOBAL_WALK_SIZES = dict(N=2, C=2, H=2, W=3)


@st.composite
def _pool2d(draw: Any, op: str) -> Case:
    kernel = draw(pairs(1, 4))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    setting = dict(kernel=kernel, padding=padding, ceil_mode=draw(st.booleans()))
    setting["stride"] = draw(st.none() | pairs(1, 4))
    if op == "avg_pool2d":
        setting["count_include_pad"] = draw(st.booleans())
    H, W = draw(images_for(tuple(zip(kernel, padding, strict=True))))
    sizes = dict(N=draw(st.integers(1, 2)), C=draw(st.integers(1, 2)), H=H, W=W)
    return Case(op, sizes, setting)


def _max_shares(d: Array, c: Any) -> Iterator[Array]:
    """Yield dout masked to the windows whose maximum is at an offset, for each kernel offset."""
    where = windows(c, c.kernel)
    pixels = pad(np.arange(c.x[0, 0].size).reshape(c.x.shape[2:]), where, -1)
    for i, j in where.offsets():
        yield np.where(c.argmax == window(pixels, where, i, j), d, 0)


def _max_assigned(g: Gradients, d: Array, c: Any) -> Gradients:
    return (cropped(assigned(_max_shares(d, c), c, c.kernel), c, *c.padding),)


def _max_to_ties(g: Gradients, d: Array, c: Any) -> Gradients:
    where = windows(c, c.kernel)
    settings = {name: getattr(c, name) for name in ("kernel", "stride", "padding", "ceil_mode")}
    padded, out = pad(c.x, where, -np.inf), reference.max_pool2d_forward(c.x, **settings)[0]
    dpadded = np.zeros_like(padded)
    for i, j in where.offsets():
        tied = window(padded, where, i, j) == out
        window(dpadded, where, i, j)[...] += np.where(tied, d, 0)
    return (cropped(dpadded, c, *c.padding),)


def _avg_assigned(g: Gradients, d: Array, c: Any) -> Gradients:
    size = c.kernel[0] * c.kernel[1]
    dpadded = assigned([d / size] * size, c, c.kernel)
    return (cropped(dpadded, c, *c.padding),)


def _avg_by_other_divisor(g: Gradients, d: Array, c: Any) -> Gradients:
    return reference.avg_pool2d_backward(d, c._replace(count_include_pad=not c.count_include_pad))


MAX_POOL2D = Spec(
    op="max_pool2d",
    cases=MAX_CASES,
    strategy=_pool2d("max_pool2d"),
    magnitudes=selecting("max_pool2d"),
    rounds_integers=False,
    long_sums=(Case("max_pool2d", LONG_WINDOWS, dict(kernel=(32, 32), stride=(1, 1))),),
    walk=Case("max_pool2d", WALK_SIZES, dict(kernel=(2, 2))),
    kinks=True,
    mistakes={
        "dx is assigned, not added": Mistake(
            MAX_CASES["overlap"], _max_assigned, {"not accumulated"}
        ),
        "dx goes to all of tied maxima": Mistake(
            TIES, _max_to_ties, {"not accumulated", "wrong mask"}, integers=True
        ),
        "argmax counted in the padded image": Mistake(
            MAX_CASES["padding"],
            lambda g, d, c: (np.roll(g[0], (1, 2), axis=(2, 3)),),
            {"shifted", "permuted"},
        ),
        "dx is divided by the window size": Mistake(TIES, scaled(0, 1 / 6), {"factor"}),
    },
)
AVG_POOL2D = Spec(
    op="avg_pool2d",
    cases=AVG_CASES,
    strategy=_pool2d("avg_pool2d"),
    magnitudes=sums_of_products("avg_pool2d"),
    long_sums=(Case("avg_pool2d", LONG_WINDOWS, dict(kernel=(32, 32), stride=(1, 1))),),
    walk=Case("avg_pool2d", WALK_SIZES, dict(kernel=(2, 2))),
    mistakes={
        "dx is assigned, not added": Mistake(
            AVG_CASES["overlap"], _avg_assigned, {"not accumulated", "unknown"}
        ),
        "the padding is counted but should not be": Mistake(
            AVG_CASES["padding not counted"],
            _avg_by_other_divisor,
            {"not accumulated", "unknown"},
        ),
        "dx is not divided": Mistake(AVG_CASES["stride above kernel"], scaled(0, 2), {"factor 2"}),
        "pixels beyond the image in ceil mode are counted": Mistake(
            AVG_CASES["ceil mode"], _avg_assigned, {"not accumulated", "unknown"}
        ),
    },
)
GLOBAL_AVG_POOL2D = Spec(
    op="global_avg_pool2d",
    cases=GLOBAL_AVG_CASES,
    strategy=cases_with_axes("global_avg_pool2d", "NCHW"),
    magnitudes=sums_of_products("global_avg_pool2d"),
    long_sums=(Case("global_avg_pool2d", dict(N=1, C=2, H=1024, W=1024)),),
    walk=Case("global_avg_pool2d", GLOBAL_WALK_SIZES),
    mistakes={
        "dx is not divided": Mistake(
            GLOBAL_AVG_CASES["plain"], scaled(0, lambda d, c: c.x[0, 0].size), {"factor H*W"}
        ),
    },
)
GLOBAL_MAX_POOL2D = Spec(
    op="global_max_pool2d",
    cases={"plain": Case("global_max_pool2d", ODD)},
    strategy=cases_with_axes("global_max_pool2d", "NCHW"),
    magnitudes=selecting("global_max_pool2d"),
    rounds_integers=False,
    long_sums=(),
    walk=Case("global_max_pool2d", GLOBAL_WALK_SIZES),
    kinks=True,
    mistakes={
        "dx goes to every pixel": Mistake(
            Case("global_max_pool2d", ODD),
            lambda g, d, c: (np.broadcast_to(d[:, :, None, None], c.x.shape),),
            {"wrong mask"},
        ),
    },
)
SPECS = (MAX_POOL2D, AVG_POOL2D, GLOBAL_AVG_POOL2D, GLOBAL_MAX_POOL2D)

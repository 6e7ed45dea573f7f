"""Test specification of conv2d."""

from typing import Any

import numpy as np
from hypothesis import strategies as st

from minise.checks import Array
from minise.contract.bounds import sums_of_products
from minise.contract.case import Case
from minise.contract.mistakes import (
    Gradients,
    Mistake,
    Wrong,
    assigned,
    cropped,
    put,
    scaled,
    windows,
)
from minise.contract.specification import Spec
from minise.contract.strategies import images_for, pairs
from minise.ops import reference
from minise.ops.reference.windows import pad, window

SIZES = dict(N=2, C=4, H=6, W=7, K=6, KH=3, KW=2)
CASES = {
    "plain": Case("conv2d", SIZES),
    "remainder": Case("conv2d", SIZES, dict(stride=(2, 3))),
    "stride above kernel": Case("conv2d", SIZES, dict(stride=(4, 3))),
    "padding": Case("conv2d", SIZES, dict(padding=(1, 2))),
    "padding above kernel": Case("conv2d", SIZES, dict(padding=(3, 3))),
    "dilation": Case("conv2d", SIZES, dict(dilation=(2, 3))),
    "groups": Case("conv2d", SIZES, dict(groups=2)),
    "depthwise": Case("conv2d", dict(SIZES, K=4), dict(groups=4, padding=(1, 0))),
    "depthwise, two filters each": Case("conv2d", dict(SIZES, K=8), dict(groups=4)),
    "1x1": Case("conv2d", dict(SIZES, KH=1, KW=1), dict(stride=(2, 2))),
    "as large as the image": Case("conv2d", dict(SIZES, KH=6, KW=7)),
    "all": Case("conv2d", SIZES, dict(stride=(3, 2), padding=(2, 1), dilation=(2, 3), groups=2)),
}
SQUARE = Case("conv2d", dict(N=2, C=3, H=5, W=6, K=4, KH=3, KW=3), dict(padding=(1, 1)))


@st.composite
def _conv2d(draw: Any) -> Case:
    groups = draw(st.integers(1, 3))
    KH, KW = draw(pairs(1, 3))
    stride, padding, dilation = draw(pairs(1, 4)), draw(pairs(0, 2)), draw(pairs(1, 2))
    spans = dilation[0] * (KH - 1) + 1, dilation[1] * (KW - 1) + 1
    H, W = draw(images_for(tuple(zip(spans, padding, strict=True))))
    C, K = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    sizes = dict(N=draw(st.integers(1, 2)), C=C, H=H, W=W, K=K, KH=KH, KW=KW)
    setting = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    return Case("conv2d", sizes, setting)


def _assigned(g: Gradients, d: Array, c: Any) -> Gradients:
    kernel = c.weight.shape[2:]
    shares = [np.einsum("kc,nkpq->ncpq", c.weight[:, :, i, j], d) for i, j in np.ndindex(*kernel)]
    dpadded = assigned(shares, c, kernel, c.dilation)
    return put(g, 0, cropped(dpadded, c, *c.padding))


def _uncropped(g: Gradients, d: Array, c: Any) -> Gradients:
    free = c._replace(x=pad(c.x, windows(c, c.weight.shape[2:], c.dilation)), padding=(0, 0))
    dpadded: Any = reference.conv2d_backward(d, free)[0]
    return put(g, 0, cropped(dpadded, c, 0, 0))


def _scattered_with(**settings: Any) -> Wrong:
    """Return a wrong backward that accumulates dx with other settings (stride, dilation)."""

    def wrong(g: Gradients, d: Array, c: Any) -> Gradients:
        where = windows(c, c.weight.shape[2:], c.dilation)
        other = where._replace(**settings)
        dpadded = np.zeros_like(pad(c.x, where))
        for i, j in where.offsets():
            share = np.einsum("kc,nkpq->ncpq", c.weight[:, :, i, j], d)
            window(dpadded, other, i, j)[...] += share
        return put(g, 0, cropped(dpadded, c, *c.padding))

    return wrong


def _flipped(g: Gradients, d: Array, c: Any) -> Gradients:
    flipped = c._replace(weight=c.weight[..., ::-1, ::-1])
    return put(g, 0, reference.conv2d_backward(d, flipped)[0])


MISTAKES = {
    "dx is assigned, not added, where windows overlap": Mistake(
        SQUARE, _assigned, {"not accumulated", "unknown"}
    ),
    "dx with the unflipped kernel": Mistake(SQUARE, _flipped, {"unknown"}),
    "dx not cropped by the padding": Mistake(SQUARE, _uncropped, {"shifted"}),
    "dx ignores the stride": Mistake(
        CASES["remainder"], _scattered_with(stride=(1, 1)), {"unknown", "not accumulated"}
    ),
    "dx ignores the dilation": Mistake(
        CASES["dilation"], _scattered_with(dilation=(1, 1)), {"unknown", "not accumulated"}
    ),
    "dx is shifted by a row": Mistake(
        SQUARE, lambda g, d, c: put(g, 0, np.roll(g[0], 1, axis=2)), {"shifted"}
    ),
    "dx is accumulated twice": Mistake(SQUARE, scaled(0, 2), {"factor 2"}),
    "dx of the groups is swapped": Mistake(
        CASES["groups"],
        lambda g, d, c: put(g, 0, np.roll(g[0], c.x.shape[1] // c.groups, axis=1)),
        {"shifted"},
    ),
    "dweight is flipped": Mistake(
        SQUARE, lambda g, d, c: put(g, 1, g[1][..., ::-1, ::-1]), {"flipped"}
    ),
    "dweight is transposed": Mistake(
        SQUARE, lambda g, d, c: put(g, 1, g[1].swapaxes(2, 3)), {"transposed"}
    ),
    "dweight is a mean over images": Mistake(
        SQUARE, scaled(1, lambda d, c: 1 / len(d)), {"factor 1/N"}
    ),
    "dbias of the first image only": Mistake(
        SQUARE, lambda g, d, c: put(g, 2, d[0].sum(axis=(1, 2))), {"unknown"}
    ),
    "dbias is a mean over windows": Mistake(
        SQUARE, scaled(2, lambda d, c: 1 / d[0, 0].size), {"factor 1/H*W", "factor 1/OH*OW"}
    ),
}
PLUS = {  # conv2d_backward(dout, cache, plus=plus): (gradients without plus, plus) -> gradients
    "plus is ignored": lambda g, plus: g,
    "plus is returned instead of dx": lambda g, plus: put(g, 0, plus),
    "plus is subtracted": lambda g, plus: put(g, 0, g[0] - plus),
    "plus is added twice": lambda g, plus: put(g, 0, g[0] + 2 * plus),
    "plus is shifted by one element": lambda g, plus: put(g, 0, g[0] + np.roll(plus, 1)),
    "plus of the first image is added to all": lambda g, plus: put(g, 0, g[0] + plus[:1]),
    "plus is added to dweight too": lambda g, plus: put(
        put(g, 0, g[0] + plus), 1, g[1] + plus.mean()
    ),
    "dx has another shape than x": lambda g, plus: put(g, 0, (g[0] + plus)[0]),
    "dx is None": lambda g, plus: put(g, 0, None),
}
WITHOUT_DX = {  # conv2d_backward(dout, cache, needs_dx=False): gradients -> gradients
    "dweight is None too": lambda g: (None, None, g[2]),
    "dweight is halved": lambda g: (None, g[1] / 2, g[2]),
    "dbias is zero": lambda g: (None, g[1], 0 * g[1][:, 0, 0, 0]),
    "dx is dropped instead of None": lambda g: g[1:],
}
SPECS = (
    Spec(
        op="conv2d",
        cases=CASES,
        strategy=_conv2d(),
        magnitudes=sums_of_products("conv2d"),
        rounds_integers=False,
        nan_spreads="image",  # Winograd's algorithm mixes pixels of one image, never of two images
        long_sums=(),  # only dweight has long sums: tests/ops/test_sums.py tests them
        walk=Case("conv2d", dict(N=1, C=2, H=3, W=4, K=2, KH=2, KW=2)),
        mistakes=MISTAKES,
    ),
)

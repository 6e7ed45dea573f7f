"""Hypothesis strategies of cases of minise's own ops: sizes down to 1, settings down to none."""

from typing import Any, TypeAlias

from hypothesis import strategies as st

from minise.contract.cases import Case, optional
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES

Strategy: TypeAlias = st.SearchStrategy[Any]

SEEDS = st.integers(0, 2**32 - 1)
AXIS = st.integers(1, 4)


def pairs(low: int, high: int) -> Strategy:
    """Return a strategy of (rows, columns)."""
    return st.tuples(st.integers(low, high), st.integers(low, high))


def _sizes(**axes: Any) -> Strategy:
    return st.fixed_dictionaries(dict.fromkeys(axes.pop("names", ""), AXIS) | axes)


@st.composite
def _image_for(draw: Any, windows: Any) -> list[int]:
    """Return H, W that hold at least one window, given (kernel span, padding) of each axis."""
    return [max(1, span - 2 * pad) + draw(st.integers(0, 4)) for span, pad in windows]


@st.composite
def _conv2d(draw: Any) -> Case:
    groups = draw(st.integers(1, 3))
    KH, KW = draw(pairs(1, 3))
    stride, padding, dilation = draw(pairs(1, 4)), draw(pairs(0, 2)), draw(pairs(1, 2))
    spans = dilation[0] * (KH - 1) + 1, dilation[1] * (KW - 1) + 1
    H, W = draw(_image_for(tuple(zip(spans, padding, strict=True))))
    C, K = groups * draw(st.integers(1, 2)), groups * draw(st.integers(1, 2))
    sizes = dict(N=draw(st.integers(1, 2)), C=C, H=H, W=W, K=K, KH=KH, KW=KW)
    setting = dict(stride=stride, padding=padding, dilation=dilation, groups=groups)
    return Case("conv2d", sizes, setting)


@st.composite
def _pool2d(draw: Any, op: str) -> Case:
    kernel = draw(pairs(1, 4))
    padding = tuple(draw(st.integers(0, size // 2)) for size in kernel)
    setting = dict(kernel=kernel, padding=padding, ceil_mode=draw(st.booleans()))
    setting["stride"] = draw(st.none() | pairs(1, 4))
    if op == "avg_pool2d":
        setting["count_include_pad"] = draw(st.booleans())
    H, W = draw(_image_for(tuple(zip(kernel, padding, strict=True))))
    sizes = dict(N=draw(st.integers(1, 2)), C=draw(st.integers(1, 2)), H=H, W=W)
    return Case(op, sizes, setting)


@st.composite
def _normalised(draw: Any, /, op: str, names: str = "NCHW", **more: Any) -> Case:
    sizes = draw(_sizes(names=names))
    alone = sizes["N"] * sizes["H"] * sizes["W"] == 1
    setting = dict(
        training=False if alone else draw(st.booleans()),
        momentum=draw(st.sampled_from([0, 0.1, 1])),
        eps=draw(st.sampled_from([1e-5, 1e-3, 1.0])),
        **draw(st.fixed_dictionaries(more)),
    )
    return Case(op, sizes, setting)


@st.composite
def _channel_shuffle(draw: Any) -> Case:
    groups = draw(AXIS)
    sizes = dict(draw(_sizes(names="NHW")), C=groups * draw(AXIS))
    return Case("channel_shuffle", sizes, dict(groups=groups))


def _any_shape(op: str, **setting: Any) -> Strategy:
    shapes = st.lists(AXIS, max_size=4).map(tuple)
    return st.builds(
        lambda shape, setting: Case(op, {"...": shape}, setting),
        shapes,
        st.fixed_dictionaries(setting),
    )


def _named(op: str, names: str, **setting: Any) -> Strategy:
    return st.builds(
        lambda sizes, setting: Case(op, sizes, setting),
        _sizes(names=names),
        st.fixed_dictionaries(setting),
    )


def _concat() -> Strategy:
    sizes = _sizes(names="NHW", _=st.lists(AXIS, min_size=1, max_size=4).map(tuple))
    return sizes.map(lambda sizes: Case("concat", sizes))


STRATEGIES: dict[str, Strategy] = {
    "add": _any_shape("add"),
    "avg_pool2d": _pool2d("avg_pool2d"),
    "batch_norm2d": _normalised("batch_norm2d"),
    "batch_norm2d_add_relu": _normalised("batch_norm2d_add_relu"),
    "batch_norm2d_relu": _normalised("batch_norm2d_relu"),
    "channel_scale": _named("channel_scale", "NCHW"),
    "channel_shuffle": _channel_shuffle(),
    "concat": _concat(),
    "conv2d": _conv2d(),
    "dropout": _any_shape("dropout", p=st.sampled_from([0, 0.2, 0.5, 0.9])),
    "flatten": _named("flatten", "NCHW"),
    "global_avg_pool2d": _named("global_avg_pool2d", "NCHW"),
    "global_max_pool2d": _named("global_max_pool2d", "NCHW"),
    "hard_sigmoid": _any_shape("hard_sigmoid"),
    "linear": _named("linear", "NIO"),
    "max_pool2d": _pool2d("max_pool2d"),
    "relu": _any_shape("relu"),
    "se_block_tail": _normalised("se_block_tail", "NCHWR", gate=st.sampled_from(GATES)),
    "sigmoid": _any_shape("sigmoid"),
    "softmax_cross_entropy": _named(
        "softmax_cross_entropy", "NK", label_smoothing=st.sampled_from([0, 0.1, 1.0])
    ),
    "squeeze_excite": _named(
        "squeeze_excite",
        "NCHWR",
        squeeze=st.sampled_from(list(SQUEEZES)),
        gate=st.sampled_from(GATES),
    ),
    "tanh": _any_shape("tanh"),
}


def without(op: str) -> Strategy:
    """Return a strategy of the optional arrays to leave out."""
    names = optional(op)
    return st.sets(st.sampled_from(names)) if names else st.just(set())

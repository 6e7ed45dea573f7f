"""What the tests of all ops share: settings worth running, and strategies that draw more."""

import math
import sys
from typing import Any, NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from minise.ops import reference
from minise.ops.checks import parse
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES
from tests.drawing import draw_arrays

BACKENDS = {"reference": reference}
OPS = sorted(n.removesuffix("_forward") for n in reference.__all__ if n.endswith("_forward"))
EPS = float(np.finfo(np.float64).eps)
SEEDS = st.integers(0, 2**32 - 1)

few = settings(deadline=None, max_examples=100)


class Case(NamedTuple):
    """An op with the sizes of its axes and its settings."""

    op: str
    sizes: dict[str, Any]
    settings: dict[str, Any] = {}  # noqa: RUF012, a NamedTuple's default is never changed
    exact: bool = True  # whether small integers leave nothing that depends on the order of sums


def line(op):
    """Return the op's line in SHAPES."""
    return sys.modules[getattr(reference, f"{op}_forward").__module__].SHAPES[op]


def optional(op):
    return [argument.name for argument in parse(line(op)) if argument.optional]


def draw(case, rng, dtype=np.float64, *, integers=False, without=()):
    """Return the arrays that go by position, and all that goes by keyword."""
    arrays, keywords = draw_arrays(
        line(case.op), case.sizes, rng, dtype, integers=integers, without=without, **case.settings
    )
    if case.op == "batch_norm2d":
        arrays[0] = spread(arrays[0].shape, rng, integers).astype(dtype)
        if integers:
            keywords["running_var"][...] = 3
    return arrays, {**keywords, **case.settings}


def spread(shape, rng, integers):
    """Return images whose channels have a variance that is not small.

    Integers have variance 3 in every channel of N * H * W = 4, 8, 16, … pixels, so that with
    eps = 1 rstd is 1/2, exactly. Other numbers lie about 1 apart: pixels that are nearly equal
    would lose their digits when their mean is taken off.
    """
    N, C, H, W = shape
    count = N * H * W
    one = np.resize([-3, 1, 1, 1], count) if integers else np.arange(count) + rng.random(count) / 2
    rows = np.stack([rng.permutation(one) + rng.integers(-3, 4) for _ in range(C)])
    return rows.reshape(C, N, H, W).swapaxes(0, 1)


def forward_of(ops, op, keywords):
    """Return forward with its keywords filled in; their arrays follow the dtype of the inputs."""
    function = getattr(ops, f"{op}_forward")

    def forward(*inputs):
        dtype = inputs[0].dtype
        same = {k: v.astype(dtype) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
        return function(*inputs, **same)

    forward.complex_step = ops is reference
    return forward


def functions(ops, op, keywords):
    """Return forward with its keywords filled in, backward, and branches or None."""
    backward = getattr(ops, f"{op}_backward")
    return forward_of(ops, op, keywords), backward, getattr(ops, f"{op}_branches", None)


def direction(out, rng, *, integers=False, scale=1):
    """Return a random dout."""
    values = rng.integers(-3, 4, out.shape) if integers else rng.standard_normal(out.shape)
    return np.asarray(values * scale, out.dtype)


def all_equal(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        if b is None:
            assert a is None
        else:
            np.testing.assert_array_equal(a, b)


def all_close(ours, theirs, terms, count, dtype=np.float64):
    """Assert that arrays differ by rounding alone.

    Both sides add up the same terms, in an order of their own: each may be off by one rounding of
    the terms' magnitude for every number that the op has, because no sum is longer.
    """
    for a, b, magnitude in zip(ours, theirs, terms, strict=True):
        if b is None:
            assert a is None
        else:
            assert np.shape(a) == np.shape(b)
            bound = 2 * count * np.finfo(dtype).eps * np.asarray(magnitude)
            assert (abs(np.asarray(a) - np.asarray(b)) <= bound).all()


def count_of(inputs, out):
    return out.size + sum(a.size for a in inputs if a is not None)


# Bounds on what the terms of out and of each gradient add up to, all taken as positive.

SELECTING = {"max_pool2d", "global_max_pool2d", "relu"}
POINTWISE = {"sigmoid", "tanh", "hard_sigmoid"}


def magnitudes(op, inputs, keywords, dout):
    """Return one bound for out and one for each gradient, entry by entry."""
    if op in SELECTING:
        out, cache = getattr(reference, f"{op}_forward")(*inputs, **keywords)
        return [abs(out), *getattr(reference, f"{op}_backward")(abs(dout), cache)]
    if op in POINTWISE:  # slopes are at most 1
        return [1 + abs(inputs[0]), abs(dout)]
    special = dict(
        batch_norm2d=_batch_norm_terms,
        softmax_cross_entropy=_cross_entropy_terms,
        squeeze_excite=_squeeze_excite_terms,
    )
    if op in special:
        return special[op](inputs, keywords, dout)
    positive = [a if a is None or a.dtype == bool else abs(a) for a in inputs]  # sums of products
    out, cache = getattr(reference, f"{op}_forward")(*positive, **keywords)
    return [out, *getattr(reference, f"{op}_backward")(abs(dout), cache)]


def _batch_norm_terms(inputs, keywords, dout):
    """Bound batch norm: taking off the mean costs x's digits as often as x is deviations long."""
    x, gamma, beta = inputs
    out, cache = reference.batch_norm2d_forward(x, gamma, beta, **keywords)
    axes = (0, 2, 3)
    g, rstd = abs(gamma)[:, None, None], cache.rstd[:, None, None]
    mean = abs(cache.mean)[:, None, None]
    lost = 1 + rstd * (abs(x).max(axis=axes, keepdims=True) + mean)
    xhat = 1 + rstd * abs(x - cache.mean[:, None, None])
    d = abs(dout)
    dgamma = (d * xhat).sum(axis=axes, keepdims=True) * lost
    count = x.size // len(gamma)
    dx = 4 * g * rstd * lost * (d + (d.sum(axis=axes, keepdims=True) + xhat * dgamma) / count)
    out = g * lost * xhat + abs(beta)[:, None, None]
    return [out, dx, dgamma.ravel(), d.sum(axis=axes)]


def _cross_entropy_terms(inputs, keywords, dout):
    """Bound the loss: a log-probability is a difference of logits and of at most log(K)."""
    logits, _ = inputs
    N, K = logits.shape
    largest = 1 + math.log(K) + np.ptp(logits, axis=1, keepdims=True)
    return [largest.mean(), abs(dout) / N * np.broadcast_to(1 + largest, logits.shape), None]


def _squeeze_excite_terms(inputs, keywords, dout):
    """Bound SE by its run on absolute values with the gate max(v, 0).

    Its slope 1 is the largest of all gates, and b2 + 1 makes it pass every gate's s and |v|.
    Slopes change by at most 2 per unit of v.
    """
    x, w1, b1, w2, b2 = (None if a is None else abs(a) for a in inputs)
    squeeze = keywords.get("squeeze", "avg")
    x = np.broadcast_to(x.max(axis=(2, 3), keepdims=True), x.shape) if squeeze == "max" else x
    b2 = 1 + (np.zeros(len(w2), w2.dtype) if b2 is None else b2)
    out, cache = reference.squeeze_excite_forward(x, w1, b1, w2, b2, squeeze=squeeze, gate="relu")
    gradients = reference.squeeze_excite_backward(abs(dout), cache)
    steepness = 1 + 2 * cache.s.max()
    terms = [None if a is None else a * steepness for a in (out, *gradients)]
    return [t if a is not None else None for t, a in zip(terms, (out, *inputs), strict=True)]


# Settings worth running, each for a way through the code that no other takes. H is never W.

IMAGE = dict(N=2, C=4, H=4, W=8)  # powers of two: means of integers are exact
ODD = dict(N=2, C=3, H=6, W=7)
CONV = dict(N=2, C=4, H=6, W=7, K=6, KH=3, KW=2)
MATRIX = dict(N=4, I=3, O=5)
SE = dict(N=2, C=4, H=2, W=4, R=3)
LOGITS = dict(N=4, K=6)

TABLE = {
    "add": [("four axes", {"...": (2, 3, 4, 5)}), ("no axis", {"...": ()})],
    "avg_pool2d": [
        ("plain", ODD, dict(kernel=(2, 3))),
        ("overlap", ODD, dict(kernel=(3, 2), stride=(1, 1))),
        ("remainder", ODD, dict(kernel=(2, 3), stride=(3, 2))),
        ("stride above kernel", ODD, dict(kernel=(1, 2), stride=(2, 3))),
        ("padding", ODD, dict(kernel=(3, 4), stride=(2, 3), padding=(1, 2))),
        (
            "padding not counted",
            ODD,
            dict(kernel=(3, 4), stride=(2, 3), padding=(1, 2), count_include_pad=False),
        ),
        ("ceil mode", ODD, dict(kernel=(3, 2), stride=(2, 3), ceil_mode=True)),
        (
            "ceil mode with padding",
            ODD,
            dict(kernel=(3, 3), stride=(3, 3), padding=(1, 1), ceil_mode=True),
        ),
        (
            "ceil mode, padding not counted",
            ODD,
            dict(
                kernel=(3, 3),
                stride=(3, 3),
                padding=(1, 1),
                ceil_mode=True,
                count_include_pad=False,
            ),
        ),
    ],
    "batch_norm2d": [
        ("training", IMAGE, dict(training=True, eps=1.0)),
        ("training, momentum", IMAGE, dict(training=True, momentum=0.5, eps=1.0)),
        ("evaluation", IMAGE, dict(training=False, eps=1.0)),
        ("training, small eps", ODD, dict(training=True), False),
        ("evaluation, small eps", ODD, dict(training=False), False),
    ],
    "channel_scale": [("plain", ODD)],
    "channel_shuffle": [
        ("two of three", dict(ODD, C=6), dict(groups=2)),
        ("three of two", dict(ODD, C=6), dict(groups=3)),
        ("one group", ODD, dict(groups=1)),
        ("every channel a group", ODD, dict(groups=3)),
    ],
    "concat": [
        ("three", {"N": 2, "_": (3, 1, 2), "H": 3, "W": 4}),
        ("one", {"N": 2, "_": (3,), "H": 3, "W": 4}),
    ],
    "conv2d": [
        ("plain", CONV),
        ("remainder", CONV, dict(stride=(2, 3))),
        ("stride above kernel", CONV, dict(stride=(4, 3))),
        ("padding", CONV, dict(padding=(1, 2))),
        ("padding above kernel", CONV, dict(padding=(3, 3))),
        ("dilation", CONV, dict(dilation=(2, 3))),
        ("groups", CONV, dict(groups=2)),
        ("depthwise", dict(CONV, K=4), dict(groups=4, padding=(1, 0))),
        ("depthwise, two filters each", dict(CONV, K=8), dict(groups=4)),
        ("1x1", dict(CONV, KH=1, KW=1), dict(stride=(2, 2))),
        ("as large as the image", dict(CONV, KH=6, KW=7)),
        ("all", CONV, dict(stride=(3, 2), padding=(2, 1), dilation=(2, 3), groups=2)),
    ],
    "dropout": [
        ("half", {"...": (2, 3, 4, 5)}, dict(p=0.5)),
        ("none", {"...": (3,)}, dict(p=0.0)),
        ("fifth", {"...": (3, 4)}, dict(p=0.2)),
    ],
    "global_avg_pool2d": [("plain", IMAGE)],
    "global_max_pool2d": [("plain", ODD)],
    "hard_sigmoid": [("four axes", {"...": (2, 3, 4, 5)}), ("no axis", {"...": ()})],
    "linear": [("plain", MATRIX)],
    "max_pool2d": [
        ("plain", ODD, dict(kernel=(2, 3))),
        ("overlap", ODD, dict(kernel=(3, 2), stride=(1, 1))),
        ("remainder", ODD, dict(kernel=(2, 3), stride=(3, 2))),
        ("stride above kernel", ODD, dict(kernel=(1, 2), stride=(2, 3))),
        ("padding", ODD, dict(kernel=(3, 4), stride=(2, 3), padding=(1, 2))),
        ("ceil mode", ODD, dict(kernel=(3, 2), stride=(2, 3), ceil_mode=True)),
        (
            "ceil mode with padding",
            ODD,
            dict(kernel=(3, 3), stride=(3, 3), padding=(1, 1), ceil_mode=True),
        ),
    ],
    "relu": [("four axes", {"...": (2, 3, 4, 5)}), ("no axis", {"...": ()})],
    "sigmoid": [("four axes", {"...": (2, 3, 4, 5)}, {}, False), ("no axis", {"...": ()})],
    "softmax_cross_entropy": [
        ("plain", LOGITS, {}, False),
        ("smoothing", LOGITS, dict(label_smoothing=0.1), False),
        ("all smooth", LOGITS, dict(label_smoothing=1), False),
    ],
    "squeeze_excite": [
        *((f"{squeeze}, relu", SE, dict(squeeze=squeeze, gate="relu")) for squeeze in SQUEEZES),
        *((f"avg, {gate}", SE, dict(gate=gate), False) for gate in GATES if gate != "relu"),
        ("none, sigmoid", SE, dict(squeeze="none"), False),
        ("max, hard_sigmoid", SE, dict(squeeze="max", gate="hard_sigmoid"), False),
    ],
    "tanh": [("four axes", {"...": (2, 3, 4, 5)}, {}, False), ("no axis", {"...": ()})],
}
CASES = {op: {name: Case(op, *rest) for name, *rest in rows} for op, rows in TABLE.items()}


# Strategies: every axis may be 1, every setting may be the plain one.

AXIS = st.integers(1, 4)


def pairs(low, high):
    return st.tuples(st.integers(low, high), st.integers(low, high))


def _sizes(**axes):
    return st.fixed_dictionaries(dict.fromkeys(axes.pop("names", ""), AXIS) | axes)


@st.composite
def _image_for(draw, windows):
    """Return H, W that hold at least one window, given (kernel span, padding) of each axis."""
    return [max(1, span - 2 * pad) + draw(st.integers(0, 4)) for span, pad in windows]


@st.composite
def _conv2d(draw):
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
def _pool2d(draw, op):
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
def _batch_norm2d(draw):
    sizes = draw(_sizes(names="NCHW"))
    alone = sizes["N"] * sizes["H"] * sizes["W"] == 1
    setting = dict(
        training=False if alone else draw(st.booleans()),
        momentum=draw(st.sampled_from([0, 0.1, 1])),
        eps=draw(st.sampled_from([1e-5, 1e-3, 1.0])),
    )
    return Case("batch_norm2d", sizes, setting)


@st.composite
def _channel_shuffle(draw):
    groups = draw(AXIS)
    sizes = dict(draw(_sizes(names="NHW")), C=groups * draw(AXIS))
    return Case("channel_shuffle", sizes, dict(groups=groups))


def _any_shape(op, **setting):
    shapes = st.lists(AXIS, max_size=4).map(tuple)
    return st.builds(
        lambda shape, setting: Case(op, {"...": shape}, setting),
        shapes,
        st.fixed_dictionaries(setting),
    )


def _named(op, names, **setting):
    return st.builds(
        lambda sizes, setting: Case(op, sizes, setting),
        _sizes(names=names),
        st.fixed_dictionaries(setting),
    )


def _concat():
    sizes = _sizes(names="NHW", _=st.lists(AXIS, min_size=1, max_size=4).map(tuple))
    return sizes.map(lambda sizes: Case("concat", sizes))


STRATEGIES = {
    "add": _any_shape("add"),
    "avg_pool2d": _pool2d("avg_pool2d"),
    "batch_norm2d": _batch_norm2d(),
    "channel_scale": _named("channel_scale", "NCHW"),
    "channel_shuffle": _channel_shuffle(),
    "concat": _concat(),
    "conv2d": _conv2d(),
    "dropout": _any_shape("dropout", p=st.sampled_from([0, 0.2, 0.5, 0.9])),
    "global_avg_pool2d": _named("global_avg_pool2d", "NCHW"),
    "global_max_pool2d": _named("global_max_pool2d", "NCHW"),
    "hard_sigmoid": _any_shape("hard_sigmoid"),
    "linear": _named("linear", "NIO"),
    "max_pool2d": _pool2d("max_pool2d"),
    "relu": _any_shape("relu"),
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


def without(op):
    """Return a strategy of the optional arrays to leave out."""
    names = optional(op)
    return st.sets(st.sampled_from(names)) if names else st.just(set())

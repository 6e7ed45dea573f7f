"""The rules by which the operations and bytes of a recorded call are counted."""

from collections import Counter

import numpy as np
import pytest

from minise.ops import cost, reference, wrap
from minise.ops.cost.counts import (
    CONVENTIONS,
    KINDS,
    MAC_KINDS,
    RULES,
    SE_KINDS,
    count,
    macs,
    operations,
)
from minise.ops.cost.traffic import bytes_moved
from tests.ops.cases import CASES, OPS, draw

F = np.float32
IMAGE = 2 * 4 * 5 * 6  # numbers of x in most of these calls
NORM = dict.fromkeys(("running_mean", "running_var"), (4,))


def calls(op, shapes, backward=None, **settings):
    """Return the recorded calls of forward and backward on shapes; a tuple is an array's shape."""
    ops = wrap.record(cost.Shapes())
    arrays = [shape and ops.ops.shaped(shape, F) for shape in shapes]
    pairs = ("kernel", "stride", "padding")
    settings = {
        name: ops.ops.shaped(value, F) if isinstance(value, tuple) and name not in pairs else value
        for name, value in settings.items()
    }
    out, cache = getattr(ops, f"{op}_forward")(*arrays, **settings)
    getattr(ops, f"{op}_backward")(out, cache, **(backward or {}))
    return ops.calls


X, WEIGHTS = (2, 4, 5, 6), [(3, 4), (3,), (4, 3), (4,)]
BY_HAND = {  # op, shapes, settings, operations of forward and of backward
    "convolution": (
        "conv2d",
        [X, (6, 2, 3, 3)],
        dict(padding=(1, 1), groups=2),
        dict(conv=2 * 6 * 30 * 18),
        dict(conv=2 * 2 * 6 * 30 * 18),
    ),
    "convolution with bias and stride": (
        "conv2d",
        [X, (6, 4, 1, 2), (6,)],
        dict(stride=(2, 2)),
        dict(conv=2 * 6 * 9 * 8, bias=2 * 6 * 9),
        dict(conv=2 * 2 * 6 * 9 * 8, bias=2 * 6 * 9),
    ),
    "dense layer": ("linear", [(5, 7), (3, 7)], {}, dict(fc=5 * 21), dict(fc=2 * 5 * 21)),
    "dense layer with bias": (
        "linear",
        [(5, 7), (3, 7), (3,)],
        {},
        dict(fc=5 * 21, bias=15),
        dict(fc=2 * 5 * 21, bias=15),
    ),
    "SE block": (
        "squeeze_excite",
        [X, *WEIGHTS],
        {},
        dict(se_fc=2 * 24, gate=IMAGE, squeeze=IMAGE, excite=2 * (7 + 3 + 4 * 4)),
        dict(se_fc=4 * 24, gate=2 * IMAGE, squeeze=IMAGE, excite=2 * (7 + 3 + 4 * 3)),
    ),
    "SE block of maxima without biases": (
        "squeeze_excite",
        [X, (3, 4), None, (4, 3), None],
        dict(squeeze="max", gate="relu"),
        dict(se_fc=2 * 24, gate=IMAGE, squeeze=IMAGE, excite=2 * (3 + 4)),
        dict(se_fc=4 * 24, gate=2 * IMAGE, squeeze=IMAGE, excite=2 * (3 + 4)),
    ),
    "SE block without squeeze": (
        "squeeze_excite",
        [X, *WEIGHTS],
        dict(squeeze="none", gate="tanh"),
        dict(se_fc=60 * 24, gate=IMAGE, excite=60 * (7 + 3 + 4)),
        dict(se_fc=120 * 24, gate=2 * IMAGE, squeeze=IMAGE, excite=60 * (7 + 3 + 4 * 3)),
    ),
    "gate": ("channel_scale", [X, (2, 4)], {}, dict(gate=IMAGE), dict(gate=2 * IMAGE)),
    "batch norm": (
        "batch_norm2d",
        [X, (4,), (4,)],
        dict(training=True, **NORM),
        dict(norm=7 * IMAGE),
        dict(norm=10 * IMAGE),
    ),
    "batch norm in evaluation": (
        "batch_norm2d",
        [X, (4,), (4,)],
        dict(training=False, **NORM),
        dict(norm=4 * IMAGE),
        dict(norm=7 * IMAGE),
    ),
    "max pooling": (
        "max_pool2d",
        [X],
        dict(kernel=(2, 3)),
        dict(pool=2 * 4 * 4 * 6),
        dict(pool=2 * 4 * 4),
    ),
    "average pooling": (
        "avg_pool2d",
        [X],
        dict(kernel=(2, 3)),
        dict(pool=2 * 4 * 4 * 6),
        dict(pool=2 * 4 * 4 * 7),
    ),
    "global pooling": ("global_avg_pool2d", [X], {}, dict(pool=IMAGE), dict(pool=2 * 4)),
    "ReLU": ("relu", [X], {}, dict(activation=IMAGE), dict(activation=IMAGE)),
    "sigmoid": ("sigmoid", [(3, 4)], {}, dict(activation=48), dict(activation=36)),
    "sum": ("add", [X, X], {}, dict(sum=IMAGE), {}),
    "shake": (
        "shake",
        [X, X],
        dict(alpha=(2,), beta=(2,)),
        dict(sum=3 * IMAGE),
        dict(sum=2 * IMAGE),
    ),
    "concatenation": ("concat", [X, X], {}, {}, {}),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_operations_by_hand(name):
    op, shapes, settings, *expected = BY_HAND[name]
    assert [+count(call) for call in calls(op, shapes, **settings)] == expected


def test_settings_of_a_convolutions_backward():
    """Without dx, half of the products; the sum of plus and dx has an addition per element."""
    shapes = [X, (6, 4, 3, 3)]
    products = 2 * 6 * 12 * 36
    _, call = calls("conv2d", shapes, dict(needs_dx=False))
    assert +count(call) == dict(conv=products)
    plus = cost.Shapes().shaped(X, F)
    _, call = calls("conv2d", shapes, dict(plus=plus))
    assert +count(call) == dict(conv=2 * products, sum=IMAGE)


FUSED = {
    "batch_norm2d_relu": ["batch_norm2d", "relu"],
    "batch_norm2d_add_relu": ["batch_norm2d", "add", "relu"],
    "se_block_tail": ["batch_norm2d", "squeeze_excite", "add", "relu"],
}
SHAPES = {
    "batch_norm2d": [X, (4,), (4,)],
    "squeeze_excite": [X, *WEIGHTS],
    "add": [X, X],
    "relu": [X],
    "batch_norm2d_relu": [X, (4,), (4,)],
    "batch_norm2d_add_relu": [X, (4,), (4,), X],
    "se_block_tail": [X, (4,), (4,), *WEIGHTS, X],
}


@pytest.mark.parametrize("op", FUSED)
def test_a_fused_op_counts_as_the_ops_that_it_replaces(op):
    def counts(name):
        norm = dict(training=True, **NORM) if "norm" in name or "tail" in name else {}
        return [count(call) for call in calls(name, SHAPES[name], **norm)]

    parts = [counts(name) for name in FUSED[op]]
    for fused, *separate in zip(counts(op), *parts, strict=True):
        assert +fused == sum(separate, Counter())


@pytest.mark.parametrize("op", OPS)
def test_every_op_has_a_rule_of_known_kinds(op):
    assert op in RULES
    for case in CASES[op].values():
        ops = wrap.record(reference)
        arrays, keywords = draw(case, np.random.default_rng(0))
        out, cache = getattr(ops, f"{op}_forward")(*arrays, **keywords)
        getattr(ops, f"{op}_backward")(np.ones_like(out), cache)
        for call in ops.calls:
            assert set(count(call)) <= set(KINDS)
            assert all(number >= 0 for number in count(call).values())


def test_conventions():
    """The kinds conv, fc, se_fc, gate, squeeze, … have 1, 10, 100, 1000, 10000, … operations."""
    counts = Counter({kind: 10**k for k, kind in enumerate(KINDS)})
    assert operations(counts) == operations(counts, "macs") == 1111
    assert operations(counts, "flops") == 2222
    assert operations(counts, "all") == 11111111222
    assert {*MAC_KINDS, *SE_KINDS} <= set(KINDS)
    assert CONVENTIONS == ("macs", "flops", "all")


def test_an_op_without_a_rule_counts_nothing():
    (forward, _) = calls("relu", [X])
    assert count(forward._replace(op="users_own")) == {}
    assert macs(forward._replace(op="users_own")) == 0


def test_bytes_by_hand():
    """Every array counts once, also if it is both dout and in the cache; views count nothing."""
    (forward, backward) = calls("relu", [X])
    assert bytes_moved(forward) == 2 * 4 * IMAGE
    assert bytes_moved(backward) == 2 * 4 * IMAGE  # out is dout here
    forward, backward = calls("batch_norm2d", SHAPES["batch_norm2d"], training=True, **NORM)
    assert bytes_moved(forward) == 4 * (2 * IMAGE + 4 * 4 + 4 * 4)
    assert bytes_moved(backward) == 4 * (3 * IMAGE + 6 * 4 + 2 * 4)
    for op, shapes in {"add": [X, X], "concat": [X, X], "flatten": [X]}.items():
        forward, backward = calls(op, shapes)
        assert bytes_moved(forward) == 2 * 4 * IMAGE * len(shapes) - 4 * IMAGE * (op == "add")
        assert bytes_moved(backward) == 0
    forward, backward = calls("max_pool2d", [X], kernel=(1, 1))
    assert bytes_moved(forward) == IMAGE * (4 + 4 + 8)  # x, out and argmax
    plus = cost.Shapes().shaped((2, 4, 1, 1), F)
    _, backward = calls("conv2d", [(2, 4, 1, 1), (3, 4, 1, 1)], dict(plus=plus))
    assert bytes_moved(backward) == 4 * (6 + 8 + 8 + 12 + 8 + 12)  # dout, x, plus, w, dx, dw


def test_a_result_that_is_also_in_the_cache_counts_once():
    """Also in the second call of the same shapes, whose cache has another view of it."""
    ops = wrap.record(cost.Shapes())
    x = ops.ops.shaped(X, F)
    for _ in range(2):
        ops.relu_forward(x)
    assert [bytes_moved(call) for call in ops.calls] == [2 * 4 * IMAGE] * 2

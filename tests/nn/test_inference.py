"""Nets made ready to predict: equal to predict but for rounding, and snapshots."""

import copy
from types import SimpleNamespace

import numpy as np
import pytest

from minise import models, nn
from minise.nn.squeeze_excite import SITES
from minise.ops import jit, reference, wrap
from minise.ops.jit.algorithm import chosen
from minise.ops.jit.simd import AS_LOOPS
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES
from tests.nn.adapter import shaken
from tests.nn.errors import Errors
from tests.nn.test_residual import UNITS

BACKENDS = {"reference": reference, "jit": jit}
over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def build_of(ops=reference, dtype=np.float64, se=None):
    rng = np.random.default_rng(3)
    return nn.Build(ops, rng, dtype, se, se_rng=rng)


FAMILIES = {
    "ResNet, option A": lambda build: models.ResNetCifar(8, 10, build, shortcut="A"),
    "ResNet, option B": lambda build: models.ResNetCifar(8, 10, build, shortcut="B"),
    "pre-activation": lambda build: models.WideResNet(1, 1, nn.PreActBlock, 10, build),
    "wide": lambda build: models.WideResNet(1, 2, nn.PreActBlock, 10, build),
    "bottlenecks": lambda build: models.WideResNet(1, 1, nn.PreActBottleneck, 10, build),
}
compiled_only = pytest.mark.skipif(AS_LOOPS, reason="too large for kernels that run as Python")
over_units = pytest.mark.parametrize("unit", UNITS)
over_sites = pytest.mark.parametrize("site", [None, *SITES])
over_families = pytest.mark.parametrize("family", FAMILIES)


def moved(net):
    """Move a net's parameters off their start: normalisations get factors of both signs."""
    rng = np.random.default_rng(0)
    for layer in shaken(net, rng).named_layers().values():
        if isinstance(layer, nn.BatchNorm2d):
            layer.params["weight"] *= rng.choice([-1, 1], len(layer.params["weight"]))
    return net


@over_backends
@over_units
@over_sites
def test_units(ops, unit, site):
    """Two ways to compute a unit differ by no more than rounding can do (tests/nn/errors.py)."""
    differ_by_rounding(UNITS[unit], ops, None if site is None else nn.SE(reduction=2, site=site))


@over_backends
@pytest.mark.parametrize("unit", ["basic, projected", "bottleneck, projected"])
@pytest.mark.parametrize("squeeze", SQUEEZES)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("bias", [False, True])
def test_units_with_every_squeeze_and_gate(ops, unit, squeeze, gate, bias):
    differ_by_rounding(UNITS[unit], ops, nn.SE(2, squeeze=squeeze, gate=gate, bias=bias))


def differ_by_rounding(unit, ops, se):
    layer, errors = moved(unit(build_of(ops, se=se))), Errors()
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 6))
    wrap.attach(layer, errors)
    expected = layer.predict(x)
    bound = errors.bound(expected)
    wrap.attach(layer, ops)
    assert bound.max() < 1e-8 * abs(expected).max()  # so that it tells right from wrong
    assert (abs(layer.predict(x) - expected) <= bound).all()
    assert (abs(layer.inference()(x) - expected) <= bound).all()


@compiled_only
@over_backends
@over_dtypes
@over_families
@over_sites
def test_nets(ops, dtype, family, site):
    """A whole net has so many roundings that no bound is small: here half of all digits agree."""
    se = None if site is None else nn.SE(reduction=4, site=site)
    net = moved(FAMILIES[family](build_of(ops, dtype, se)))
    for shape in ((2, 3, 13, 10), (1, 3, 32, 32)):
        x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
        expected, logits = net.predict(x), net.inference()(x)
        assert logits.dtype == dtype
        agree(logits, expected)


def agree(logits, expected):
    """Assert that half of all digits are the same; what a wrong formula leaves is none."""
    half = np.sqrt(np.finfo(logits.dtype).eps)
    assert abs(logits - expected).max() < half * abs(expected).max()


def whole_numbers(net):
    """Give a net parameters that are small whole numbers, and normalisations a deviation of 2.

    Of the weights that an output adds up about four are not 0, so that all sums stay below 2**24:
    then they are exact also in float32.
    """
    rng = np.random.default_rng(0)
    for layer in net.named_layers().values():
        for array in layer.params.values():
            some = 4 / array[0].size if array.ndim > 1 else 1 / 4
            array[...] = rng.choice([-1, 1], array.shape) * (rng.random(array.shape) < some)
        if isinstance(layer, nn.BatchNorm2d):
            channels = len(layer.params["weight"])
            layer.eps = 1.0
            layer.params["weight"][...] = rng.choice([-2, 2], channels)
            layer.state["running_mean"][...] = rng.integers(-3, 4, channels)
            layer.state["running_var"][...] = 3
    return net


@compiled_only
@over_backends
@over_dtypes
@over_families
def test_whole_numbers_are_equal(ops, dtype, family):
    """Nothing is rounded, so folding may change no bit; Winograd's transforms would round."""
    net = whole_numbers(FAMILIES[family](build_of(ops, dtype)))
    x = np.random.default_rng(1).integers(-3, 4, (3, 3, 8, 8)).astype(dtype)
    before = chosen.set("direct")
    try:
        expected, logits = net.predict(x), net.inference()(x)
    finally:
        chosen.reset(before)
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(logits, expected, strict=True)


@compiled_only
def test_as_exact_as_predict_in_float32():
    """A folded net's logits are as near to those of float64 as are those that predict returns."""
    net = moved(models.build("se_resnet20", ops=jit))
    exact = models.build("se_resnet20", ops=jit, dtype=np.float64)
    for kind in ("named_parameters", "named_state"):
        for name, array in getattr(exact, kind)().items():
            array[...] = getattr(net, kind)()[name]
    x = np.random.default_rng(1).standard_normal((4, 3, 32, 32)).astype(np.float32)
    expected = exact.predict(x.astype(np.float64))
    agree(net.predict(x), expected)
    agree(net.inference()(x), expected)


# A snapshot


@over_backends
@over_families
def test_a_snapshot(ops, family):
    net = moved(FAMILIES[family](build_of(ops, se=nn.SE(reduction=4, site="pre"))))
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
    run, expected = net.inference(), net.predict(x)
    before = run(x)
    for array in (*net.named_parameters().values(), *net.named_state().values()):
        array += 1
    np.testing.assert_array_equal(run(x), before)
    assert (net.predict(x) != expected).any()
    assert (net.inference()(x) != before).any()


@over_backends
def test_it_leaves_the_net_alone(ops):
    net = moved(FAMILIES["ResNet, option A"](build_of(ops, se=nn.SE(reduction=4))))
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 9))
    state = {name: array.copy() for name, array in net.named_state().items()}
    out = net.forward(x, training=False)
    net.inference()(x)
    net.backward(out)  # its caches are still there
    for name, array in net.named_state().items():
        np.testing.assert_array_equal(array, state[name])
    with pytest.raises(RuntimeError, match="backward has no cache"):
        net.backward(out)


# Layers by themselves, and in a row


def layers():
    rng = np.random.default_rng(0)
    more = dict(rng=rng, dtype=np.float64)
    return {
        "conv": nn.Conv2d(4, 6, (3, 2), stride=2, padding=(1, 0), groups=2, bias=True, **more),
        "batch norm": nn.BatchNorm2d(4, eps=0.1, dtype=np.float64),
        "relu": nn.ReLU(),
        "max pool": nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
        "avg pool": nn.AvgPool2d(2),
        "global pool": nn.GlobalAvgPool2d(),
        "dropout": nn.Dropout(0.5),
        "SE": nn.SEBlock(4, nn.SE(reduction=2), dtype=np.float64),
        "padded shortcut": nn.PaddedShortcut(4, 7, 2),
        "identity": nn.Sequential(),
        "in a row": nn.Sequential(
            nn.BatchNorm2d(4, dtype=np.float64),
            nn.ReLU(),
            nn.Conv2d(4, 5, 3, bias=True, **more),
            nn.BatchNorm2d(5, dtype=np.float64),
            nn.Conv2d(5, 5, 3, **more),
            nn.ReLU(),
            nn.Sequential(
                nn.Conv2d(5, 3, 1, **more), nn.BatchNorm2d(3, dtype=np.float64), nn.ReLU()
            ),
            nn.BatchNorm2d(3, dtype=np.float64),
            nn.GlobalAvgPool2d(),
            nn.Linear(3, 2, **more),
        ),
    }


@over_backends
@pytest.mark.parametrize("name", layers())
def test_layers(ops, name):
    layer = moved(layers()[name])
    wrap.attach(layer, ops)
    x = np.random.default_rng(1).standard_normal((2, 4, 9, 8))
    out, expected = layer.inference()(x), layer.predict(x)
    # as many roundings as there are numbers, of numbers that are at most as large as the largest
    size = max(abs(x).max(), *(abs(a).max() for a in layer.named_parameters().values()), 1) ** 8
    np.testing.assert_allclose(out, expected, rtol=0, atol=x.size * np.finfo(float).eps * size)


@pytest.mark.parametrize(
    ("names", "steps"),
    [
        (["conv"], 1),
        (["conv", "norm"], 1),
        (["conv", "norm", "relu"], 1),
        (["conv", "relu"], 1),
        (["norm", "relu"], 1),
        (["norm", "conv"], 2),
        (["conv", "relu", "norm"], 2),
        (["conv", "norm", "norm"], 2),
        (["conv", "relu", "relu"], 2),
        (["conv", "conv", "norm"], 2),
        (["dropout", "conv", "dropout"], 1),
    ],
    ids=str,
)
def test_what_is_one_step(names, steps):
    made = dict(
        conv=lambda: nn.Conv2d(4, 4, 3),
        norm=lambda: nn.BatchNorm2d(4),
        relu=nn.ReLU,
        dropout=lambda: nn.Dropout(0.5),
    )
    calls = []

    class Counting(wrap.Wrapper):
        def wrapped(self, layer, name):
            function = getattr(reference, name)
            if name.startswith("run_") or name.endswith("_forward"):
                return lambda *args, **kinds: (calls.append(name), function(*args, **kinds))[1]
            return function

    net = nn.Sequential(*(made[name]() for name in names))
    wrap.attach(net, Counting(reference))
    net.inference()(np.ones((1, 4, 9, 9), np.float32))
    assert len(calls) == steps


def test_a_whole_net_is_few_steps():
    calls = []

    class Counting(wrap.Wrapper):
        def wrapped(self, layer, name):
            function = getattr(reference, name)
            if name.startswith("run_") or name.endswith("_forward"):
                return lambda *args, **kinds: (calls.append(name), function(*args, **kinds))[1]
            return function

    net = models.build("se_resnet20", reduction=4)
    wrap.attach(net, Counting(reference))
    net.inference()(np.ones((1, 3, 8, 8), np.float32))
    convolutions = 1 + 9 * 2 + 2
    assert calls == [*["run_conv2d"] * convolutions, "global_avg_pool2d_forward", "linear_forward"]


# What cannot be folded


class Doubled(nn.Conv2d):
    """A convolution whose forward is another one."""

    def forward(self, x, training):
        return 2 * super().forward(x, training)


class Shifted(nn.BatchNorm2d):
    """A normalisation whose forward is another one."""

    def forward(self, x, training):
        return super().forward(x, training) + 1

    def forward_relu(self, x, training):
        return super().forward_relu(x, training) + 1


class Halved(nn.BasicBlock):
    """A unit whose forward is another one."""

    def forward(self, x, training):
        return super().forward(x, training) / 2


class Named(nn.BasicBlock):
    """A unit that overrides nothing that is folded."""

    def __repr__(self):
        return "unit"


@over_backends
def test_a_class_with_a_forward_of_its_own(ops):
    more = dict(ops=ops, dtype=np.float64)
    x = np.random.default_rng(1).standard_normal((2, 4, 8, 9))
    conv, norm = nn.Conv2d(4, 4, 3, padding=1, **more), nn.BatchNorm2d(4, **more)
    doubled = Doubled(4, 4, 3, padding=1, **more)
    for net in (doubled, Shifted(4, **more), Halved(4, 4, 1, "B", build_of(ops))):
        net = moved(net)
        np.testing.assert_array_equal(net.inference()(x), net.predict(x))
    for net in (nn.Sequential(doubled, norm), nn.Sequential(conv, Shifted(4, **more))):
        net = moved(net)
        np.testing.assert_allclose(net.inference()(x), net.predict(x), rtol=1e-12, atol=1e-12)
    assert Named(4, 4, 1, "B", build_of(ops)).inference().__name__ == "run"


@over_backends
@pytest.mark.parametrize("unit", [nn.BasicBlock, nn.PreActBlock])
def test_a_unit_with_layers_of_another_class(ops, unit):
    """They run as they are, and with them what would have been one step."""
    build = build_of(ops, se=nn.SE(reduction=2))
    net = unit(4, 4, 1, "B", build) if unit is nn.BasicBlock else unit(4, 4, 1, build)
    more = dict(ops=ops, dtype=np.float64)
    x = np.random.default_rng(1).standard_normal((2, 4, 8, 9))
    for name, layer in (
        ("conv2", Doubled(4, 4, 3, padding=1, **more)),
        ("conv1", nn.Sequential(nn.Conv2d(4, 4, 1, **more), nn.Conv2d(4, 4, 3, padding=1, **more))),
    ):
        setattr(net, name, layer)
        moved(net)
        expected = net.predict(x)
        np.testing.assert_allclose(net.inference()(x), expected, rtol=1e-12, atol=1e-12)


def test_a_back_end_without_inference():
    """It has no more than the ops: then a net is copied, and does what predict does."""
    bare = SimpleNamespace(
        **{
            n: getattr(reference, n)
            for n in reference.__all__
            if not n.startswith(("run_", "prep"))
        }
    )
    net = moved(FAMILIES["ResNet, option B"](build_of(bare, se=nn.SE(reduction=4))))
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 9))
    net.forward(x, training=True)
    run, expected = net.inference(), net.predict(x)
    np.testing.assert_array_equal(run(x), expected)
    for array in net.named_parameters().values():
        array += 1
    np.testing.assert_array_equal(run(x), expected)


def test_a_copy_shares_no_array_and_keeps_no_cache():
    layer = nn.Linear(3, 2)
    layer.forward(np.ones((1, 3), np.float32), training=True)
    own = layer.inference().func.__self__
    own.forward(np.ones((1, 3), np.float32), training=False)
    assert own is not layer
    assert own.ops is layer.ops
    assert own._cache is None
    assert layer._cache is not None
    assert not np.shares_memory(own.params["weight"], layer.params["weight"])
    copy.deepcopy(own.params)


def test_a_guard_still_sees_what_is_not_folded():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.GlobalAvgPool2d(), nn.Linear(4, 2))
    wrap.attach(net, wrap.guarded(reference))
    run = net.inference()
    assert np.isfinite(run(np.ones((1, 3, 2, 2), np.float32))).all()
    with pytest.raises(
        wrap.NonFiniteError, match="layer 1, global_avg_pool2d_forward: its input x"
    ):
        run(np.full((1, 3, 2, 2), np.nan, np.float32))

"""inference(): equal to predict up to rounding, and a snapshot of the net."""

import functools
from types import SimpleNamespace

import numpy as np
import pytest

from minise import models, nn
from minise.nn.squeeze_excite import UNIT_SITES
from minise.ops import jit, reference, wrap
from minise.ops.jit.convolution.algorithm import current_algorithm
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES
from tests.nn.adapter import perturbed
from tests.nn.errors import Errors
from tests.nn.test_residual import UNITS

BACKENDS = {"reference": reference, "jit": jit}
over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def build_of(ops=reference, dtype=np.float64, se=None):
    rng = np.random.default_rng(3)
    return nn.Build(ops, rng, dtype, se, se_rng=rng)


def resnext(build):
    """Return a ResNeXt of two units, bottlenecks with groups and the ReLU last."""
    unit = functools.partial(nn.bottleneck, groups=2)
    return build.chain(
        ("conv1", build.conv(3, 4, 3)),
        ("bn1", build.norm_relu(4)),
        *nn.stages(unit, (1, 1), (4, 8), 4, build, expansion=4),
        ("avgpool", nn.GlobalAvgPool2d(ops=build.ops)),
        ("fc", build.linear(32, 10)),
    )


FAMILIES = {
    "ResNet, option A": lambda build: models.resnet_cifar(8, 10, build, shortcut="A"),
    "ResNet, option B": lambda build: models.resnet_cifar(8, 10, build, shortcut="B"),
    "pre-activation": lambda build: models.wide_resnet(1, 1, 10, build),
    "wide": lambda build: models.wide_resnet(1, 2, 10, build),
    "bottlenecks": lambda build: models.wide_resnet(1, 1, 10, build, bottlenecks=True),
    "ResNeXt": resnext,
}
compiled_only = pytest.mark.skipif(AS_LOOPS, reason="too large for kernels that run as Python")
over_units = pytest.mark.parametrize("unit", UNITS)
over_sites = pytest.mark.parametrize("site", [None, *UNIT_SITES])
over_families = pytest.mark.parametrize("family", FAMILIES)


def with_random_signs(net):
    """Perturb a net's parameters, with scales of both signs in normalisations."""
    rng = np.random.default_rng(0)
    for layer in perturbed(net, rng).named_layers().values():
        if isinstance(layer, nn.BatchNorm2d):
            layer.params["weight"] *= rng.choice([-1, 1], len(layer.params["weight"]))
    return net


@over_backends
@over_units
@over_sites
def test_units(ops, unit, site):
    """predict and inference differ by no more than the rounding bound (tests/nn/errors.py)."""
    differ_by_rounding(UNITS[unit], ops, None if site is None else nn.SE(reduction=2, site=site))


@over_backends
@pytest.mark.parametrize("unit", ["basic, projected", "bottleneck, projected"])
@pytest.mark.parametrize("squeeze", SQUEEZES)
@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("bias", [False, True])
def test_units_with_every_squeeze_and_gate(ops, unit, squeeze, gate, bias):
    differ_by_rounding(UNITS[unit], ops, nn.SE(2, squeeze=squeeze, gate=gate, bias=bias))


def differ_by_rounding(unit, ops, se):
    layer, errors = with_random_signs(unit(build_of(ops, se=se))), Errors()
    x = np.random.default_rng(1).standard_normal((2, 4, 5, 6))
    wrap.attach(layer, errors)
    expected = layer.predict(x)
    bound = errors.bound(expected)
    wrap.attach(layer, ops)
    assert bound.max() < 1e-8 * abs(expected).max()  # so that a wrong result exceeds it
    assert (abs(layer.predict(x) - expected) <= bound).all()
    assert (abs(layer.inference()(x) - expected) <= bound).all()


@compiled_only
@over_backends
@over_dtypes
@over_families
@over_sites
def test_nets(ops, dtype, family, site):
    """Error bounds of a whole net are too large to be useful; compare half of all digits."""
    se = None if site is None else nn.SE(reduction=4, site=site)
    net = with_random_signs(FAMILIES[family](build_of(ops, dtype, se)))
    for shape in ((2, 3, 13, 10), (1, 3, 32, 32)):
        x = np.random.default_rng(1).standard_normal(shape).astype(dtype)
        expected, logits = net.predict(x), net.inference()(x)
        assert logits.dtype == dtype
        assert_half_of_digits(logits, expected)


def assert_half_of_digits(logits, expected):
    """Assert that half of all digits are equal; with a wrong formula, none would be."""
    half = np.sqrt(np.finfo(logits.dtype).eps)
    assert abs(logits - expected).max() < half * abs(expected).max()


def with_integers(net):
    """Set parameters to small integers, and standard deviations in normalisations to 2.

    About four weights of each output are not 0, so that all sums are below 2**24 and exact in
    float32.
    """
    rng = np.random.default_rng(0)
    for layer in net.named_layers().values():
        for array in layer.params.values():
            share = 4 / array[0].size if array.ndim > 1 else 1 / 4
            array[...] = rng.choice([-1, 1], array.shape) * (rng.random(array.shape) < share)
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
def test_nets_of_integers_are_bit_identical(ops, dtype, family):
    """Nothing is rounded, so folding must not change a bit; Winograd's transforms would round."""
    net = with_integers(FAMILIES[family](build_of(ops, dtype)))
    x = np.random.default_rng(1).integers(-3, 4, (3, 3, 8, 8)).astype(dtype)
    before = current_algorithm.set("direct")
    try:
        expected, logits = net.predict(x), net.inference()(x)
    finally:
        current_algorithm.reset(before)
    assert len(np.unique(expected)) > 5
    np.testing.assert_array_equal(logits, expected, strict=True)


@compiled_only
def test_as_exact_as_predict_in_float32():
    """A folded net's logits are as close to the float64 logits as predict's are."""
    net = with_random_signs(models.build("se_resnet20", ops=jit))
    exact = models.build("se_resnet20", ops=jit, dtype=np.float64)
    for kind in ("named_parameters", "named_state"):
        for name, array in getattr(exact, kind)().items():
            array[...] = getattr(net, kind)()[name]
    x = np.random.default_rng(1).standard_normal((4, 3, 32, 32)).astype(np.float32)
    expected = exact.predict(x.astype(np.float64))
    assert_half_of_digits(net.predict(x), expected)
    assert_half_of_digits(net.inference()(x), expected)


# A snapshot


@over_backends
@over_families
def test_a_snapshot(ops, family):
    net = with_random_signs(FAMILIES[family](build_of(ops, se=nn.SE(reduction=4, site="pre"))))
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
    net = with_random_signs(FAMILIES["ResNet, option A"](build_of(ops, se=nn.SE(reduction=4))))
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 9))
    state = {name: array.copy() for name, array in net.named_state().items()}
    out, cache = net.forward(x, training=False)
    expected, grads = net.backward(out, cache)
    _, cache = net.forward(x, training=False)
    net.inference()(x)
    dx, again = net.backward(out, cache)  # of what forward saw
    np.testing.assert_array_equal(dx, expected)
    for name, array in grads.items():
        np.testing.assert_array_equal(again[name], array)
    for name, array in net.named_state().items():
        np.testing.assert_array_equal(array, state[name])


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
        "padded shortcut": nn.Chain(nn.AvgPool2d(1, stride=2), nn.PadChannels(3)),
        "norm and relu": nn.NormReLU(4, dtype=np.float64),
        "side by side": nn.Branches(
            nn.Chain(nn.Conv2d(4, 3, 1, **more), nn.NormReLU(3, dtype=np.float64)),
            nn.Chain(nn.NormReLU(4, dtype=np.float64), nn.Dropout(0.5)),
            nn.Chain(),
        ),
        "added up": nn.Branches(
            nn.Conv2d(4, 4, 3, padding="same", **more), nn.Chain(), merge="add"
        ),
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
    layer = with_random_signs(layers()[name])
    wrap.attach(layer, ops)
    x = np.random.default_rng(1).standard_normal((2, 4, 9, 8))
    out, expected = layer.inference()(x), layer.predict(x)
    # one rounding for each value of x, each of at most the largest magnitude
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
        (["normrelu"], 1),
        (["conv", "normrelu"], 1),
        (["conv", "norm", "se", "relu"], 1),
        (["conv", "se"], 1),
        (["conv", "relu", "se"], 2),
        (["conv", "se", "norm"], 2),
        (["normrelu", "relu"], 2),
        (["norm", "se"], 2),
        (["conv", "chain"], 1),
        (["residual"], 2),
        (["residual", "relu"], 3),
        (["branches"], 3),
    ],
    ids=str,
)
def test_number_of_steps(names, steps):
    assert len(steps_of(nn.Sequential(*(MADE[name]() for name in names)), 4)) == steps


MADE = dict(
    conv=lambda: nn.Conv2d(4, 4, 3, padding=1),
    norm=lambda: nn.BatchNorm2d(4),
    relu=nn.ReLU,
    dropout=lambda: nn.Dropout(0.5),
    normrelu=lambda: nn.NormReLU(4),
    se=lambda: nn.SEBlock(4, 2),
    chain=lambda: nn.Chain(nn.Chain(nn.BatchNorm2d(4)), nn.Chain(), nn.Chain(nn.ReLU())),
    residual=lambda: nn.Residual(
        nn.Chain(MADE["conv"](), MADE["normrelu"](), MADE["conv"]()),
        tail=nn.NormAddReLU("bn", nn.BatchNorm2d(4), nn.SEBlock(4, 2)),
    ),
    branches=lambda: nn.Branches(
        nn.Chain(MADE["conv"](), MADE["normrelu"]()), MADE["conv"](), nn.Chain()
    ),
)


def steps_of(net, channels):
    """Return the names of the functions that a net calls in inference."""
    calls = []

    class Counting(wrap.Wrapper):
        def wrapped(self, layer, name):
            function = getattr(reference, name)
            if name.startswith("run_") or name.endswith("_forward"):
                return lambda *args, **kinds: (calls.append(name), function(*args, **kinds))[1]
            return function

    wrap.attach(net, Counting(reference))
    net.inference()(np.ones((1, channels, 9, 9), np.float32))
    return calls


POOLED = ["global_avg_pool2d_forward", "linear_forward"]


def test_a_whole_net_is_few_steps():
    convolutions = 1 + 9 * 2 + 2
    calls = steps_of(models.build("se_resnet20", reduction=4), 3)
    assert calls == [*["run_conv2d"] * convolutions, *POOLED]


@pytest.mark.parametrize("site", UNIT_SITES)
def test_se_blocks_that_are_separate_steps(site):
    """It is fused into a convolution before it, the last of a branch or a shortcut's."""
    calls = steps_of(models.build("se_resnet8", reduction=4, site=site), 3)
    gates = ["squeeze_excite_forward"] * {"standard": 0, "identity": 1}.get(site, 3)
    assert sorted(calls) == sorted([*["run_conv2d"] * (1 + 3 * 2 + 2), *gates, *POOLED])


def test_steps_of_a_pre_activation_net():
    """Each branch starts with a normalisation step; the second one is fused into a convolution."""
    calls = steps_of(models.wide_resnet(1, 1, 10, nn.Build()), 3)
    convolutions, normalisations = 1 + 3 * 2 + 2, 3 + 1
    run = ["run_conv2d"] * convolutions + ["run_batch_norm2d"] * normalisations
    assert sorted(calls) == sorted([*run, *POOLED])


# What cannot be folded


class Doubled(nn.Conv2d):
    """A convolution whose forward is another one."""

    def forward(self, x, training):
        out, cache = super().forward(x, training)
        return 2 * out, cache


class Shifted(nn.BatchNorm2d):
    """A normalisation whose forward is another one."""

    def forward(self, x, training):
        out, cache = super().forward(x, training)
        return out + 1, cache


class Leaky(nn.ReLU):
    """A ReLU whose forward is another one."""

    def forward(self, x, training):
        out, cache = super().forward(x, training)
        return out + x / 8, cache


class Open(nn.SEBlock):
    """An SE block whose forward is another one."""

    def forward(self, x, training):
        out, cache = super().forward(x, training)
        return out + x, cache


class Tripled(nn.Linear):
    """A dense layer whose forward is another one."""

    def forward(self, x, training):
        out, cache = super().forward(x, training)
        return 3 * out, cache


class Halved(nn.Chain):
    """A net whose forward is another one."""

    def forward(self, x, training):
        out, cache = super().forward(x, training)
        return out / 2, cache


class Squared(nn.Residual):
    """A residual unit whose forward is another one."""

    def forward(self, x, training):
        out, cache = super().forward(x, training)
        return out**2, cache


class Doubling:
    """A mixin that doubles a layer's output."""

    def forward(self, x, training):
        out, cache = super().forward(x, training)
        return 2 * out, cache


class DoubledToo(Doubling, nn.Conv2d):
    """A convolution whose forward comes from another class."""


class Clipped(nn.Tail):
    """A tail whose forward is another one."""

    def forward(self, y, shortcut, training):
        out, cache = super().forward(y, shortcut, training)
        return np.minimum(out, 1), cache


class Named(nn.Chain):
    """A net that overrides nothing that is folded."""

    def __repr__(self):
        return "unit"


class Folds(Shifted):
    """A normalisation that overrides forward and folded."""

    def folded(self, before):
        return nn.BatchNorm2d.folded(self, before)


def own_layers(ops):
    """Return layers of (4, H, W) to (4, H, W) whose forward is their own, by name."""
    more = dict(ops=ops, dtype=np.float64)
    same = dict(padding="same", **more)
    return {
        "conv": Doubled(4, 4, 3, **same),
        "norm": Shifted(4, **more),
        "relu": Leaky(ops=ops),
        "SE": Open(4, 2, **more),
        "chain": Halved(nn.basic_block(4, 4, 1, build_of(ops))),
        "residual": Squared(nn.Conv2d(4, 4, 3, **same)),
        "mixed in": DoubledToo(4, 4, 3, **same),
        "tail": nn.Residual(nn.Conv2d(4, 4, 3, **same), tail=Clipped(ops=ops)),
    }


@over_backends
@pytest.mark.parametrize("name", own_layers(reference))
def test_a_class_with_a_forward_of_its_own(ops, name):
    """Inference runs its forward: alone, and between layers that fuse with the base class."""
    more = dict(ops=ops, dtype=np.float64)
    x = np.random.default_rng(1).standard_normal((2, 4, 8, 9))
    layer = with_random_signs(own_layers(ops)[name])
    np.testing.assert_array_equal(layer.inference()(x), layer.predict(x))
    conv, norm = nn.Conv2d(4, 4, 3, padding=1, **more), nn.BatchNorm2d(4, **more)
    net = with_random_signs(nn.Sequential(conv, layer, norm, nn.ReLU(ops=ops)))
    np.testing.assert_allclose(net.inference()(x), net.predict(x), rtol=1e-12, atol=1e-12)


def test_a_dense_layer_with_a_forward_of_its_own():
    layer = Tripled(4, 2, dtype=np.float64)
    x = np.ones((2, 4))
    np.testing.assert_array_equal(layer.inference()(x), 3 * nn.Linear.forward(layer, x, False)[0])


@pytest.mark.parametrize("name", own_layers(reference))
def test_a_repr_says_that_a_class_runs_by_its_own_forward(name):
    assert "evaluated by its own forward" in repr(own_layers(reference)[name]).splitlines()[0] or (
        name == "tail"
    )


def test_a_repr_of_what_folds_does_not_say_so():
    for net in (models.build("se_resnet8"), Named(nn.ReLU()), nn.Linear(2, 2), Folds(4)):
        assert "its own forward" not in nn.Layer.__repr__(net)


def test_a_class_that_overrides_no_forward_is_folded():
    assert Named(nn.basic_block(4, 4, 1, nn.Build())).inference().__name__ == "run"


def test_an_overridden_folded_is_used():
    x = np.ones((1, 4, 2, 2), np.float32)
    layer = Folds(4)
    assert (layer.predict(x) - layer.inference()(x) == 1).all()


@over_backends
@pytest.mark.parametrize("kind", ["basic", "pre-activation"])
@pytest.mark.parametrize("where", ["conv2 is a subclass", "conv1 is two"])
def test_a_unit_with_layers_of_another_class(ops, kind, where):
    """They run their own forward, and so do layers that would be fused with them."""
    more = dict(ops=ops, dtype=np.float64)
    conv1, conv2 = (nn.Conv2d(4, 4, 3, padding=1, **more) for _ in range(2))
    if where == "conv1 is two":
        conv1 = nn.Sequential(nn.Conv2d(4, 4, 1, **more), nn.Conv2d(4, 4, 3, padding=1, **more))
    else:
        conv2 = Doubled(4, 4, 3, padding=1, **more)
    norm, gate = nn.BatchNorm2d(4, **more), nn.SEBlock(4, 2, **more)
    branch = [("conv1", conv1), ("bn", nn.NormReLU(4, **more)), ("conv2", conv2)]
    if kind == "basic":
        net = nn.Residual(nn.Chain(*branch), tail=nn.NormAddReLU("bn2", norm, gate))
    else:
        first = ("bn1", nn.NormReLU(4, **more))
        net = nn.Residual(nn.Chain(first, *branch), tail=nn.Tail(("se", gate), relu=False))
    x = np.random.default_rng(1).standard_normal((2, 4, 8, 9))
    expected = with_random_signs(net).predict(x)
    np.testing.assert_allclose(net.inference()(x), expected, rtol=1e-12, atol=1e-12)


def test_a_back_end_without_inference():
    """A back end with only the ops: inference copies the net and runs its predict."""
    bare = SimpleNamespace(
        **{
            n: getattr(reference, n)
            for n in reference.__all__
            if n != "folds" and not n.startswith(("run_", "prep"))
        },
        folds=False,
    )
    net = with_random_signs(FAMILIES["ResNet, option B"](build_of(bare, se=nn.SE(reduction=4))))
    x = np.random.default_rng(1).standard_normal((2, 3, 8, 9))
    net.forward(x, training=True)
    run, expected = net.inference(), net.predict(x)
    np.testing.assert_array_equal(run(x), expected)
    for array in net.named_parameters().values():
        array += 1
    np.testing.assert_array_equal(run(x), expected)


def test_a_copy_shares_no_array():
    layer = nn.Linear(3, 2)
    own = layer.inference().__self__
    assert own is not layer
    assert own.ops is layer.ops
    assert not np.shares_memory(own.params["weight"], layer.params["weight"])


def guarded_net(ops):
    unit = nn.Residual(
        nn.Chain(("conv", nn.Conv2d(4, 4, 1, rng=0, ops=ops)), ("norm", nn.BatchNorm2d(4, ops=ops)))
    )
    net = nn.Chain(
        ("stem", nn.Conv2d(3, 4, 1, rng=1, ops=ops)),
        ("relu", nn.ReLU(ops=ops)),
        ("norm", nn.NormReLU(4, ops=ops)),
        ("unit", unit),
        ("pool", nn.GlobalAvgPool2d(ops=ops)),
    )
    wrap.attach(net, wrap.guarded(ops))
    return net


@pytest.mark.parametrize("ops", [reference, jit])
def test_a_guard_sees_what_runs_in_inference(ops):
    """The error names the first layer of the step that received or computed the first NaN."""
    x = np.ones((1, 3, 2, 2), np.float32)
    run = guarded_net(ops).inference()
    assert np.isfinite(run(x)).all()
    message = r"layer stem, run_conv2d: its input x has 12 of 12 .* first at \(0, 0, 0, 0\)"
    with pytest.raises(wrap.NonFiniteError, match=message) as caught:
        run(x * np.nan)
    error = caught.value
    assert (error.layer, error.op, error.direction, error.array) == ("stem", "conv2d", "run", "x")
    for name, step in {
        "stem.weight": "layer stem, run_conv2d",
        "norm.weight": r"layer norm(\.norm)?, run_batch_norm2d",
        "unit.norm.weight": "layer unit.conv, run_conv2d",
    }.items():
        net = guarded_net(ops)
        net.named_parameters()[name][0] = np.nan
        with pytest.raises(wrap.NonFiniteError, match=f"{step}: its result out has"):
            net.inference()(x)


def test_a_guard_looks_at_a_shortcut_that_a_step_adds():
    guard, x = wrap.guarded(wrap.timed(reference)), np.ones((1, 1, 2, 2))
    prepared = guard.prepare_conv2d(np.ones((1, 1, 1, 1)))
    assert (guard.run_conv2d(prepared, x, shortcut=x) == 2).all()
    message = r"layer .none., run_conv2d: its input shortcut has 4 of 4"
    with pytest.raises(wrap.NonFiniteError, match=message):
        guard.run_conv2d(prepared, x, x * np.inf)
    with pytest.raises(wrap.NonFiniteError, match=message):
        wrap.timed(guard).run_conv2d(prepared, x, shortcut=x * np.inf)


def test_a_guard_still_sees_what_is_not_folded():
    net = nn.Sequential(nn.ReLU(), nn.GlobalAvgPool2d(), nn.Linear(3, 2))
    wrap.attach(net, wrap.guarded(reference))
    run = net.inference()
    assert np.isfinite(run(np.ones((1, 3, 2, 2), np.float32))).all()
    with pytest.raises(wrap.NonFiniteError, match="layer 0, relu_forward: its input x"):
        run(np.full((1, 3, 2, 2), np.nan, np.float32))

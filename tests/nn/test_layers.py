"""Layers: gradients, names, state, fused layers, initial values and messages."""

import math

import numpy as np
import pytest

from minise import models, nn
from minise.gradcheck import assert_gradients
from minise.nn.init import LINEAR_GAIN, RELU_GAIN, he_normal
from minise.ops import jit, reference, wrap
from tests.nn.adapter import as_functions, perturbed

F64 = np.float64
LAYERS = {
    "conv": lambda: nn.Conv2d(
        4, 6, (3, 2), stride=2, padding=(1, 0), groups=2, bias=True, dtype=F64
    ),
    "batch norm": lambda: nn.BatchNorm2d(4, dtype=F64),
    "relu": nn.ReLU,
    "silu": nn.SiLU,
    "max pool": lambda: nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=True),
    "avg pool": lambda: nn.AvgPool2d(3, stride=2, padding=1, count_include_pad=False),
    "global pool": nn.GlobalAvgPool2d,
    "SE": lambda: nn.SEBlock(4, nn.SE(reduction=2), dtype=F64),
    "SE without bias": lambda: nn.SEBlock(4, nn.SE(reduction=2, bias=False), dtype=F64),
    "SE per pixel": lambda: nn.SEBlock(4, nn.SE(reduction=2, squeeze="none"), dtype=F64),
    "classifier": lambda: nn.Sequential(nn.GlobalAvgPool2d(), nn.Linear(4, 3, dtype=F64)),
    "sequence": lambda: nn.Sequential(
        nn.Conv2d(4, 5, 3, dtype=F64), nn.BatchNorm2d(5, dtype=F64), nn.ReLU()
    ),
    "normalisation and ReLU": lambda: nn.NormReLU(4, dtype=F64),
    "padded shortcut": lambda: nn.Chain(nn.AvgPool2d(1, stride=2), nn.PadChannels(3)),
    "shuffle": lambda: nn.ChannelShuffle(2),
    "scale": lambda: nn.Scale(-0.2),
    "identity": nn.Sequential,
}


X = (3, 4, 7, 6)


def images(rng, shape=X):
    return rng.standard_normal(shape)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_gradients(make, training):
    rng = np.random.default_rng(0)
    forward, backward, params = as_functions(perturbed(make(), rng), training)
    assert_gradients(forward, backward, [images(rng), *params], rng, mode="complex_step")


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_gradients_are_named_as_their_parameters(make):
    layer = make()
    out, cache = layer.forward(images(np.random.default_rng(0)), training=True)
    _, grads = layer.backward(np.ones_like(out), cache)
    shapes = {name: array.shape for name, array in layer.named_parameters().items()}
    assert {name: array.shape for name, array in grads.items()} == shapes


def test_predict_is_evaluation_and_keeps_nothing():
    rng = np.random.default_rng(0)
    layer = perturbed(nn.Sequential(nn.BatchNorm2d(4, dtype=F64), nn.ReLU()), rng)
    x, before = images(rng), {k: v.copy() for k, v in layer.named_state().items()}
    expected, _ = layer.forward(x, training=False)
    np.testing.assert_array_equal(layer.predict(x), expected)
    assert all((layer.named_state()[name] == before[name]).all() for name in before)


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_a_layer_keeps_nothing_of_a_forward(make):
    """forward and backward replace no attribute of the layer or of a layer below it."""
    layer = make()
    before = [{**vars(below)} for _, below in layer.layers()]
    x = images(np.random.default_rng(0))
    out, cache = layer.forward(x, training=True)
    layer.backward(np.ones_like(out), cache)
    for (_, below), attributes in zip(layer.layers(), before, strict=True):
        assert vars(below).keys() == attributes.keys()
        assert all(vars(below)[name] is value for name, value in attributes.items())


def test_running_statistics_keep_their_identity():
    layer = nn.BatchNorm2d(1, momentum=0.25, dtype=F64)
    mean, var = layer.state["running_mean"], layer.state["running_var"]
    layer.forward(np.array([2.0, 6.0]).reshape(1, 1, 1, 2), training=True)
    assert (mean[0], var[0]) == (0.25 * 4, 0.75 * 1 + 0.25 * (4 + 4) / (2 - 1))
    assert layer.state["running_mean"] is mean
    assert layer.state["running_var"] is var


def ran(layer, dout, *inputs, training=True, **settings):
    """Return out, the gradients of inputs and parameters, and the state after forward."""
    out, cache = layer.forward(*inputs, training)
    *dinputs, grads = layer.backward(dout, cache, **settings)
    assert grads.keys() == layer.named_parameters().keys()
    return [out, *dinputs, *(grads[name] for name in sorted(grads)), *layer.named_state().values()]


def same(ours, theirs):
    for actual, expected in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(actual, expected)


def normalisation(kind=nn.BatchNorm2d):
    return perturbed(kind(4, momentum=0.3, eps=0.1, dtype=F64), np.random.default_rng(0))


over_training = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


@over_training
def test_norm_relu_equals_its_layers(training):
    rng = np.random.default_rng(0)
    x, dout = images(rng), images(rng)
    fused, unfused = normalisation(nn.NormReLU), nn.Chain(("", normalisation()), ("", nn.ReLU()))
    same(ran(fused, dout, x, training=training), ran(unfused, dout, x, training=training))
    assert (fused.state["running_mean"] != normalisation().state["running_mean"]).all() == training


@over_training
def test_norm_add_relu_equals_its_layers(training):
    rng = np.random.default_rng(0)
    y, shortcut, dout = images(rng), images(rng), images(rng)
    fused, unfused = nn.NormAddReLU("bn", normalisation()), nn.Tail(("bn", normalisation()))
    ours = ran(fused, dout, y, shortcut, training=training)
    same(ours, ran(unfused, dout, y, shortcut, training=training))
    norm, relu = normalisation(), nn.ReLU()  # and by its layers, one by one
    z, to_norm = norm.forward(y, training)
    out, to_relu = relu.forward(z + shortcut, training)
    dsum, _ = relu.backward(dout, to_relu)
    dy, _ = norm.backward(dsum, to_norm)
    same(ours[:3], [out, dy, dsum])
    assert (fused["bn"].state["running_mean"] != normalisation().state["running_mean"]).all() == (
        training
    )


@pytest.mark.parametrize("ops", [reference, jit])
def test_a_convolution_adds_plus_to_dx(ops):
    """Inputs are integers, whose sums are exact in any order."""
    rng = np.random.default_rng(0)
    x, plus, dout = (np.rint(2 * images(rng, shape)) for shape in [X, X, (3, 5, 5, 4)])
    layer = nn.Conv2d(4, 5, 3, bias=True, ops=ops, dtype=F64)
    layer.params["weight"][...] = np.rint(2 * images(np.random.default_rng(1), (5, 4, 3, 3)))
    out, dx, *grads = ran(layer, dout, x)
    same(ran(layer, dout, x, plus=plus), [out, dx + plus, *grads])


@pytest.mark.parametrize("ops", [reference, jit])
@pytest.mark.parametrize(
    "make",
    [
        lambda ops: models.build("se_resnet8", ops=ops),
        lambda ops: models.build("preact_resnet110", ops=ops),
        lambda ops: nn.Sequential(nn.Sequential(nn.Conv2d(3, 2, 3, ops=ops, rng=0)), ops=ops),
        lambda ops: nn.Sequential(nn.BatchNorm2d(3, ops=ops), ops=ops),
        lambda ops: nn.Sequential(ops=ops),
    ],
    ids=["ResNetCifar", "WideResNet", "sequence", "no convolution", "nothing"],
)
def test_training_needs_no_gradient_of_the_images(make, ops):
    """The gradients are bit-identical, and the first convolution skips its dx."""
    x = images(np.random.default_rng(0), (2, 3, 8, 8)).astype(np.float32)
    net = make(ops)
    recorder = wrap.record(ops)
    wrap.attach(net, recorder)
    out, cache = net.forward(x, training=True)
    dx, ours = net.backward(out, cache, needs_dx=False)
    assert dx is None
    wrap.attach(net, ops)
    _, cache = net.forward(x, training=True)
    dx, theirs = net.backward(out, cache)
    assert dx.shape == x.shape  # the next backward computes dx again
    assert ours.keys() == theirs.keys()
    same(ours.values(), theirs.values())
    convolutions = [call for call in recorder.calls if call.op == "conv2d"]
    skipped = [call.results[0] is None for call in convolutions if call.direction == "backward"]
    assert skipped == [False] * (len(skipped) - 1) + [True] * bool(skipped)


@pytest.mark.parametrize("bias", [True, False])
@over_training
def test_norm_add_relu_with_a_gate_equals_its_layers(training, bias):
    rng = np.random.default_rng(0)
    y, shortcut, dout = images(rng), images(rng), images(rng)
    settings = nn.SE(reduction=2, gate="hard_sigmoid", bias=bias)

    def gate():
        return perturbed(nn.SEBlock(4, settings, rng=2, dtype=F64), np.random.default_rng(2))

    fused = nn.NormAddReLU("bn", normalisation(), gate())
    unfused = nn.Tail(("bn", normalisation()), ("se", gate()))
    ours = ran(fused, dout, y, shortcut, training=training)
    same(ours, ran(unfused, dout, y, shortcut, training=training))
    norm, block, relu = normalisation(), gate(), nn.ReLU()
    z, to_norm = norm.forward(y, training)
    z, to_block = block.forward(z, training)
    out, to_relu = relu.forward(z + shortcut, training)
    dsum, _ = relu.backward(dout, to_relu)
    dz, _ = block.backward(dsum, to_block)
    dy, _ = norm.backward(dz, to_norm)
    same(ours[:3], [out, dy, dsum])


def test_names_are_dotted_paths_in_order():
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=True), nn.Sequential(nn.BatchNorm2d(2)))
    assert list(net.named_layers()) == ["", "0", "1", "1.0"]
    assert list(net.named_parameters()) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert list(net.named_state()) == ["1.0.running_mean", "1.0.running_var"]
    assert net.named_parameters()["0.weight"] is net[0].params["weight"]


@pytest.mark.parametrize("gain", [RELU_GAIN, LINEAR_GAIN])
def test_he_normal(gain):
    weights = he_normal((200, 10, 3, 3), gain, reference, np.random.default_rng(0), F64)
    count, variance = weights.size, gain / (10 * 3 * 3)  # fan-in: the inputs of one output
    assert abs(weights.mean()) < 5 * math.sqrt(variance / count)
    assert abs(weights.var() / variance - 1) < 5 * math.sqrt(2 / count)
    single = he_normal((200, 10, 3, 3), gain, reference, np.random.default_rng(0), np.float32)
    np.testing.assert_array_equal(single, weights.astype(np.float32))


@pytest.mark.parametrize(
    ("channels", "reduction", "hidden"), [(16, 16, 1), (16, 32, 1), (64, 4, 16), (10, 4, 2)]
)
def test_hidden_units(channels, reduction, hidden):
    block = nn.SEBlock(channels, nn.SE(reduction=reduction))
    assert block.params["fc.0.weight"].shape == (hidden, channels)
    assert block.params["fc.2.weight"].shape == (channels, hidden)


@pytest.mark.parametrize("reduction", [1, 4, 64])
def test_gates_start_near_a_half(reduction):
    """With fan-out instead, one hidden unit gives v a deviation of sqrt(2): gates from 0 to 1."""
    x = np.random.default_rng(1).standard_normal((50, 64, 8, 8))
    block = nn.SEBlock(64, nn.SE(reduction=reduction), rng=0, dtype=F64)
    _, cache = block.forward(x, training=True)
    assert (abs(cache.gates.s - 0.5) < 0.25).all()


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(reduction=0), "SE: reduction is 0, expected at least 1"),
        (dict(site="before"), "SE: site is 'before', expected one of standard, pre, post"),
        (dict(squeeze="mean"), "SE: squeeze is 'mean', expected one of avg, max, none"),
        (dict(gate="sigmod"), "SE: gate is 'sigmod', expected one of sigmoid"),
        (dict(bias=1), "SE: bias is 1, expected True or False"),
    ],
)
def test_messages(setting, message):
    with pytest.raises((ValueError, TypeError), match=message):
        nn.SE(**setting)

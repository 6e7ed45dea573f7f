"""Layers: what they own, what they keep, and that backward is forward's transpose."""

import math

import numpy as np
import pytest

from minise import models, nn
from minise.gradcheck import assert_gradients
from minise.nn.init import LINEAR, RELU, he_normal
from minise.ops import jit, reference, wrap
from tests.nn.adapter import as_functions, shaken

F64 = np.float64
LAYERS = {
    "conv": lambda: nn.Conv2d(
        4, 6, (3, 2), stride=2, padding=(1, 0), groups=2, bias=True, dtype=F64
    ),
    "batch norm": lambda: nn.BatchNorm2d(4, dtype=F64),
    "relu": nn.ReLU,
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
    "padded shortcut": lambda: nn.PaddedShortcut(4, 7, 2),
    "identity": nn.Sequential,
}


X = (3, 4, 7, 6)


def images(rng, shape=X):
    return rng.standard_normal(shape)


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_gradients(make, training):
    rng = np.random.default_rng(0)
    forward, backward, params = as_functions(shaken(make(), rng), training)
    assert_gradients(forward, backward, [images(rng), *params], rng, mode="complex_step")


@pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)
def test_gradients_are_named_as_their_parameters(make):
    layer = make()
    out = layer.forward(images(np.random.default_rng(0)), training=True)
    layer.backward(np.ones_like(out))
    shapes = {name: array.shape for name, array in layer.named_parameters().items()}
    assert {name: array.shape for name, array in layer.named_grads().items()} == shapes


def test_a_cache_serves_one_backward():
    layer = nn.ReLU()
    with pytest.raises(RuntimeError, match=r"^ReLU: backward has no cache"):
        layer.backward(np.ones((1, 1, 1, 1)))
    out = layer.forward(np.ones((1, 1, 1, 1)), training=True)
    layer.backward(out)
    with pytest.raises(RuntimeError, match="one forward before each backward"):
        layer.backward(out)


def test_predict_is_evaluation_and_keeps_nothing():
    rng = np.random.default_rng(0)
    layer = shaken(nn.Sequential(nn.BatchNorm2d(4, dtype=F64), nn.ReLU()), rng)
    x, before = images(rng), {k: v.copy() for k, v in layer.named_state().items()}
    expected = layer.forward(x, training=False)
    layer.backward(expected)
    np.testing.assert_array_equal(layer.predict(x), expected)
    assert all((layer.named_state()[name] == before[name]).all() for name in before)
    with pytest.raises(RuntimeError, match="predict keeps nothing"):
        layer.backward(expected)
    layer.backward(layer.forward(x, training=True))  # and forward keeps its cache again


def test_running_statistics_keep_their_identity():
    layer = nn.BatchNorm2d(1, momentum=0.25, dtype=F64)
    mean, var = layer.state["running_mean"], layer.state["running_var"]
    layer.forward(np.array([2.0, 6.0]).reshape(1, 1, 1, 2), training=True)
    assert (mean[0], var[0]) == (0.25 * 4, 0.75 * 1 + 0.25 * (4 + 4) / (2 - 1))
    assert layer.state["running_mean"] is mean
    assert layer.state["running_var"] is var


def left_by(*layers):
    """Return all gradients and running statistics of some layers."""
    return [array for layer in layers for array in (*layer.grads.values(), *layer.state.values())]


def same(ours, theirs):
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, other)


def normalisation(rng=0):
    return shaken(nn.BatchNorm2d(4, momentum=0.3, eps=0.1, dtype=F64), np.random.default_rng(rng))


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_a_normalisation_with_what_follows_it(training):
    rng = np.random.default_rng(0)
    x, shortcut, dout = images(rng), images(rng), images(rng)
    fused, norm, relu = normalisation(), normalisation(), nn.ReLU()
    out = relu.forward(norm.forward(x, training), training)
    same([fused.forward_relu(x, training)], [out])
    same([fused.backward_relu(dout)], [norm.backward(relu.backward(dout))])
    same(left_by(fused), left_by(norm))
    out = relu.forward(norm.forward(x, training) + shortcut, training)
    same([fused.forward_add_relu(x, shortcut, training)], [out])
    dsum = relu.backward(dout)
    same(fused.backward_add_relu(dout), [norm.backward(dsum), dsum])
    same(left_by(fused), left_by(norm))
    assert (fused.state["running_mean"] != normalisation().state["running_mean"]).all() == training


@pytest.mark.parametrize("ops", [reference, jit])
def test_a_convolution_adds_what_reaches_x_by_another_way(ops):
    """Of integers, whose sums are exact in any order."""
    rng = np.random.default_rng(0)
    x, plus, dout = (np.rint(2 * images(rng, shape)) for shape in [X, X, (3, 5, 5, 4)])
    one, other = (nn.Conv2d(4, 5, 3, bias=True, ops=ops, dtype=F64) for _ in range(2))
    for layer in (one, other):
        layer.params["weight"][...] = np.rint(2 * images(np.random.default_rng(1), (5, 4, 3, 3)))
        layer.forward(x, training=True)
    same([one.backward(dout, plus)], [other.backward(dout) + plus])
    same(left_by(one), left_by(other))
    assert one.grads.keys() == one.params.keys()


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
    """What is left is the same; the first convolution saves its dx that time."""
    x = images(np.random.default_rng(0), (2, 3, 8, 8)).astype(np.float32)
    one, other = make(ops), make(ops)
    recorder = wrap.record(ops)
    wrap.attach(one, recorder)
    out = one.forward(x, training=True)
    other.forward(x, training=True)
    one.backward_params(out)
    dx = other.backward(out)
    ours, theirs = one.named_grads(), other.named_grads()
    assert ours.keys() == theirs.keys()
    same(ours.values(), theirs.values())
    convolutions = [call for call in recorder.calls if call.op == "conv2d"]
    saved = [call.results[0] is None for call in convolutions if call.direction == "backward"]
    assert saved == [False] * (len(saved) - 1) + [True] * bool(saved)
    one.forward(x, training=True)
    same([one.backward(out)], [dx])  # and the next backward finds it again


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
def test_an_se_block_with_what_stands_around_it(training, bias):
    rng = np.random.default_rng(0)
    x, shortcut, dout = images(rng), images(rng), images(rng)
    settings = nn.SE(reduction=2, gate="hard_sigmoid", bias=bias)
    one, other = (
        shaken(nn.SEBlock(4, settings, rng=2, dtype=F64), np.random.default_rng(2))
        for _ in range(2)
    )
    norm_of_one, norm, relu = normalisation(), normalisation(), nn.ReLU()
    y = other.forward(norm.forward(x, training), training)
    out = relu.forward(y + shortcut, training)
    same([one.forward_tail(norm_of_one, x, shortcut, training)], [out])
    dsum = relu.backward(dout)
    dx = norm.backward(other.backward(dsum))
    same(one.backward_tail(norm_of_one, dout), [dx, dsum])
    same(left_by(one, norm_of_one), left_by(other, norm))
    assert one.grads.keys() == one.params.keys()


def test_dropout():
    x = np.ones((4, 3, 20, 20))
    layer = nn.Dropout(0.25, rng=np.random.default_rng(0))
    out = layer.forward(x, training=True)
    kept = out != 0
    assert set(out[kept]) == {1 / (1 - 0.25)}
    deviation = math.sqrt(x.size * 0.25 * 0.75)
    assert abs(kept.sum() - 0.75 * x.size) < 5 * deviation
    np.testing.assert_array_equal(layer.backward(x), out)  # the same mask, the same scale
    np.testing.assert_array_equal(layer.forward(x, training=False), x)
    assert (layer.forward(x, training=True) != out).any()  # the next mask is another one
    with pytest.raises(ValueError, match="Dropout: p is 1, expected a number from 0 to below 1"):
        nn.Dropout(1)


def test_names_are_dotted_paths_in_order():
    net = nn.Sequential(nn.Conv2d(3, 2, 1, bias=True), nn.Sequential(nn.BatchNorm2d(2)))
    assert list(net.named_layers()) == ["", "0", "1", "1.0"]
    assert list(net.named_parameters()) == ["0.weight", "0.bias", "1.0.weight", "1.0.bias"]
    assert list(net.named_state()) == ["1.0.running_mean", "1.0.running_var"]
    assert net.named_parameters()["0.weight"] is net.layers[0].params["weight"]


@pytest.mark.parametrize("gain", [RELU, LINEAR])
def test_he_normal(gain):
    weights = he_normal((200, 10, 3, 3), gain, reference, np.random.default_rng(0), F64)
    count, variance = weights.size, gain / (10 * 3 * 3)  # fan-in: what one output adds up
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
    """By fan-out, one hidden unit would give v a deviation of sqrt(2), and gates from 0 to 1."""
    x = np.random.default_rng(1).standard_normal((50, 64, 8, 8))
    block = nn.SEBlock(64, nn.SE(reduction=reduction), rng=0, dtype=F64)
    block.forward(x, training=True)
    assert (abs(block._cache.gates.s - 0.5) < 0.25).all()


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

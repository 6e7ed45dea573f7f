"""Chain, Residual, Branches: gradients, inference, and what a caller may ask of backward."""

import numpy as np
import pytest

from minise import nn
from minise.gradcheck import assert_gradients, check_layer
from minise.ops import jit, reference, wrap
from tests.nn.adapter import as_functions, perturbed
from tests.nn.composites import COMPOSITES, F64, conv, norm_relu
from tests.nn.test_layers import LAYERS

X = (3, 4, 7, 6)
EVERYTHING = {**COMPOSITES, **LAYERS}
over_composites = pytest.mark.parametrize("name", COMPOSITES)
over_everything = pytest.mark.parametrize("name", EVERYTHING)


def images(seed=0, shape=X):
    return np.random.default_rng(seed).standard_normal(shape)


def made(name):
    return perturbed(EVERYTHING[name](), np.random.default_rng(2))


def forward(layer, x):
    """Return out and cache in training; restore the state, so that the next call draws the same."""
    state = {name: array.copy() for name, array in layer.named_state().items()}
    returned = layer.forward(x, training=True)
    for name, array in layer.named_state().items():
        array[...] = state[name]
    return returned


def passes(layer, x, dout=None, **settings):
    """Return dx and gradients of a forward and a backward in training; restore the state."""
    out, cache = forward(layer, x)
    dout = images(1, out.shape) if dout is None else dout
    return layer.backward(dout, cache, **settings)


def same_gradients(ours, theirs):
    assert list(ours) == list(theirs)
    for name, array in ours.items():
        np.testing.assert_array_equal(array, theirs[name])


@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@over_composites
def test_gradients(name, training):
    rng = np.random.default_rng(0)
    run_forward, backward, params = as_functions(made(name), training)
    arguments = run_forward, backward, [images(), *params], rng
    if training and name == "shaken":  # its backward is not forward's derivative, on purpose
        with pytest.raises(AssertionError, match="WRONG|wrong|from backward"):
            assert_gradients(*arguments, mode="complex_step")
    else:
        assert_gradients(*arguments, mode="complex_step")


@over_everything
def test_plus_is_added_to_dx(name):
    layer, plus = made(name), images(5)
    dx, grads = passes(layer, images())
    added, same = passes(layer, images(), plus=plus)
    # a sum of two numbers, in which one may itself be a sum that starts with the other
    bound = 100 * np.finfo(float).eps * (abs(dx) + abs(plus)).max()
    np.testing.assert_allclose(added, dx + plus, rtol=0, atol=bound)
    same_gradients(same, grads)


@over_everything
def test_without_dx_the_gradients_are_the_same(name):
    layer = made(name)
    dx, grads = passes(layer, images())
    none, same = passes(layer, images(), needs_dx=False)
    assert dx.shape == X
    assert none is None or name in LAYERS  # a leaf may return it all the same
    same_gradients(same, grads)


@pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])
@over_composites
def test_inference_is_predict_but_for_rounding(name, ops):
    layer, x = made(name), images()
    wrap.attach(layer, ops)
    expected, out = layer.predict(x), layer.inference()(x)
    # at most seven sums of 36 products each, of numbers whose errors grow by their sizes' sum
    bound = 7 * 36 * 100 * np.finfo(float).eps * max(1, abs(expected).max())
    np.testing.assert_allclose(out, expected, rtol=0, atol=bound)


# By hand


def test_an_empty_chain_is_the_identity():
    net, x, dout, plus = nn.Chain(), images(), images(1), images(2)
    out, cache = net.forward(x, training=True)
    assert out is x
    dx, grads = net.backward(dout, cache)
    assert dx is dout
    assert grads == {}
    _, cache = net.forward(x, training=True)
    np.testing.assert_array_equal(net.backward(dout, cache, plus)[0], dout + plus)
    _, cache = net.forward(x, training=True)
    assert net.backward(dout, cache, needs_dx=False) == (None, {})
    np.testing.assert_array_equal(net.inference()(x), x)
    assert net.parameter_count == 0


def test_a_residual_unit_by_hand():
    """relu(3 x + x) of x = 2 and -1: 8 and 0; the gradient 5 becomes 5 * (3 + 1), and 0."""
    scale = nn.Conv2d(1, 1, 1, dtype=F64)
    scale.params["weight"][...] = 3
    net = nn.Residual(scale)
    out, cache = net.forward(np.array([[[[2.0, -1.0]]]]), training=True)
    np.testing.assert_array_equal(out, [[[[8, 0]]]])
    dx, grads = net.backward(np.full((1, 1, 1, 2), 5.0), cache)
    np.testing.assert_array_equal(dx, [[[[20, 0]]]])
    assert grads["weight"].item() == 5 * 2


def test_branches_by_hand():
    """x = 2: side by side 3 x and x, or their sum; dx = 3 * 5 + 7, or (3 + 1) * 5."""
    x = np.full((1, 1, 1, 1), 2.0)
    scale = nn.Conv2d(1, 1, 1, dtype=F64)
    scale.params["weight"][...] = 3
    both = nn.Branches(scale, nn.Chain())
    out, cache = both.forward(x, training=True)
    assert out.ravel().tolist() == [6, 2]
    dx, grads = both.backward(np.array([5.0, 7.0]).reshape(1, 2, 1, 1), cache)
    assert (dx.item(), grads["0.weight"].item()) == (22, 10)
    total = nn.Branches(scale, nn.Chain(), merge="add")
    out, cache = total.forward(x, training=True)
    assert out.item() == 8
    dx, grads = total.backward(np.full((1, 1, 1, 1), 5.0), cache)
    assert (dx.item(), grads["0.weight"].item()) == (20, 10)


# Who is called


def backward_calls(net, needs_dx):
    recorder = wrap.record(reference)
    wrap.attach(net, recorder)
    out, cache = net.forward(images(), training=True)
    net.backward(images(1, out.shape), cache, needs_dx=needs_dx)
    return [(call.layer, call.op) for call in recorder.calls if call.direction == "backward"]


FRONTS = {
    "layers": lambda: nn.Chain(nn.Tanh(), nn.AvgPool2d(1)),
    "a residual unit": lambda: nn.Residual(nn.Tanh()),
    "branches": lambda: nn.Branches(nn.Tanh(), nn.Sigmoid(), merge="add"),
    "nothing": nn.Chain,
}


@pytest.mark.parametrize("front", FRONTS)
def test_layers_without_parameters_in_front_are_not_called(front):
    net = nn.Chain(("front", FRONTS[front]()), ("conv", conv()), ("last", nn.Tanh()))
    assert backward_calls(net, False) == [("last", "tanh"), ("conv", "conv2d")]
    alone = backward_calls(nn.Chain(("front", FRONTS[front]())), True)
    assert backward_calls(net, True)[2:] == alone


def test_layers_without_parameters_inside_are_called():
    net = nn.Chain(("a", conv()), ("b", nn.Tanh()), ("c", conv()))
    assert backward_calls(net, False) == [("c", "conv2d"), ("b", "tanh"), ("a", "conv2d")]


def test_a_net_without_parameters_calls_none():
    assert backward_calls(nn.Chain(nn.Tanh(), nn.Residual(nn.ReLU())), False) == []


def test_the_first_unit_skips_its_sums_too():
    """Its convolutions compute no dx, and none is added."""
    net = nn.Chain(("unit", nn.Residual(conv(), nn.Chain(conv(4, 1)))), ("last", norm_relu()))
    recorder = wrap.record(reference)
    wrap.attach(net, recorder)
    out, cache = net.forward(images(), training=True)
    net.backward(out, cache, needs_dx=False)
    calls = [c for c in recorder.calls if (c.op, c.direction) == ("conv2d", "backward")]
    assert [call.results[0] for call in calls] == [None, None]
    assert [call.settings["plus"] for call in calls] == [None, None]


class Scale(nn.Layer):
    """A user's layer, whose backward accepts only dout and cache."""

    def __init__(self):
        super().__init__()
        self.params["factor"] = np.array([3.0])

    def forward(self, x, training):
        return self.params["factor"] * x, x

    def backward(self, dout, cache):
        return self.params["factor"] * dout, {"factor": np.array([(dout * cache).sum()])}


def test_a_backward_without_plus_and_needs_dx_works_in_every_composite():
    x, dout, plus = np.random.default_rng(0).standard_normal((3, 2, 4, 5, 5))
    _, cache = Scale().forward(x, training=True)
    dx, grads = Scale().backward(dout, cache, plus, needs_dx=False)
    np.testing.assert_array_equal(dx, 3 * dout + plus)
    assert grads.keys() == {"factor"}
    layer = nn.Chain(
        Scale(), nn.Residual(nn.Chain(Scale(), nn.Tanh())), nn.Branches(Scale(), Scale())
    )
    assert check_layer(layer, x).ok

"""Backward gets the same cache twice, and a check leaves no trace in what it checked."""

import copy
from dataclasses import dataclass

import numpy as np
import pytest

from minise import models, nn
from minise.gradcheck import adapters, check
from minise.ops import jit

X = np.random.default_rng(0).standard_normal((4, 5))


def problem(forward, backward):
    return check(forward, backward, [X.copy()]).problem


# Caches


def test_a_list_may_be_emptied():
    """A composite layer pops its caches in reverse order to free memory early."""

    def forward(x):
        return x * x * x, [x, [3 * x], {"square": x * x}]

    def backward(dout, cache):
        square = cache.pop()
        tripled = cache.pop().pop()
        assert cache.pop() is not None
        assert square.popitem()[0] == "square"
        return (dout * tripled * tripled / 3,)

    assert check(forward, backward, [X]).ok


@dataclass
class CacheDataclass:
    x: np.ndarray


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


@pytest.mark.parametrize(
    ("hold", "take", "path"),
    [
        (lambda x: x, lambda cache: cache, "cache"),
        (lambda x: (None, x), lambda cache: cache[1], r"cache\[1\]"),
        (lambda x: [[x]], lambda cache: cache[0][0], r"cache\[0\]\[0\]"),
        (lambda x: {"x": x}, lambda cache: cache["x"], r"cache\['x'\]"),
        (CacheDataclass, lambda cache: cache.x, r"cache.x"),
    ],
    ids=["array", "tuple", "lists", "dict", "dataclass"],
)
def test_an_array_may_not_be_written(hold, take, path):
    def backward(dout, cache):
        x = take(cache)
        x *= 2  # makes the first gradient right and the second wrong
        return (dout * x,)

    message = problem(lambda x: (x * x, hold(x.copy())), backward)
    assert f"changes {path.replace(chr(92), '')} in place" in message
    assert "work on a copy" in message


@pytest.mark.parametrize("hold", [Slotted, lambda x: lambda: x], ids=["slots", "closure"])
def test_a_hidden_array_shows_in_the_second_call(hold):
    def backward(dout, cache):
        x = cache.x if isinstance(cache, Slotted) else cache()
        x *= 2
        return (dout * x,)

    message = problem(lambda x: (x * x, hold(x.copy())), backward)
    assert "backward returns different results for the same cache" in message
    assert "it changes the cache or a state of its own" in message


def test_a_state_that_counts_its_calls():
    calls = []

    def backward(dout, x):
        calls.append(1)
        return (dout * 2 * x * (len(calls) if len(calls) > 1 else 1),)

    assert "different results for the same cache" in problem(lambda x: (x * x, x), backward)


# Layers stay unchanged


class Course:
    """A layer as in many courses: it stores its cache, a random stream and statistics."""

    def __init__(self):
        self.params = {"gamma": np.array([2.0, 3.0, 1.0, -1.0, 0.5])}
        self.grads = {"gamma": np.full(5, 7.0)}
        self.mean, self.rng, self.x, self.steps = np.zeros(5), np.random.default_rng(3), "x", 0

    def forward(self, x):
        self.mean *= 0.9
        self.mean += 0.1 * x.real.mean(axis=0)
        self.rng.random()
        self.x, self.steps = x, self.steps + 1
        return x * self.params["gamma"]

    def backward(self, dout):
        self.grads["gamma"] = (dout * self.x).sum(axis=0)
        return dout * self.params["gamma"]


def test_a_user_layer_stays_unchanged():
    layer = Course()
    gamma, gradient = layer.params["gamma"], layer.grads["gamma"]
    before, drawn = copy.deepcopy(vars(layer)), copy.deepcopy(layer.rng).random()
    for mode in ("auto", "directional", "complex_step", "jacobian"):
        forward, backward, params = adapters.layer(layer)
        assert check(forward, backward, [X, *params.values()], mode=mode).ok
        assert layer.params["gamma"] is gamma
        assert layer.grads["gamma"] is gradient
        assert (layer.x, layer.steps) == ("x", 0)
        np.testing.assert_array_equal(layer.mean, before["mean"])
        np.testing.assert_array_equal(gradient, before["grads"]["gamma"])
        np.testing.assert_array_equal(gamma, before["params"]["gamma"])
    assert layer.rng.random() == drawn


def test_a_user_layer_stays_unchanged_after_an_error():
    layer = Course()
    gamma = layer.params["gamma"]
    forward, _, params = adapters.layer(layer)
    with pytest.raises(ZeroDivisionError):
        check(forward, lambda dout, cache: 1 / 0, [X, *params.values()])
    assert layer.params["gamma"] is gamma
    assert layer.x == "x"


@pytest.mark.parametrize("training", [True, False])
def test_a_net_can_continue_after_a_check(training):
    """Parameters keep their identity and dtype, statistics their values."""
    net = models.build("se_resnet8", dtype=np.float64)
    images = np.random.default_rng(0).standard_normal((2, 3, 8, 8))
    out, cache = net.forward(images, True)
    own = {name: (array, array.copy()) for name, array in net.named_parameters().items()}
    state = {name: array.copy() for name, array in net.named_state().items()}
    forward, backward, params = adapters.layer(net, training=training)
    report = check(forward, backward, [images, *params.values()])
    assert not report.wrong
    for name, array in net.named_parameters().items():
        assert array is own[name][0]
        assert array.dtype == np.float64
        np.testing.assert_array_equal(array, own[name][1])
    for name, array in net.named_state().items():
        np.testing.assert_array_equal(array, state[name])
    dx, grads = net.backward(np.ones(out.shape), cache)  # of the forward before the check
    assert dx.shape == images.shape
    assert grads.keys() == net.named_parameters().keys()


def test_a_layer_that_changes_its_cache_is_reported():
    class Destroyer(nn.Linear):
        def backward(self, dout, cache, plus=None, needs_dx=True):
            cache.x[...] *= 2
            return super().backward(dout, cache, plus, needs_dx)

    layer = Destroyer(5, 3, dtype=np.float64, ops=jit)
    forward, backward, params = adapters.layer(layer, training=True)
    assert "in place" in check(forward, backward, [X.copy(), *params.values()]).problem

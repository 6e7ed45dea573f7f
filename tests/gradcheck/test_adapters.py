"""Layers and functions of other forms are adapted and checked."""

import sys
from types import ModuleType

import numba
import numpy as np
import pytest

from minise import nn
from minise.gradcheck import adapters, assert_layer_gradients, check, check_layer
from minise.ops import jit, reference


def forward(x, weight):
    return x @ weight, (x, weight)


def by_dict(dout, cache):
    x, weight = cache
    return {"dweight": x.T @ dout, "dx": dout @ weight.T}


def inputs():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((3, 4)), rng.standard_normal((4, 2))]


def test_gradients_as_a_dict_in_any_order():
    assert check(forward, by_dict, inputs()).ok
    assert check(forward, lambda d, c: {k[1:]: v for k, v in by_dict(d, c).items()}, inputs()).ok
    wrong = check(forward, lambda d, c: {**by_dict(d, c), "dbias": d}, inputs())
    assert not wrong.ok
    assert "backward returns dbias, expected keys of dx, dweight" in wrong.problem


def test_functions_that_numba_compiled():
    @numba.njit
    def there(a, b):
        return np.sin(a) * b, (a, b)

    @numba.njit
    def back(dout, cache):
        a, b = cache
        return dout * b * np.cos(a), dout * np.sin(a)

    @numba.njit
    def wrong(dout, cache):
        a, b = cache
        return dout * b * np.cos(a), dout * np.cos(a)

    values = [inputs()[0], inputs()[0] + 1]
    assert check(there, back, values).ok
    report = check(there, wrong, values)
    assert [argument.name for argument in report.failures] == ["b"]


def test_without_a_cache():
    pair = adapters.without_cache(
        lambda x, weight: x @ weight, lambda dout, x, weight: (dout @ weight.T, x.T @ dout)
    )
    report = check(*pair, inputs())
    assert report.ok
    assert [argument.name for argument in report.arguments] == ["x", "weight"]


class Scale:
    """A layer as in many courses, which stores its cache and gradients."""

    def __init__(self, factor=1.0):
        self.params, self.grads, self.factor = {"gamma": np.array([2.0, 3.0])}, {}, factor

    def forward(self, x):
        self.x = x
        return x * self.params["gamma"]

    def backward(self, dout):
        self.grads["gamma"] = self.factor * (dout * self.x).sum(axis=0)
        return dout * self.params["gamma"]


class Returning(Scale):
    """The same layer by minise's contract, with another name for the flag."""

    def forward(self, x, train):
        assert train in (True, False)
        return x * self.params["gamma"], x

    def backward(self, dout, cache):
        gradient = self.factor * (dout * cache).sum(axis=0)
        return dout * self.params["gamma"], {"gamma": gradient}


@pytest.mark.parametrize("kind", [Scale, Returning])
@pytest.mark.parametrize(("factor", "wrong"), [(1.0, None), (-1.0, "sign")])
def test_a_user_layer(kind, factor, wrong):
    report = check_layer(kind(factor), np.ones((3, 2)))
    assert [argument.name for argument in report.arguments] == ["x", "gamma"]
    assert report.ok == (wrong is None)
    assert [argument.diagnosis.kind for argument in report.failures] == ([wrong] if wrong else [])
    assert str(report).startswith(f"{kind.__name__}, mode directional: ")
    if wrong:
        with pytest.raises(AssertionError, match="gamma"):
            assert_layer_gradients(kind(factor), np.ones((3, 2)))
    else:
        assert assert_layer_gradients(kind(factor), np.ones((3, 2))).ok


@pytest.mark.parametrize("training", [True, False])
def test_minise_nets_are_checked_by_a_complex_step_in_float64(training):
    """A net in float32 stays in float32."""
    net = nn.Chain(("fc", nn.Linear(4, 3, rng=0)), ("relu", nn.ReLU()))
    report = check_layer(net, inputs()[0].astype(np.float32), training=training)
    assert (report.ok, report.mode) == (True, "complex_step")
    assert [argument.name for argument in report.arguments] == ["x", "fc.weight", "fc.bias"]
    assert net["fc"].params["weight"].dtype == np.float32
    assert adapters.takes_complex(reference.relu_forward)
    assert not adapters.takes_complex(forward)


class Absolute(nn.Layer):
    """A user's layer with minise's ops and a NumPy line that drops imaginary parts."""

    def forward(self, x, training):
        return self.ops.relu_forward(abs(x))[0] * 1.0, x

    def backward(self, dout, cache, plus=None, needs_dx=True):
        return self.add(dout * np.sign(cache), plus), {}


def test_a_users_forward_is_not_trusted_with_complex_steps():
    report = check_layer(nn.Chain(nn.Linear(4, 3, rng=0), Absolute()), inputs()[0])
    assert (report.ok, report.mode) == (True, "directional")


@pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])
@pytest.mark.parametrize("share", ["the layer", "the array"])
def test_shared_parameters_are_one_input(ops, share):
    """The gradient is the sum over the uses; a backward that omits a use is wrong."""
    first = nn.Linear(4, 4, ops=ops, rng=0)
    second = first if share == "the layer" else nn.Linear(4, 4, ops=ops, rng=1)
    second.params["weight"] = first.params["weight"]
    net = nn.Chain(("first", first), ("relu", nn.ReLU(ops=ops)), ("second", second))
    report = check_layer(net, inputs()[0])
    assert report.ok
    biases = [] if share == "the layer" else ["second.bias"]
    names = ["x", "first.weight", "first.bias", *biases]
    assert [argument.name for argument in report.arguments] == names
    there, back, params = adapters.layer(net, training=True)

    def forgetful(dout, cache):
        dx, *grads = back(dout, cache)
        return dx, grads[0] / 2, *grads[1:]

    values = [np.float64(array) for array in (inputs()[0], *params.values())]
    failures = check(there, forgetful, values).failures
    assert [failure.name for failure in failures] == ["first.weight"]


def test_a_net_with_dropout_has_a_fixed_mask_and_an_integer_counter():
    net = nn.Chain(nn.Linear(4, 8, rng=0), nn.Dropout(0.5, rng=1), nn.Linear(8, 3, rng=2))
    net.forward(inputs()[0].astype(np.float32), training=True)
    report = check_layer(net, inputs()[0])
    assert (report.ok, report.mode) == (True, "complex_step")
    assert net[1].state["draws"].dtype == np.int64
    assert net[1].state["draws"] == 1
    there, _, params = adapters.layer(net, training=True)
    values = [np.float64(array) for array in (inputs()[0], *params.values())]
    outs = [there(*values)[0] for _ in range(2)]
    np.testing.assert_array_equal(*outs)


def test_units_with_several_paths_from_x_are_checked():
    build = nn.Build(rng=0, se=nn.SE(reduction=2))
    x = np.random.default_rng(1).standard_normal((2, 3, 4, 5))
    for unit in (nn.basic_block, nn.preact_block):
        assert_layer_gradients(unit(3, 4, 2, build), x)
    both = nn.Branches(nn.Conv2d(3, 2, 1, rng=0), nn.AvgPool2d(1), nn.ReLU())
    assert_layer_gradients(nn.Chain(nn.Conv2d(3, 3, 1, rng=1), both), x)


class Factor(nn.Layer):
    """A factor per column, whose backward handles plus or needs_dx wrongly."""

    def __init__(self, fault):
        super().__init__()
        self.fault = fault
        self.params["gamma"] = np.full(3, 2.0)

    def forward(self, x, training):
        return x * self.params["gamma"], x

    def backward(self, dout, cache, plus=None, needs_dx=True):
        grads = {"gamma": (dout * cache).sum(axis=0)}
        dx = dout * self.params["gamma"]
        if self.fault == "twice":
            dx = self.add(self.add(dx, plus), plus)
        elif self.fault == "half" and plus is not None:
            dx = self.add(dx, plus / 2)
        elif self.fault == "alone" and plus is not None:
            dx = plus
        elif self.fault == "sum" and plus is not None:
            dx = dx.sum(0)
        elif self.fault == "raises" and plus is not None:
            raise NotImplementedError("no plus")
        elif self.fault != "ignores":
            dx = self.add(dx, plus)
        if not needs_dx:
            if self.fault == "needs_dx":
                grads = {"gamma": grads["gamma"] * (1 + 2**-50)}
            if self.fault == "needs_dx raises":
                raise NotImplementedError("dx is always computed")
            return None, grads
        return dx, grads


@pytest.mark.parametrize(
    ("fault", "name", "message"),
    [
        ("ignores", "x", r"backward ignores plus: it returns dx, expected dx \+ plus"),
        (
            "twice",
            "x",
            r"backward adds plus twice: it returns dx \+ 2 \* plus, expected dx \+ plus",
        ),
        ("half", "x", r"backward adds plus wrongly: it differs from dx \+ plus by up to"),
        ("alone", "x", r"backward adds plus wrongly: it differs from dx \+ plus by up to"),
        ("sum", "x", r"a dx of shape \(3,\) when plus is passed, expected shape \(4, 3\)"),
        ("raises", "x", r"fails when plus is passed \(NotImplementedError: no plus\)"),
        ("needs_dx", "gamma", "a different gradient with needs_dx=False, expected the same bits"),
        ("needs_dx raises", "x", r"fails with needs_dx=False \(NotImplementedError: dx is always"),
    ],
)
def test_plus_and_needs_dx_are_checked(fault, name, message):
    x = np.random.default_rng(0).standard_normal((4, 3))
    report = check_layer(Factor(fault), x)
    assert [argument.name for argument in report.failures] == [name]
    with pytest.raises(AssertionError, match=message):
        assert_layer_gradients(Factor(fault), x)
    assert [argument.name for argument in check_layer(nn.Chain(Factor(fault)), x).failures] in (
        [name],
        [f"0.{name}"],
    )


@pytest.mark.parametrize("fault", ["ignores", "twice", "half", "alone"])
def test_a_layer_that_is_wrong_with_plus_makes_a_wrong_residual(fault):
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert not check_layer(nn.Residual(Factor(fault)), x).ok


def test_layers_that_handle_plus_correctly_are_right():
    x = np.random.default_rng(0).standard_normal((4, 3))
    assert_layer_gradients(Factor("none"), 1e6 * x)
    assert_layer_gradients(Factor("none"), x.astype(np.float32))

    class Short(Factor):
        """nn.Layer adds plus and needs_dx to this backward."""

        def backward(self, dout, cache):
            return super().backward(dout, cache)

    class NoSubclass:
        """A class outside minise whose backward takes plus only."""

        def __init__(self, right):
            self.params, self.right = {}, right

        def forward(self, x):
            return 2 * x, None

        def backward(self, dout, cache, plus=0.0):
            return 2 * dout + self.right * plus, {}

    assert_layer_gradients(Short("ignores"), x)
    assert_layer_gradients(NoSubclass(True), x)
    with pytest.raises(AssertionError, match="ignores plus"):
        assert_layer_gradients(NoSubclass(False), x)


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        ("params", "layer: Odd has no dict params, expected a dict of arrays by name"),
        ("forward", "layer: Odd has no forward, expected methods forward and backward"),
        ("backward", "layer: Odd has no backward, expected methods forward and backward"),
    ],
)
def test_objects_that_are_not_layers(lacks, message):
    parts = dict(params={}, forward=lambda self, x: x, backward=lambda self, dout: dout)
    odd = type("Odd", (), {name: part for name, part in parts.items() if name != lacks})()
    with pytest.raises(TypeError, match=message):
        check_layer(odd, np.ones(3))


def test_a_missing_gradient_is_named():
    class Lacking(nn.Linear):
        def backward(self, dout, cache, plus=None, needs_dx=True):
            dx, grads = super().backward(dout, cache, plus, needs_dx)
            return dx, {"weight": grads["weight"]}

    class Bare(nn.Linear):
        def backward(self, dout, cache, plus=None, needs_dx=True):
            return super().backward(dout, cache)[0]

    with pytest.raises(
        ValueError, match="^layer: grads has weight, expected a gradient named bias"
    ):
        check_layer(Lacking(4, 3), inputs()[0])
    with pytest.raises(ValueError, match=r"backward returns a ndarray, expected \(dx, dict"):
        check_layer(Bare(4, 3), inputs()[0])


class OnDevice(np.lib.mixins.NDArrayOperatorsMixin):
    """An array like CuPy's: converted to NumPy only by get, and never mixed with NumPy arrays."""

    __module__ = "elsewhere.core"

    def __init__(self, array):
        self.array = np.array(array)

    dtype = property(lambda self: self.array.dtype)
    shape = property(lambda self: self.array.shape)

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *arrays):
        if any(isinstance(array, np.ndarray) for array in arrays):
            return NotImplemented
        plain = [array.array if isinstance(array, OnDevice) else array for array in arrays]
        return OnDevice(getattr(ufunc, method)(*plain))

    def get(self):
        return self.array


@pytest.mark.parametrize(("factor", "ok"), [(2.0, True), (2.1, False), (2 + 1e-9, False)])
@pytest.mark.parametrize("mode", ["directional", "jacobian"])
def test_arrays_of_another_library(monkeypatch, factor, ok, mode):
    elsewhere = ModuleType("elsewhere")
    elsewhere.asarray = OnDevice
    monkeypatch.setitem(sys.modules, "elsewhere", elsewhere)
    with pytest.raises(TypeError, match="implicit"):
        np.asarray(OnDevice(1.0))
    with pytest.raises(TypeError):
        OnDevice([1.0]) * np.ones(1)

    def square(x):
        return x * x + np.float64(1), x

    def back(dout, x):
        return (factor * x * dout,)

    report = check(square, back, [OnDevice(inputs()[0])], mode=mode)
    assert report.ok == ok
    if not ok:
        assert report.failures[0].error > report.failures[0].allowed

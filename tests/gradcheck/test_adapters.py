"""Pairs of other shapes are checked like ours."""

import sys
from types import ModuleType

import numba
import numpy as np
import pytest

from minise import nn
from minise.gradcheck import adapters, check
from minise.ops import reference


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
    assert [one.name for one in report.failures] == ["b"]


def test_without_a_cache():
    pair = adapters.without_cache(
        lambda x, weight: x @ weight, lambda dout, x, weight: (dout @ weight.T, x.T @ dout)
    )
    report = check(*pair, inputs())
    assert report.ok
    assert [one.name for one in report.arguments] == ["x", "weight"]


class Scale:
    """A layer in the common style of courses."""

    def __init__(self, factor=1.0):
        self.params, self.grads, self.factor = {"gamma": np.array([2.0, 3.0])}, {}, factor

    def forward(self, x):
        self.x = x
        return x * self.params["gamma"]

    def backward(self, dout):
        self.grads["gamma"] = self.factor * (dout * self.x).sum(axis=0)
        return dout * self.params["gamma"]


@pytest.mark.parametrize(("factor", "kind"), [(1.0, None), (-1.0, "sign")])
def test_a_layer_of_ones_own(factor, kind):
    pair = adapters.layer(Scale(factor))
    report = check(*pair[:2], [np.ones((3, 2)), *pair[2].values()])
    assert report.ok == (kind is None)
    assert [one.diagnosis.kind for one in report.failures] == ([kind] if kind else [])


def test_our_nets_are_checked_by_a_complex_step():
    net = nn.Sequential(nn.Linear(4, 3, dtype=np.float64), nn.ReLU())
    first, second, params = adapters.layer(net, training=True)
    report = check(first, second, [inputs()[0], *params.values()])
    assert (report.ok, report.mode) == (True, "complex_step")
    assert adapters.takes_complex(reference.relu_forward)
    assert not adapters.takes_complex(forward)


class OnDevice(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that, like CuPy's, becomes NumPy's only when asked, and does not mix with them."""

    __module__ = "elsewhere.core"

    def __init__(self, array):
        self.array = np.array(array)

    dtype = property(lambda self: self.array.dtype)
    shape = property(lambda self: self.array.shape)

    def __array__(self, *args, **kwargs):
        raise TypeError("implicit conversion to a NumPy array is not allowed")

    def __array_ufunc__(self, ufunc, method, *arrays):
        if any(isinstance(one, np.ndarray) for one in arrays):
            return NotImplemented
        plain = [one.array if isinstance(one, OnDevice) else one for one in arrays]
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

"""Pairs of other shapes are checked like ours."""

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

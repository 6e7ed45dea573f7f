"""Which functions are recognised as analytic by the names in their code."""

from functools import partial

import numpy as np
import pytest

from minise.gradcheck.slopes.complex_steps import is_analytic

WEIGHT = np.ones((3, 2))


def helper(x):
    return np.exp(x) / (1 + x)


def dropping(x):
    return x.real + 1


def net(x, weight, *biases):
    for bias in biases:
        x = np.maximum(x @ weight.T + bias, 0)
    return np.where(x > 0, x, 0), [x]


def recursive(x, n):
    return x if n == 0 else helper(recursive(x, n - 1))


def closing_over(value):
    return lambda x: value * x


def decorated(function):
    return lambda x: function(x)


class Model:
    def forward(self, x):
        return abs(x)


@pytest.mark.parametrize(
    "function",
    [
        helper,
        net,
        recursive,
        np.sin,
        closing_over(3.0),
        closing_over(np.ones(3)),
        decorated(helper),
        lambda x: 1e30 + x**2.5,
        lambda x: [np.sum(row) for row in x],
        lambda x: WEIGHT @ x,
        lambda x: np.einsum("nc,nc->n", x, x),
    ],
)
def test_arithmetic_is_analytic(function):
    assert is_analytic(function)


@pytest.mark.parametrize(
    "function",
    [
        dropping,
        np.abs,
        np.conj,
        lambda x: abs(x),
        lambda x: np.abs(x) + x,
        lambda x: dropping(x) + x,
        lambda x: x.var(),
        lambda x: np.std(x),
        lambda x: np.linalg.norm(x),
        lambda x: np.vdot(x, x),
        lambda x: x.astype(np.float64),
        lambda x: float(x[0]),
        lambda x: x.item(),
        lambda x: x.view(float),
        lambda x: np.interp(x, [0, 1], [0, 1]),
        lambda x: getattr(x, "real"),  # noqa: B009
        lambda x: [abs(entry) for entry in x],
        lambda x, clean=dropping: clean(x),
        lambda x: __import__("numpy").abs(x),
        decorated(dropping),
        partial(net, weight=WEIGHT),
        closing_over(Model()),
        Model().forward,
        Model,
        print,
    ],
)
def test_dropped_parts_and_unknown_names_are_not_analytic(function):
    assert not is_analytic(function)

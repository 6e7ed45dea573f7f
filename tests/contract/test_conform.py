"""The reference conforms to the contract, and each broken back end fails with the broken rule."""

import re
from types import SimpleNamespace

import numpy as np
import pytest

from minise.contract.case import OPS
from minise.contract.conform import check_op, conform
from minise.ops import reference


def test_the_reference_conforms():
    results = conform(reference, cases=15)
    assert [result.op for result in results] == OPS
    assert [result.problem for result in results] == [""] * len(OPS)
    assert all(result.cases >= 2 for result in results)  # some ops have few cases to draw


def broken(**functions):
    """Return the reference with some functions replaced."""
    own = {name: getattr(reference, name) for name in reference.__all__}
    return SimpleNamespace(**{**own, **functions})


def relu_list(dout, cache):
    return list(reference.relu_backward(dout, cache))


def relu_leaky(dout, cache):
    (dx,) = reference.relu_backward(dout, cache)
    return (np.where(cache.out <= 0, 0.01 * dout, dx).astype(dout.dtype),)


def relu_in_place(x):
    out = np.where(x <= 0, 0, x)
    if x.flags.writeable:
        x *= 1.5
    return out, reference.relu_forward(out)[1]


def relu_without_nan(x):
    out = np.where(x > 0, x, 0).astype(x.dtype)
    return out, reference.relu_forward(x)[1]


def relu_double(x):
    out, cache = reference.relu_forward(x)
    return out.astype(np.float64), cache


def relu_random(dout, cache):
    (dx,) = reference.relu_backward(dout, cache)
    return (dx * np.asarray(1 + 1e-3 * np.random.default_rng().random(), dx.dtype),)


def relu_silent(x):
    x = np.asarray(x)
    out = np.where(x <= 0, 0, x)
    return out, reference.relu_forward(np.asarray(out, np.float64))[1]._replace(out=out)


@pytest.mark.parametrize(
    ("functions", "rule"),
    [
        (dict(relu_backward=relu_list), "rule 1, gradients: backward returns a list"),
        (dict(relu_backward=relu_leaky), "equal|gradients"),
        (dict(relu_backward=lambda d, c: d), "rule 6, signatures"),
        (dict(relu_forward=relu_in_place), "rule 4, pure"),
        (dict(relu_forward=relu_without_nan), "rule 9, NaN in, NaN out"),
        (dict(relu_forward=relu_double), "rule 5, dtype in = dtype out"),
        (dict(relu_backward=relu_random), "rule 8, deterministic"),
        (dict(relu_forward=relu_silent), "rule 7, messages: float16 raises nothing"),
    ],
)
def test_the_broken_rule_is_named(functions, rule):
    result = check_op(broken(**functions), "relu", 60)
    assert re.match(rule, result.problem), result.problem


def test_the_smallest_case_is_reported():
    def backward(dout, cache):
        (dx,) = reference.relu_backward(dout, cache)
        return (-dx if dx.size > 1 else dx,)

    result = check_op(broken(relu_backward=backward), "relu", 60)
    assert result.problem
    assert "sizes {'...': (2,)}" in result.smallest


def test_a_missing_function():
    partial = SimpleNamespace(relu_forward=reference.relu_forward)
    (result,) = conform(partial)
    assert result.problem == "rule 6, names: relu_backward is missing"

"""Functions that are hard to check: right gradients are never wrong, wrong ones never right.

Each defeated a checker that trusted a slope too early: a complex step through abs, steps within a
constant interval of a rounded function, a step across a dead zone.
"""

import functools

import numpy as np
import pytest

from minise.gradcheck import check
from minise.gradcheck.report import RIGHT, WRONG
from minise.ops import reference
from tests.gradcheck.biased_normalisation import normalised, normalised_backward

MODES = ("auto", "directional", "jacobian", "complex_step")
RNG = np.random.default_rng(7)
BALL, TINY = 20 * RNG.standard_normal((8, 8)), 1e-8 * np.array([1.0, -2.0, 0.7])


def projected(x):
    length = np.linalg.norm(x)
    return x * min(1, 50 / length), (x, length)


def projected_backward(dout, cache):
    x, length = cache
    if length <= 50:
        return (dout,)
    return (50 / length * (dout - x * (x * dout).sum() / length**2),)


def huber(r):
    size = np.abs(r)
    return np.where(size <= 5, r * r / 2, 5 * (size - 2.5)), r


def softplus(x):
    return np.maximum(x, 0) + np.log(1 + np.exp(-np.abs(x))), x


def gelu(x):
    t = np.tanh(0.7978845608 * (x + 0.044715 * x**3))
    return x * (1 + t) / 2, (x, t)


def gelu_backward(dout, cache):
    x, t = cache
    inner = 0.7978845608 * (1 + 0.134145 * x * x)
    return (dout * ((1 + t) / 2 + x / 2 * (1 - t * t) * inner),)


def shrunk(x, least):
    return np.sign(x) * np.maximum(np.abs(x) - least, 0), x


def with_keyword(x, *, part=np.abs):
    return x + part(x), x


@functools.wraps(reference.relu_forward)
def disguised(x):
    return np.abs(x), x


CASES = {
    "projection on a ball": (projected, projected_backward, BALL),
    "Huber": (huber, lambda d, r: (d * np.clip(r, -5, 5),), BALL),
    "Huber at its kink": (huber, lambda d, r: (d * np.clip(r, -5, 5),), np.array([5.001, -30.0])),
    "log-cosh": (
        lambda x: (np.where(np.abs(x) > 20, np.abs(x) - np.log(2), np.log(np.cosh(x))), x),
        lambda d, x: (d * np.tanh(x),),
        BALL,
    ),
    "1 - tanh^2, saturated": (
        lambda x: (1 - np.tanh(x) ** 2, x),
        lambda d, x: (-2 * d * np.tanh(x) * (1 - np.tanh(x) ** 2),),
        np.array([16.0]),
    ),
    "softplus, far down": (
        softplus,
        lambda d, x: (d / (1 + np.exp(-x)),),
        np.array([-36.0, -35.0]),
    ),
    "log(1 + exp)": (
        lambda x: (np.log(1 + np.exp(x)), x),
        lambda d, x: (d / (1 + np.exp(-x)),),
        np.array([-36.0]),
    ),
    "sqrt(1 + x^2) - 1": (
        lambda x: (np.sqrt(1 + np.abs(x) ** 2) - 1, x),
        lambda d, x: (d * x / np.sqrt(1 + x * x),),
        TINY,
    ),
    "1 - cos": (lambda x: (1 - np.cos(np.abs(x)), x), lambda d, x: (d * np.sin(x),), TINY),
    "gelu, far down": (gelu, gelu_backward, np.array([-6.6, -7.1, -8.0])),
    "gelu, large": (gelu, gelu_backward, np.array([1e6])),
    "soft-shrink": (
        lambda x: shrunk(x, 1e-9),
        lambda d, x: (d * (abs(x) > 1e-9),),
        3e-9 * RNG.standard_normal(5),
    ),
    "fifth power at 0": (lambda x: (x**5, x), lambda d, x: (5 * d * x**4,), np.zeros(3)),
    "cube at 0": (lambda x: (x**3, x), lambda d, x: (3 * d * x * x,), np.zeros(3)),
    "product with zeros": (
        lambda x: (np.asarray(x.prod()), x),
        lambda d, x: (d * np.array([np.prod(np.delete(x, i)) for i in range(len(x))]),),
        np.array([0.0, 2.0, 0.0, -1.0]),
    ),
    "underflow": (lambda x: (x * x, x), lambda d, x: (2 * d * x,), np.array([1e-165, 3e-166])),
    "hidden in a keyword": (
        with_keyword,
        lambda d, x: (d * (1 + np.sign(x)),),
        RNG.standard_normal(4),
    ),
    "in the name of another": (disguised, lambda d, x: (d * np.sign(x),), RNG.standard_normal(4)),
    "beside a large sum": (
        lambda x: (1e18 + np.abs(x), x),
        lambda d, x: (d * np.sign(x),),
        RNG.standard_normal(4),
    ),
    "a small part": (
        lambda x: (x + 1e-3 * np.abs(x), x),
        lambda d, x: (d * (1 + 1e-3 * np.sign(x)),),
        RNG.standard_normal(4),
    ),
}
SATURATED = ("softplus, far down", "log(1 + exp)", "gelu, far down")
MISTAKES = {
    "sign": lambda gradient, dout: -gradient,
    "half": lambda gradient, dout: gradient / 2,
    "zero": lambda gradient, dout: gradient * 0,
    "twice": lambda gradient, dout: 2 * gradient,
    "a part": lambda gradient, dout: dout + 0 * gradient,
}


def argument_report(forward, backward, x, mode, seed):
    """Return the report of the argument, or None if forward rejects complex numbers.

    In mode complex_step the caller vouches for forward; abs shows only if differences resolve it.
    """
    if mode == "complex_step" and forward is softplus:
        return None
    try:
        with np.errstate(all="ignore"):
            report = check(forward, backward, [x], seed, mode=mode)
    except TypeError:
        assert mode == "complex_step"
        return None
    assert not report.problem
    return report.arguments[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_a_right_gradient_is_never_wrong(name, mode):
    forward, backward, x = CASES[name]
    for seed in range(3):
        report = argument_report(forward, backward, x, mode, seed)
        assert report is None or report.verdict != WRONG, report.sentence()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_gradient_is_never_right(name, mode):
    forward, backward, x = CASES[name]
    for mistake_name, mistake in MISTAKES.items():
        if name in SATURATED and mistake_name in ("zero", "half", "twice"):
            continue  # right and wrong gradient are below the rounding error of a slope of 1

        def wrong(dout, cache, mistake=mistake):
            (gradient,) = backward(dout, cache)
            return (np.asarray(mistake(gradient, np.broadcast_to(dout, gradient.shape))),)

        dout = np.random.default_rng(0).standard_normal(forward(x)[0].shape)
        right, changed = backward(dout, forward(x)[1])[0], wrong(dout, forward(x)[1])[0]
        if np.linalg.norm(changed - right) <= 2e-3 * np.linalg.norm(right):
            continue  # the mistake changes nothing here
        report = argument_report(forward, wrong, x, mode, 0)
        assert report is None or report.verdict != RIGHT, f"{mistake_name}: {report.sentence()}"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("x_size", "bias_size"), [(1, 1), (1e-3, 0.1), (1e-4, 0.1), (1, 1e10)])
def test_a_bias_before_a_normalisation(x_size, bias_size, mode):
    unchecked = 0
    for seed in range(5):
        rng = np.random.default_rng(seed)
        inputs = [x_size * rng.standard_normal((8, 3)), bias_size * rng.standard_normal(3)]
        report = check(normalised, normalised_backward, inputs, seed, mode=mode)
        assert not report.wrong, str(report)
        unchecked += len(report.unchecked)
    assert unchecked == 0 or bias_size > x_size  # a large bias costs y digits


@pytest.mark.parametrize("mode", ["auto", "directional", "jacobian"])
def test_forward_may_fail_outside_its_domain(mode):
    def root(x):
        if (x <= 0).any():
            raise ValueError("negative")
        return np.sqrt(x), x

    x = np.array([1e-3, 1e-5, 2.0])
    assert check(root, lambda d, x: (d / 2 / np.sqrt(x),), [x], mode=mode).ok
    assert not check(root, lambda d, x: (d / np.sqrt(x),), [x], mode=mode).ok

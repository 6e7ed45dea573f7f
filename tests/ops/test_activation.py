"""Activations: by hand, against math, at their kinks and extremes."""

import math

import numpy as np
import pytest
from hypothesis import given

from minise.ops import reference
from tests.ops.cases import BACKENDS, EPS, SEEDS, STRATEGIES, direction, draw, few

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
DTYPES = pytest.mark.parametrize("dtype", [np.float32, np.float64])
NAMES = ["relu", "sigmoid", "tanh", "hard_sigmoid", "silu"]

SCALAR = {
    "relu": lambda v: max(v, 0.0),
    "sigmoid": lambda v: 1 / (1 + math.exp(-v)),
    "tanh": math.tanh,
    "hard_sigmoid": lambda v: min(max(v + 3, 0.0), 6.0) / 6,
    "silu": lambda v: v / (1 + math.exp(-v)),
}
SLOPE = {
    "relu": lambda v: 1.0 if v > 0 else 0.0,
    "sigmoid": lambda v: 1 / (2 + math.exp(v) + math.exp(-v)),
    "tanh": lambda v: 1 / math.cosh(v) ** 2,
    "hard_sigmoid": lambda v: 1 / 6 if -3 < v < 3 else 0.0,
    "silu": lambda v: (1 + (1 + v) * math.exp(-v)) / (1 + math.exp(-v)) ** 2,
}


@over_backends
@pytest.mark.parametrize(
    ("op", "out", "slope"),
    [
        ("relu", [0, 0, 0, 0, 2, 3, 1000], [0, 0, 0, 0, 1, 1, 1]),
        ("hard_sigmoid", [0, 0, 1 / 6, 1 / 2, 5 / 6, 1, 1], [0, 0, 1 / 6, 1 / 6, 1 / 6, 0, 0]),
    ],
)
def test_kinks_by_hand(ops, op, out, slope):
    """At a kink the slope is 0."""
    x = np.array([-1000.0, -3.0, -2.0, 0.0, 2.0, 3.0, 1000.0])
    result, cache = getattr(ops, f"{op}_forward")(x)
    assert result.tolist() == out
    (dx,) = getattr(ops, f"{op}_backward")(np.ones_like(x), cache)
    assert dx.tolist() == slope


@over_backends
def test_smooth_by_hand(ops):
    x = np.array([-np.log(3), 0, np.log(3)])
    s, cache = ops.sigmoid_forward(x)
    np.testing.assert_array_max_ulp(s, np.array([1 / 4, 1 / 2, 3 / 4]), 2)
    (dx,) = ops.sigmoid_backward(np.array([16.0, 4.0, -16.0]), cache)
    np.testing.assert_array_max_ulp(dx, np.array([3.0, 1.0, -3.0]), 4)
    t, cache = ops.tanh_forward(x / 2)  # (3 - 1) / (3 + 1)
    np.testing.assert_array_max_ulp(t, np.array([-1 / 2, 0, 1 / 2]), 2)
    (dx,) = ops.tanh_backward(np.array([4.0, 1.0, -4.0]), cache)
    np.testing.assert_array_max_ulp(dx, np.array([3.0, 1.0, -3.0]), 4)


@over_backends
def test_silu_by_hand(ops):
    """At x = log 3, s is 3 / 4 and the slope s + x s (1 - s) = 3 / 4 + 3 / 16 log 3."""
    log3 = math.log(3)
    x = np.array([-log3, 0, log3])
    out, cache = ops.silu_forward(x)
    np.testing.assert_array_max_ulp(out, np.array([-log3 / 4, 0, 3 * log3 / 4]), 4)
    (dx,) = ops.silu_backward(np.array([16.0, 4.0, -16.0]), cache)
    np.testing.assert_array_max_ulp(dx, np.array([4 - 3 * log3, 2, -12 - 3 * log3]), 16)


@over_backends
def test_silu_is_least_where_its_slope_is_zero(ops):
    """Where 1 + x (1 - s) = 0; x is the root of 1 + x + exp(x) rounded to a float64."""
    x = np.array([-1.2784645427610738])
    out, cache = ops.silu_forward(x)
    assert abs(out[0] - (1 + x[0])) <= 4 * EPS  # x s = x + 1, as x (1 - s) = -1
    (dx,) = ops.silu_backward(np.ones(1), cache)
    assert abs(dx[0]) <= 4 * EPS  # s and out are both about 0.28, with a few roundings each


@over_backends
@DTYPES
def test_silu_far_from_zero(ops, dtype):
    """The derivative of a large x is 1, of a small one 0; out is x, or 0."""
    big = np.finfo(dtype).max
    x = np.array([-big, -1e4, -1000, 1000, 1e4, big], dtype)
    out, cache = ops.silu_forward(x)
    assert out.tolist() == [0, 0, 0, *x[3:].tolist()]
    (dx,) = ops.silu_backward(np.ones_like(x), cache)
    assert dx.tolist() == [0, 0, 0, 1, 1, 1]


@over_backends
@pytest.mark.parametrize(
    ("dtype", "values"), [(np.float32, [-103, -90, -40]), (np.float64, [-745, -720, -300])]
)
def test_small_silus_keep_their_digits(ops, dtype, values):
    """exp(x) is less than eps / 2, so out is x exp(x) and the slope (1 + x) exp(x).

    A subnormal exp(x) is rounded to a multiple of the smallest number, at most one away.
    """
    x = np.array(values, dtype)
    out, cache = ops.silu_forward(x)
    (dx,) = ops.silu_backward(np.ones_like(x), cache)
    tiny = float(np.finfo(dtype).smallest_subnormal)
    assert (out < 0).all()
    for v, y, g in zip(values, out.tolist(), dx.tolist(), strict=True):
        for result, factor in ((y, v), (g, 1 + v)):
            # a few roundings, most of them in exp, or one step of a subnormal s
            bound = 8 * float(np.finfo(dtype).eps) * math.exp(v) + 1.5 * tiny
            assert abs(result / factor - math.exp(v)) <= bound


def test_a_complex_step_through_silu_is_exact():
    """Even with a step of 1e-200, and where the sigmoid is nearly 0 or 1."""
    x = np.array([-700.0, -40.0, -1.2784645427610738, 0.0, 1.0, 30.0, 1000.0, 1e4])
    out, _ = reference.silu_forward(x + 1e-200j)
    assert out.dtype == np.complex128
    real, cache = reference.silu_forward(x)
    np.testing.assert_array_max_ulp(out.real, real, 4)
    (dx,) = reference.silu_backward(np.ones_like(x), cache)
    # the terms s and x s (1 - s) have a few roundings each; 1 - s has one of magnitude 1
    bound = 8 * EPS * (cache.s + abs(real))
    bound[0] = 1e-100  # exp(-700) * 1e-200 is 0
    assert (abs(out.imag / 1e-200 - dx) <= bound).all()


@over_backends
@pytest.mark.parametrize("op", NAMES)
@few
@given(case=STRATEGIES["relu"], seed=SEEDS)
def test_against_math(ops, op, case, seed):
    rng = np.random.default_rng(seed)
    (x,), _ = draw(case, rng)
    x = 3 * x
    out, cache = getattr(ops, f"{op}_forward")(x)
    dout = direction(out, rng)
    (dx,) = getattr(ops, f"{op}_backward")(dout, cache)
    assert out.shape == dx.shape == x.shape
    is_silu = op == "silu"
    for v, y, d, g in zip(x.flat, np.ravel(out), dout.flat, np.ravel(dx), strict=True):
        # a few roundings on each side; 1 - s and 1 - t t have a rounding of magnitude 1
        assert abs(y - SCALAR[op](float(v))) <= 8 * EPS * max(abs(y), 0.5 * (op == "hard_sigmoid"))
        # silu adds out (1 - s): the roundings of s and 1 - s are multiplied by out
        assert abs(g - d * SLOPE[op](float(v))) <= 8 * EPS * abs(d) * (1 + 2 * abs(y) * is_silu)


@over_backends
@DTYPES
def test_extremes_do_not_overflow(ops, dtype):
    big = np.finfo(dtype).max
    x = np.array([-np.inf, -big, -1000, 1000, big, np.inf], dtype)
    expected = dict(
        sigmoid=[0, 0, 0, 1, 1, 1],
        tanh=[-1, -1, -1, 1, 1, 1],
        hard_sigmoid=[0, 0, 0, 1, 1, 1],
        relu=[0, 0, 0, 1000, big, np.inf],
    )
    for op, values in expected.items():
        out, cache = getattr(ops, f"{op}_forward")(x)
        assert out.tolist() == values
        (dx,) = getattr(ops, f"{op}_backward")(np.ones_like(x), cache)
        assert dx.tolist() == ([0, 0, 0, 1, 1, 1] if op == "relu" else [0] * 6)


@over_backends
def test_small_sigmoids_keep_their_digits(ops):
    x = np.array([-700.0, -100.0, -40.0])
    out, cache = ops.sigmoid_forward(x)
    np.testing.assert_array_max_ulp(out, np.exp(x), 2)  # 1 + exp(x) is 1
    (dx,) = ops.sigmoid_backward(np.ones(3), cache)
    np.testing.assert_array_max_ulp(dx, np.exp(x), 2)


@over_backends
@pytest.mark.parametrize("op", NAMES)
def test_nan_stays_where_it_is(ops, op):
    x = np.array([-5.0, np.nan, -1.0, 1.0, np.nan, 5.0])
    out, _ = getattr(ops, f"{op}_forward")(x)
    assert np.isnan(out).tolist() == np.isnan(x).tolist()


@over_backends
@pytest.mark.parametrize("op", ["relu", "hard_sigmoid"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_slope_of_zero_selects(ops, op, bad):
    _, cache = getattr(ops, f"{op}_forward")(np.array([-4.0, 1.0]))
    (dx,) = getattr(ops, f"{op}_backward")(np.array([bad, bad]), cache)
    assert dx[0] == 0
    assert not np.isfinite(dx[1])


@over_backends
def test_branches(ops):
    x = np.array([-4.0, -3.0, -1.0, 0.0, 1.0, 3.0, 4.0, np.nan])
    sides = ops.relu_branches(ops.relu_forward(x)[1])
    assert sides.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    sides = ops.hard_sigmoid_branches(ops.hard_sigmoid_forward(x)[1])
    assert sides.tolist() == [0, 0, 1, 1, 1, 2, 2, 1]


@over_backends
def test_dout_keeps_its_sign(ops):
    _, cache = ops.relu_forward(np.array([1.0, 1.0, -1.0, -1.0]))
    (dx,) = ops.relu_backward(np.array([2.0, -2.0, 2.0, -2.0]), cache)
    assert dx.tolist() == [2, -2, 0, 0]


@over_backends
@pytest.mark.parametrize("op", NAMES)
def test_messages(ops, op):
    with pytest.raises(ValueError, match=rf"^{op}: x has shape \(2, 0\), .* every axis at least 1"):
        getattr(ops, f"{op}_forward")(np.ones((2, 0)))
    with pytest.raises(TypeError, match=f"^{op}: x has dtype int64, expected float32 or float64"):
        getattr(ops, f"{op}_forward")(np.ones(3, int))
    _, cache = getattr(ops, f"{op}_forward")(np.ones(3))
    with pytest.raises(
        ValueError, match=rf"^{op}: dout has shape \(1, 3\), expected \(3,\) as out"
    ):
        getattr(ops, f"{op}_backward")(np.ones((1, 3)), cache)

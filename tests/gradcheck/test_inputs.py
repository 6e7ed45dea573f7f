"""The inputs and outputs that a check accepts, and the messages for all others."""

import numpy as np
import pytest

from minise.gradcheck import assert_gradients, check

X = np.random.default_rng(0).standard_normal((4, 5))


def forward(x, weight):
    return x * weight, (x, weight)


def backward(dout, cache):
    x, weight = cache
    return dout * weight, dout * x


def square(x):
    return x * x, x


def square_backward(dout, x):
    return (2 * dout * x,)


def test_a_dict_is_by_the_names_of_forwards_parameters():
    report = assert_gradients(forward, backward, {"weight": 2 * X, "x": X})
    assert [argument.name for argument in report.arguments] == ["x", "weight"]
    with pytest.raises(ValueError, match="inputs has the names w, x, expected forward's param"):
        check(forward, backward, {"w": X, "x": X})
    with pytest.raises(TypeError, match="inputs is empty, expected a list of arrays"):
        check(forward, backward, {})


def test_a_seed_or_a_generator():
    for rng in (None, 3, np.int64(3), np.random.default_rng(3)):
        assert check(square, square_backward, [X], rng).ok
    for rng, kind in ((np.random.RandomState(0), "RandomState"), (True, "bool"), ("0", "str")):
        message = f"^check: rng is a {kind}, expected a numpy.random.Generator, an integer seed or"
        with pytest.raises(TypeError, match=message):
            check(square, square_backward, [X], rng)
    with pytest.raises(ValueError, match="^check: rng is -1, expected at least 0"):
        check(square, square_backward, [X], -1)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (
            X.astype(object),
            "has dtype object, expected float64: objects have no derivative; pass x.",
        ),
        (
            X.astype(np.float32),
            "has dtype float32, expected float64: finite differences need this",
        ),
        (X.astype(complex), r"has dtype complex128, expected float64: .*; pass x.real"),
        (X.astype(str), "has dtype <U.*, expected float64"),
        ([1.0, 2.0], "is a list, expected an array: pass np.asarray"),
        (2.0, "is a float, expected an array: pass np.asarray"),
        ({"x": X}, "is a dict, expected an array"),
    ],
)
def test_inputs_that_are_no_arrays_of_float64(value, message):
    with pytest.raises(TypeError, match=f"^check: x {message}"):
        check(square, square_backward, [value])


def test_an_integer_input_gets_none():
    report = check(forward, backward, [np.arange(5), X])
    assert not report.ok
    assert report.arguments[0].problem == (
        "gradient is an array, expected None: the input is int64; to check a gradient pass "
        "x.astype(np.float64)"
    )
    message = (
        r"^check: no input is float64 \(x is int64\), expected at least one: pass x.astype\(np"
    )
    with pytest.raises(TypeError, match=message):
        check(square, square_backward, [np.arange(3)])
    with pytest.raises(TypeError, match=r"^check: no input is float64 \(all are None\)"):
        check(square, square_backward, [None])

    def picked(x, rows):
        return x[rows], (x.shape, rows)

    def picked_backward(dout, cache):
        shape, rows = cache
        dx = np.zeros(shape)
        np.add.at(dx, rows, dout)
        return dx, None

    assert check(picked, picked_backward, [X, np.array([0, 2, 0])]).ok


def test_forward_and_backward_must_be_functions():
    for pair, name in (((X, square_backward), "forward"), ((square, X), "backward")):
        with pytest.raises(TypeError, match=f"^check: {name} is a ndarray, expected a function"):
            check(*pair, [X])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_an_out_that_is_not_finite(bad):
    report = check(lambda x: (np.where(x == X[0, 0], bad, x), x), lambda d, x: (d,), [X])
    assert not report.ok
    message = "forward's out has NaN or infinity in 1 of 20 numbers, expected finite numbers"
    assert report.problem.startswith(message)


@pytest.mark.parametrize(
    ("out", "kind"), [({"a": X}, "dict"), (None, "NoneType"), ("out", "str"), ({1}, "set")]
)
def test_an_out_of_another_type(out, kind):
    message = f"^check: forward's out is a {kind}, expected an array or a tuple of arrays: return"
    with pytest.raises(TypeError, match=message):
        check(lambda x: (out, x), lambda d, x: (d,), [X])


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.arange(3), "int64, expected float64 like its inputs: integers have no derivative"),
        (X.astype(object), "object, expected float64 like its inputs: return an array of numbers"),
        (X + 1j, "complex128, expected float64 like its inputs: only real numbers have a gr"),
    ],
)
def test_an_out_of_another_dtype(out, message):
    with pytest.raises(TypeError, match=f"^check: forward's out has dtype {message}"):
        check(lambda x: (out, x), lambda d, x: (d,), [X])


def test_a_gradient_of_another_dtype():
    report = check(square, lambda d, x: ((2 * d * x).astype(object),), [X])
    assert report.arguments[0].problem == "gradient has dtype object, expected real numbers"


def test_linear_by_number():
    assert check(forward, backward, [X, X + 1], linear=[0, 1]).ok
    with pytest.raises(ValueError, match="^check: linear names 2, expected any of x, weight"):
        check(forward, backward, [X, X], linear=[2])

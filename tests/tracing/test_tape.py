"""A tape repeats what NumPy computed: views, writes in place, indices, guards, unknown calls."""

import numpy as np
import pytest

from minise.tracing.namespaces import Namespaces
from minise.tracing.tape import UNKNOWN, Tape
from minise.tracing.taped import TapedArray, input_array, raw

X = np.random.default_rng(0).standard_normal((2, 3, 4))


def on_tape(function, *values):
    """Return a function's result on taped arrays, its tape and the function's NumPy."""
    tape = Tape()
    arrays = [input_array(tape, f"x{k}", value) for k, value in enumerate(values)]
    return function(Namespaces(tape)._numpy, *arrays), tape


def write_through_views(np, x):
    total = np.zeros(x.shape).swapaxes(0, 1)
    total[1:, :, ::2][...] += x.swapaxes(0, 1)[1:, :, ::2]
    total.reshape(total.shape)[0] = 2 * x[:, 0]
    total += 1
    return total


CALLS = {
    "views": write_through_views,
    "a chain of writes": lambda np, x: _chain(np, x),
    "sums": lambda np, x: x.sum(axis=(0, 2), keepdims=True) + x.mean() + x.max(axis=1).min(),
    "index arrays": lambda np, x: x[:, np.arange(2), np.asarray([3, 0])] + x[1, :2, [0]].sum(),
    "axes": lambda np, x: np.stack([x.T, x.transpose(2, 1, 0)]).reshape(-1, 3)[:, None].squeeze(),
    "branches": lambda np, x: np.where((x > 0) & ~(x > 1), x, np.zeros_like(x) - x.real),
    "joined": lambda np, x: np.pad(np.concatenate([x, x[:1]]), [(0, 0), (1, 0), (0, 2)]),
    "parts": lambda np, x: np.split(x, [1, 2], axis=1)[1] * np.clip(x, -0.5, 0.5),
    "products": lambda np, x: (
        np.einsum("abc,dbc->ad", x, x) @ x[:, :, 0] + (x[:, 0] @ x[0, 0])[:, None]
    ),
    "extremes": lambda np, x: np.take_along_axis(x, x.argmax(axis=2, keepdims=True), 2) ** 3,
    "moments": lambda np, x: np.sqrt(x.var(axis=1) + 1) / x.std(axis=0)[0, 0],
    "rounded": lambda np, x: (3 * x).astype(int) + x.repeat(2, axis=2)[:, :, ::2] + x.ravel()[5],
    "elements": lambda np, x: sum(np.abs(part) for part in x) - x[0],
}


def _chain(np, x):
    left, out = x[0].copy(), np.zeros((3, 4))
    view = out[1:]
    view[:, 2] = left[1:, 0]
    before = view + 0
    out[...] *= 3
    view[0] -= left[0]
    return before * view.sum() + out[1:] / 2


@pytest.mark.parametrize("name", CALLS)
def test_a_tape_repeats_a_function(name):
    """On the recorded input, and on another one, the value of the same function of NumPy."""
    result, tape = on_tape(CALLS[name], X)
    assert isinstance(result, TapedArray)
    assert all(node.op != UNKNOWN for node in tape.nodes)
    short, new = tape.pruned({result.node})
    for x in (X, 2 * X[::-1] + 0.25):
        expected = CALLS[name](np, x.copy())
        values = short.evaluate({"x0": x})
        np.testing.assert_allclose(values[new[result.node]], expected, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(raw(result), CALLS[name](np, X.copy()), rtol=1e-13, atol=1e-13)


def test_the_input_is_not_written():
    before = X.copy()
    on_tape(lambda np, x: _chain(np, x), X)
    np.testing.assert_array_equal(X, before)


def test_operations_on_constants_are_constants():
    result, tape = on_tape(lambda np, x: x * np.arange(8).reshape(2, 4).sum(axis=0), X)
    short, _ = tape.pruned({result.node})
    assert [node.op for node in short.nodes] == ["input", "constant", "multiply"]


def test_a_value_that_python_reads_is_a_guard():
    """With another truth value nothing after the branch is computed; with the same, all is."""
    result, tape = on_tape(lambda np, x: x + 1 if x[0, 0, 0] > 0 else x - 1, abs(X))
    assert tape.evaluate({"x0": abs(X) + 1})[result.node] is not None
    assert tape.evaluate({"x0": -abs(X)})[result.node] is None


@pytest.mark.parametrize(
    "call",
    [
        lambda np, x: np.linalg.norm(x, axis=0),
        lambda np, x: x[x > 0],
        lambda np, x: np.nan_to_num(x),
        lambda np, x: x.view(),
        lambda np, x: 1.0 * x.cumsum(axis=0),
    ],
    ids=["a function", "a mask", "another function", "a view", "a method"],
)
def test_what_is_not_known_has_no_value(call):
    result, tape = on_tape(call, X)
    node = result.node
    assert tape.evaluate({"x0": X})[node] is None


def test_labels_have_the_size_of_the_axis_that_they_index():
    labels = np.array([2, 0])
    result, tape = on_tape(lambda np, x, at: x[np.arange(2), at], X, labels)
    assert tape.limits[tape.inputs["x1"]] == 3
    other = tape.evaluate({"x0": X, "x1": np.array([1, 1])})[result.node]
    np.testing.assert_array_equal(other, X[[0, 1], [1, 1]])

"""A task says in one line a result what is missing, wrong or right."""

import sys

import numpy as np
import pytest

from minise.lessons import Task, by_gradients, by_values, judged, slopes
from tests.tutorials.solutions import compiled

X, Y = np.random.default_rng(0).standard_normal((2, 3, 4))
SOLUTION = """
    def product_backward(dout, cache):
        x, y = cache
        return dout * y, dout * x
"""


def product(x, y):
    return x * y, (x, y)


GRADIENTS = Task(
    by_gradients(product, [X, Y], names=["x", "y"]), hints=["first"], solution=SOLUTION
)


def total(x):
    return x.sum(axis=0), x.mean()


VALUES = Task(
    by_values(total, [(X[:1],), (X,)], names=["sums", "mean"]),
    hints=["first", "second"],
    solution="def total(x):\n    return x.sum(axis=0), x.mean()",
)


def attempt(body):
    """Return a backward of the product, compiled as in a notebook's cell."""
    return compiled(f"def product_backward(dout, cache):\n    x, y = cache\n    {body}\n")


def test_a_right_function_is_solved():
    answer = GRADIENTS.check(compiled(SOLUTION))
    assert str(answer) == "product_backward: solved, dx and dy are right"
    assert "<details" not in answer._repr_html_()
    assert VALUES.check(total).solved


@pytest.mark.parametrize(
    "body", ["...", "pass", "return ...", '"""Return dx and dy."""', '"""Return dx."""\n    ...']
)
def test_an_empty_body_is_to_fill_in(body):
    answer = GRADIENTS.check(compiled(f"def product_backward(dout, cache):\n    {body}\n"))
    assert answer.blank
    assert str(answer).splitlines() == [
        "product_backward: its body is to fill in",
        "  hint 1 of 2: first",
    ]


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("return dout * y, dout", "product_backward: dy is wrong, dx is right\n  dy: "),
        ("return dout * y, -dout * x", "dy: the gradient has the wrong sign"),
        ("return dout * y, dout.T", "dy: gradient has shape (4, 3), expected (3, 4)"),
        ("return dout * y, None", "dy: gradient is None, expected an array of shape (3, 4)"),
        ("return dout * y", "product_backward: backward returns 1 gradient for 2 inputs"),
        ("dout * y, dout * x", "backward returned None, expected a gradient for each input"),
        ("return dout * y, dout * cache.x", "it fails: AttributeError: 'tuple' object has no"),
    ],
)
def test_a_wrong_gradient_has_a_reason(body, says):
    answer = GRADIENTS.check(attempt(body))
    assert not answer.solved
    assert not answer.blank
    assert says in str(answer)
    assert str(answer).endswith("  hint 1 of 2: first")


@pytest.mark.parametrize(
    ("function", "says"),
    [
        (
            lambda x: (x.sum(axis=0), x.sum()),
            "mean is wrong, sums is right\n  mean: is 0.738948, expected 0.184737\n",
        ),
        (lambda x: (-x.sum(axis=0), x.mean()), "every entry is -1 times what is expected"),
        (lambda x: (x.sum(axis=1), x.mean()), "sums: has shape (1,), expected (4,)"),
        (lambda x: x.sum(axis=0), "it returns 1 value, expected 2 (sums, mean)"),
        (lambda _: None, "it returns nothing: is a return missing?"),
        (lambda _: ("a", "b"), "it returns something else than numbers, expected arrays"),
        (lambda x: (x.sum(axis=0), np.nan), "mean: is nan, expected"),
        (lambda x: x.nothing, "it fails: AttributeError"),
        (lambda x: sys.exit(2), "it fails: SystemExit: 2"),
    ],
)
def test_a_wrong_value_has_a_reason(function, says):
    answer = VALUES.check(function)
    assert not answer.solved
    assert says in str(answer), str(answer)


def test_a_function_cannot_change_the_cases():
    def destroy(x):
        x[...] = 0
        return x.sum(axis=0), x.mean()

    VALUES.check(destroy)
    assert VALUES.check(total).solved


def test_hints_unfold_in_order_and_end_with_the_solution():
    html = GRADIENTS.worksheet(compiled("def product_backward(dout, cache):\n    ...\n"))
    assert html.index("def product_backward") < html.index("first") < html.index("dout * y")
    assert html.count("<details") == 2


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (dict(hints=["a"], solution="x = 1"), "Task: solution is not one function"),
        (dict(hints=[], solution=SOLUTION), "Task: hints is empty, expected one or more"),
    ],
)
def test_a_task_without_hints_or_solution_is_refused(settings, says):
    with pytest.raises(ValueError, match=says):
        Task(GRADIENTS.judge, **settings)


@pytest.mark.parametrize(
    ("mode", "body", "shown"),
    [
        ("run", "...", "marimo edit tutorials</code>, then <code>lesson.py<"),
        ("script", "...", "marimo edit tutorials</code>, then <code>lesson.py<"),
        ("edit", "...", "its body is to fill in"),
        (None, "...", "its body is to fill in"),
        ("run", "return cache", "dx and dy are wrong"),
    ],
)
def test_a_worksheet_is_shown_where_nobody_can_write(mode, body, shown, monkeypatch, capsys):
    pytest.importorskip("marimo", reason="needs marimo: pip install -e '.[tutorials]'")
    monkeypatch.setattr("marimo.app_meta", lambda: type("Meta", (), {"mode": mode}))
    cell = judged(GRADIENTS, compiled(f"def product_backward(dout, cache):\n    {body}\n"))
    assert shown in cell._repr_html_()
    assert ("its body is to fill in" in capsys.readouterr().out) == (mode == "script")


def test_slopes_of_a_square_are_exact():
    """A central difference of x² has no error but rounding."""
    dout, u = np.random.default_rng(1).standard_normal((2, 3, 4))
    by_backward, by_forward = slopes(lambda x: (x * x, x), lambda d, x: 2 * x * d, X, dout, u)
    assert by_backward == pytest.approx((2 * X * dout * u).sum(), rel=1e-14)
    assert by_forward == pytest.approx(by_backward, rel=1e-9)

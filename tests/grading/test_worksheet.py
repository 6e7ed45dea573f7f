"""A worksheet shows the function with its blanks, and the hints of each blank in order."""

import re
from xml.etree import ElementTree

import pytest

from minise.contract.case import Case
from minise.grading.exercise import Exercise
from minise.grading.worksheet import source_of
from tests.tutorials.solutions import SOLUTIONS, compiled

BLANK = compiled("""
    def linear_backward(dout, cache):
        x, weight, bias = cache
        dbias = ...
        dweight = ...
        dx = dout @ weight
        return dx, dweight, dbias
""")
HINTS = {
    "dbias": ("All rows & images.", "dbias = dout.sum(axis=0)"),
    "dweight": ("dweight = dout.T @ x",),
    "dx": ("not blank",),
}


def identity(function):
    return function


@identity
@identity
def decorated(dout):
    return dout


def test_a_source_begins_with_its_definition():
    """In a lesson the line above is `@app.function`, which is no part of the exercise."""
    assert source_of(decorated) == "def decorated(dout):\n    return dout"
    assert source_of(len) == ""


def new_exercise():
    return Exercise([Case("linear", dict(N=2, I=3, O=2))], HINTS)


def test_blanks_are_marked_and_hints_end_with_the_line():
    html = new_exercise().worksheet(BLANK)
    page = ElementTree.fromstring(html)
    assert [mark.text for mark in page.iter("mark")] == ["...", "..."]
    assert "dx = dout @ weight" in "".join(page.find("pre").itertext())
    assert re.findall(r"<b>(line \d)</b>, <code>(\w+)", html) == [
        ("line 3", "dbias"),
        ("line 4", "dweight"),
    ]
    assert [code.text for code in page.findall(".//details/div/pre/code")] == [
        "dbias = dout.sum(axis=0)",
        "dweight = dout.T @ x",
    ]
    assert "not blank" not in html
    assert "All rows &amp; images." in html


def test_the_last_judged_function_is_the_default():
    exercise = new_exercise()
    with pytest.raises(ValueError, match=r"Exercise.worksheet: no backward was judged yet"):
        exercise.worksheet()
    exercise.check(BLANK)
    assert exercise.worksheet() == exercise.worksheet(BLANK)


@pytest.mark.parametrize("op", ["conv2d", "max_pool2d"])
def test_blanks_of_parts_and_of_pairs_are_seen(op):
    text = SOLUTIONS[op]
    for line in ("dweight[:, :, i, j] = ", "i, j = ", "dx[n, c, i, j] += "):
        text = re.sub(f"({re.escape(line)}).*", r"\1...", text)
    sizes = dict(N=1, C=1, H=2, W=3, K=1, KH=1, KW=2)
    settings = dict(kernel=(1, 2)) if op == "max_pool2d" else {}
    hints = dict.fromkeys(("dweight", "i", "dx"), ("a hint",))
    html = Exercise([Case(op, sizes, settings)], hints).worksheet(compiled(text))
    names = re.findall(r"<b>line \d+</b>, <code>(\w+)", html)
    assert names == (["dweight"] if op == "conv2d" else ["i", "dx"])

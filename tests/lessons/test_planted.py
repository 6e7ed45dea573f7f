"""The answer to a learner's check says what is missing, and which pair it judges wrongly."""

import linecache

import numpy as np
import pytest

from minise.lessons import Pair, Planted

X = np.random.default_rng(0).standard_normal(12)
LINES = {
    "dout": "rng.standard_normal(out.shape)",
    "u": "rng.standard_normal(x.shape)",
    "by_backward": "(backward(dout, cache) * u).sum()",
    "by_forward": "(dout * (forward(x + h * u)[0] - forward(x - h * u)[0])).sum() / (2 * h)",
    "error": "abs(by_backward - by_forward) / (abs(by_backward) + abs(by_forward))",
}


def square(x):
    return x * x, x


def square_backward(dout, x):
    return 2 * x * dout


def half_backward(dout, x):
    return x * dout


RIGHT = Pair("right", square, square_backward, X, right=True)
HALF = Pair("half", square, half_backward, X, right=False)
PAIRS = [
    RIGHT,
    HALF,
    HALF.times(1e-6, "relative?"),
    RIGHT.times(1e6, "relative?"),
    RIGHT._replace(name="near 0", x=X / 100, shows="central?"),
]


def answer_to(pairs=PAIRS, last="return error", **lines):
    """Return the answer to a check with some lines changed, compiled as in a notebook's cell."""
    body = [f"    {name} = {line}" for name, line in {**LINES, **lines}.items()]
    head = ["def check(forward, backward, x, rng):", "    h = 1e-5", "    out, cache = forward(x)"]
    text = "\n".join([*head, *body, f"    {last}", ""])
    name = f"<cell {hash(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    space = {"np": np}
    exec(compile(text, name, "exec"), space)
    return Planted(space["check"], pairs, hints=["first", "second"])


def bad(answer):
    return {row.name for row in answer.rows if not row.good}


def test_a_correct_check_is_solved():
    answer = answer_to()
    assert answer.solved
    assert "<- wrong" not in str(answer)
    assert "hint" not in str(answer)


@pytest.mark.parametrize("name", LINES)
def test_the_first_blank_is_named(name):
    says = f"slope_check: {name} is the next to fill in"
    assert answer_to(**{name: "..."}).headline() == says
    assert answer_to(**{name: "...", "error": "..."}).headline() == says


def test_a_blank_is_seen_where_there_is_no_source():
    space = {}
    exec("def check(*_): return ...", space)
    assert "a line is not filled in yet" in str(Planted(space["check"], PAIRS))


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (
            {"by_backward": "backward(dout, cache) * u"},
            "it returns an array, expected one number: is a .sum() missing?",
        ),
        ({"last": "pass"}, "it returns nothing: is a return missing?"),
        ({"error": "'far'"}, "it returns 'far', expected one number"),
        ({"u": "rng.standard_normal(5)"}, "it fails: ValueError: operands could not be broadcast"),
    ],
)
def test_what_is_missing_is_said(lines, says):
    answer = answer_to(**lines)
    assert answer.headline().startswith(f"slope_check: {says}")
    assert not answer.solved
    assert not answer.rows
    assert str(answer).endswith("hint 1 of 2: first")


def test_an_absolute_error_is_refused():
    answer = answer_to(error="abs(by_backward - by_forward)")
    assert bad(answer) == {"half, times 1e-6", "right, times 1e6"}
    assert answer.notes == ["half, times 1e-6: relative?", "right, times 1e6: relative?"]


def test_a_one_sided_difference_is_refused():
    answer = answer_to(by_forward="(dout * (forward(x + h * u)[0] - out)).sum() / h")
    assert bad(answer) == {"near 0"}
    assert answer.notes == ["near 0: central?"]


def test_rows_are_marked_in_text_and_in_markdown():
    answer = answer_to(by_forward=LINES["by_forward"].replace("(2 * h)", "(4 * h)"))
    assert "  right: accepted 0 of 5 times  <- wrong\n" in str(answer)
    assert "  half: accepted 5 of 5 times  <- wrong\n" in str(answer)
    assert "| **accepted 0 of 5 times** |" in answer.markdown()
    assert not answer.notes  # no hints while a pair without one is judged wrongly


def test_slopes_that_are_zero_are_named():
    """The gradient of out = x - mean(x) for a dout of ones is zero."""

    def centre(x):
        return x - x.mean(), None

    pair = Pair("centred", centre, lambda dout, _: dout - dout.mean(), X, right=True)
    assert answer_to([pair]).solved
    says = "centred: both slopes are (nearly) zero here: lesson 5, Why dout must be random"
    assert answer_to([pair], dout="np.ones(out.shape)").notes == [says]
    assert answer_to([pair], by_backward="0.0").notes == []


def test_a_division_by_zero_is_no_agreement():
    assert bad(answer_to([HALF], error="np.float64(0) / np.float64(0)")) == set()
    assert bad(answer_to([RIGHT], error="np.float64(0) / np.float64(0)")) == {"right"}

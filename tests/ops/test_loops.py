"""tests.ops.loops: every row runs, and every failing row is listed."""

import inspect

import pytest

from tests.ops.cases import CASES, OPS
from tests.ops.loops import each, over_cases


def test_every_row_runs_and_failing_rows_are_listed():
    ran = []

    @each("a, b", [(1, "x"), (2, "y"), (3, "z")])
    @each("kind", [int, str])
    def check(a, b, kind, other):
        ran.append((a, b, kind, other))
        assert a != 2
        with pytest.raises(ValueError, match="never"):
            kind("3" if (a, kind) == (1, str) else "no")

    assert [*inspect.signature(check).parameters] == ["other"]
    with pytest.raises(AssertionError) as caught:
        check(other=0)
    assert ran == [(a, b, k, 0) for a, b in ((1, "x"), (2, "y"), (3, "z")) for k in (int, str)]
    lines = str(caught.value).splitlines()
    assert lines[0] == "3 of 3 fail:"
    starts = ["1, x: AssertionError: 2 of 2", "    int: ", "    str: Failed: DID NOT RAISE", "2, y"]
    assert all(line.startswith(start) for line, start in zip(lines[1:], starts, strict=False))
    assert caught.value.__cause__ is not None


def test_a_test_of_cases_has_an_id_per_op():
    ran = []

    @over_cases
    def check(case, ops):
        ran.append((case, ops))
        assert case.settings.get("groups") != 3

    (mark,) = check.pytestmark
    assert mark.args == ("op", OPS)
    assert [*inspect.signature(check).parameters] == ["ops", "op"]
    with pytest.raises(AssertionError, match=r"^2 of 4 fail:\nchannel_shuffle, three of two: Ass"):
        check(op="channel_shuffle", ops=0)
    assert ran == [(case, 0) for case in CASES["channel_shuffle"].values()]


def test_rows_with_the_same_label_are_refused():
    with pytest.raises(AssertionError):
        each("a", [1, 1])

"""Test a learner's gradient check on correct and on wrong backward passes."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minise.lessons.text import table

BOUND = 1e-5  # on the relative error of a central difference in float64: more is a mistake
RUNS = 5  # of a check, each with different random numbers
STEP = 1e-5  # step size of the central difference that tests if a loss is flat
REL_TOL_FLAT = 1e-4  # change of a flat loss, relative to |dout| |change of out|


class Pair(NamedTuple):
    """A forward and a backward, correct or wrong, with an input x."""

    name: str
    forward: Callable[[Any], Any]  # x -> out, cache
    backward: Callable[[Any, Any], Any]  # dout, cache -> dx
    x: Any
    right: bool
    shows: str = ""  # hint for a check whose only wrong verdicts are on pairs with a hint

    def times(self, factor: float, shows: str) -> "Pair":
        """Return the pair with out multiplied by a factor."""

        def forward(x: Any) -> Any:
            out, cache = self.forward(x)
            return out * factor, cache

        def backward(dout: Any, cache: Any) -> Any:
            return self.backward(dout * factor, cache)

        name = f"{self.name}, times {factor:.0e}".replace("e+0", "e").replace("e-0", "e-")
        return Pair(name, forward, backward, self.x, self.right, shows)


class Row(NamedTuple):
    """The verdict of a check on one pair."""

    name: str
    error: float  # largest relative error over all runs
    verdict: str
    good: bool  # whether the verdict is right
    note: str  # likely mistake in the check


class Planted:
    """The verdicts of a check on all pairs.

    Parameters
    ----------
    check : callable
        check(forward, backward, x, rng) returns the relative error of backward.
    pairs : sequence of Pair
        Correct and wrong backward passes.
    hints : sequence of str
        Hints in Markdown, in order; the last hint is the solution.

    Attributes
    ----------
    solved : bool
        True if the check accepts the correct and rejects the wrong backward passes in every run.
    """

    def __init__(
        self, check: Callable[..., Any], pairs: Sequence[Pair], hints: Sequence[str] = ()
    ) -> None:
        self.hints = tuple(hints)
        self.rows: list[Row] = []
        self.problem = ""
        try:
            _refuse_blanks(check)
            self.rows = [_test(check, pair) for pair in pairs]
        except _Unfinished as error:
            self.problem = str(error)
        self.solved = not self.problem and all(row.good for row in self.rows)
        plain = [row.good for row, pair in zip(self.rows, pairs, strict=False) if not pair.shows]
        self.notes = [
            f"{row.name}: {row.note or pair.shows}"
            for row, pair in zip(self.rows, pairs, strict=False)
            if not row.good and (row.note or (pair.shows and all(plain)))
        ]

    def headline(self) -> str:
        """Return the answer in one sentence."""
        if self.problem:
            return f"slope_check: {self.problem}"
        if self.solved:
            return "slope_check: solved. It accepts correct backward passes and rejects wrong ones"
        return (
            "slope_check: not solved yet, see the marked rows: it must accept correct backward "
            "passes and reject wrong ones"
        )

    def __str__(self) -> str:
        """Return the answer as lines of text, with the first hint."""
        lines = [
            f"  {row.name}: {row.verdict}{'' if row.good else '  <- wrong'}" for row in self.rows
        ]
        lines += [f"  {note}" for note in self.notes]
        if self.hints and not self.solved:
            lines.append(f"  hint 1 of {len(self.hints)}: {self.hints[0]}")
        return "\n".join([self.headline(), *lines])

    def markdown(self) -> str:
        """Return the answer with a table, in which wrong verdicts are bold."""
        cells = [
            (row.name, f"{row.error:.0e}", row.verdict if row.good else f"**{row.verdict}**")
            for row in self.rows
        ]
        parts = [f"**{self.headline()}**"]
        if cells:
            parts.append(table(["backward", "relative error", "verdict"], cells))
        return "\n\n".join([*parts, *self.notes])


class _Unfinished(Exception):
    """The reason why a check cannot be tested yet."""


def _refuse_blanks(check: Callable[..., Any]) -> None:
    """Raise an error for the first line that is still `...`, if the source is available."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(check)))
    except (OSError, TypeError, SyntaxError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and ast.unparse(node.value) == "...":
            raise _Unfinished(f"{ast.unparse(node.targets[0])} is the next to fill in")


def _test(check: Callable[..., Any], pair: Pair) -> Row:
    """Return the verdict of a check on a pair, over RUNS runs."""
    douts: list[Any] = []

    def backward(dout: Any, cache: Any) -> Any:
        douts.append(dout)
        return pair.backward(dout, cache)

    errors = []
    for seed in range(RUNS):
        try:
            with np.errstate(divide="ignore", invalid="ignore"):  # NaN is rejected
                result = check(pair.forward, backward, pair.x.copy(), np.random.default_rng(seed))
        except (Exception, SystemExit) as error:
            raise _Unfinished(f"it fails: {type(error).__name__}: {error}") from error
        errors.append(_as_number(result))
    accepted = sum(error < BOUND for error in errors)
    good = accepted == (RUNS if pair.right else 0)
    flat = not good and bool(douts) and all(_is_flat(pair, dout) for dout in douts)
    note = "both slopes are (nearly) zero here: lesson 5, Why dout must be random" if flat else ""
    return Row(pair.name, max(errors), f"accepted {accepted} of {RUNS} times", good, note)


def _as_number(result: Any) -> float:
    """Return the result of a check as a number, or raise an error that says what is missing."""
    if result is None:
        raise _Unfinished("it returns nothing: is a return missing?")
    if result is ...:
        raise _Unfinished("a line is not filled in yet")
    if np.ndim(result) > 0:
        raise _Unfinished("it returns an array, expected one number: is a .sum() missing?")
    try:
        return float(result)
    except (TypeError, ValueError):
        raise _Unfinished(f"it returns {result!r}, expected one number") from None


def _is_flat(pair: Pair, dout: Any) -> bool:
    """Return True if the loss ⟨dout, out⟩ is constant to first order, although out changes."""
    (rng,) = np.random.default_rng(0).spawn(1)  # not the stream that x came from
    u = rng.standard_normal(pair.x.shape)
    change = pair.forward(pair.x + STEP * u)[0] - pair.forward(pair.x - STEP * u)[0]
    largest = np.linalg.norm(dout) * np.linalg.norm(change)
    return bool(abs(np.sum(dout * change)) <= REL_TOL_FLAT * largest)

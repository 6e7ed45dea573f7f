"""A reader's own gradient check, tried on backward passes that are right and that are wrong."""

import ast
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minise.lessons.text import table

BOUND = 1e-5  # of a central difference in float64: far above its error, far below a mistake
TIMES = 5  # each time with other random numbers
STEP = 1e-5  # along which a loss is seen to be flat
FLAT = 1e-4  # of the largest move that dout and the outputs' moves allow


class Pair(NamedTuple):
    """A forward and a backward of one array x."""

    name: str
    forward: Callable[[Any], Any]  # x -> out, cache
    backward: Callable[[Any, Any], Any]  # dout, cache -> dx
    x: Any
    right: bool
    shows: str = ""  # what to ask a check that fails at this pair, and not at those without

    def times(self, factor: float, shows: str) -> "Pair":
        """Return the pair whose out is so many times as large."""

        def forward(x: Any) -> Any:
            out, cache = self.forward(x)
            return out * factor, cache

        def backward(dout: Any, cache: Any) -> Any:
            return self.backward(dout * factor, cache)

        name = f"{self.name}, times {factor:.0e}".replace("e+0", "e").replace("e-0", "e-")
        return Pair(name, forward, backward, self.x, self.right, shows)


class Row(NamedTuple):
    """What a check said to one pair."""

    name: str
    apart: float  # the most of all times
    said: str
    good: bool
    note: str  # what may be wrong with the check


class Planted:
    """What a check said to each pair.

    Parameters
    ----------
    check : callable
        check(forward, backward, x, rng) returns how far both sides are apart, relatively.
    pairs : sequence of Pair
        Some right, some wrong.
    hints : sequence of str
        In Markdown, one more telling than the other; the last one is the solution.

    Attributes
    ----------
    solved : bool
        Whether the check accepts what is right and refuses what is wrong, every time.
    """

    def __init__(
        self, check: Callable[..., Any], pairs: Sequence[Pair], hints: Sequence[str] = ()
    ) -> None:
        self.hints = tuple(hints)
        self.rows: list[Row] = []
        self.problem = ""
        try:
            _refuse_blanks(check)
            self.rows = [_judged(check, pair) for pair in pairs]
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
            return "slope_check: solved, it accepts what is right and refuses what is wrong"
        return (
            "slope_check: not yet, see the marked rows: right ones must be accepted, wrong ones not"
        )

    def __str__(self) -> str:
        """Return the answer as lines of text, with the first hint."""
        lines = [f"  {row.name}: {row.said}{'' if row.good else '  <- wrong'}" for row in self.rows]
        lines += [f"  {note}" for note in self.notes]
        if self.hints and not self.solved:
            lines.append(f"  hint 1 of {len(self.hints)}: {self.hints[0]}")
        return "\n".join([self.headline(), *lines])

    def markdown(self) -> str:
        """Return the answer with a table, in which what is wrong is bold."""
        cells = [
            (row.name, f"{row.apart:.0e}", row.said if row.good else f"**{row.said}**")
            for row in self.rows
        ]
        parts = [f"**{self.headline()}**"]
        if cells:
            parts.append(table(["backward", "apart by", "verdict"], cells))
        return "\n\n".join([*parts, *self.notes])


class _Unfinished(Exception):
    """A check that cannot be judged yet, and why."""


def _refuse_blanks(check: Callable[..., Any]) -> None:
    """Name the first line that is still `...`, where the source is to be found."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(check)))
    except (OSError, TypeError, SyntaxError):
        return
    for one in ast.walk(tree):
        if isinstance(one, ast.Assign) and ast.unparse(one.value) == "...":
            raise _Unfinished(f"{ast.unparse(one.targets[0])} is still to fill in")


def _judged(check: Callable[..., Any], pair: Pair) -> Row:
    """Return what a check says to a pair, with other random numbers each time."""
    given: list[Any] = []

    def backward(dout: Any, cache: Any) -> Any:
        given.append(dout)
        return pair.backward(dout, cache)

    apart = []
    for seed in range(TIMES):
        try:
            with np.errstate(divide="ignore", invalid="ignore"):  # NaN is no agreement
                told = check(pair.forward, backward, pair.x.copy(), np.random.default_rng(seed))
        except Exception as error:
            raise _Unfinished(f"it fails: {type(error).__name__}: {error}") from error
        apart.append(_number(told))
    accepted = sum(one < BOUND for one in apart)
    good = accepted == (TIMES if pair.right else 0)
    flat = not good and bool(given) and all(_is_flat(pair, dout) for dout in given)
    note = "both slopes are (nearly) zero here: lesson 5, Why ones lie" if flat else ""
    return Row(pair.name, max(apart), f"accepted {accepted} of {TIMES} times", good, note)


def _number(told: Any) -> float:
    """Return what a check returned as a number, or say what is missing."""
    if told is None:
        raise _Unfinished("it returns nothing: is a return missing?")
    if told is ...:
        raise _Unfinished("a line is still to fill in")
    if np.ndim(told) > 0:
        raise _Unfinished("it returns an array, expected one number: is a .sum() missing?")
    try:
        return float(told)
    except (TypeError, ValueError):
        raise _Unfinished(f"it returns {told!r}, expected one number") from None


def _is_flat(pair: Pair, dout: Any) -> bool:
    """Return whether the loss ⟨dout, out⟩ stands still, although out moves."""
    (rng,) = np.random.default_rng(0).spawn(1)  # else u could be x itself
    u = rng.standard_normal(pair.x.shape)
    moves = pair.forward(pair.x + STEP * u)[0] - pair.forward(pair.x - STEP * u)[0]
    most = np.linalg.norm(dout) * np.linalg.norm(moves)
    return bool(abs(np.sum(dout * moves)) <= FLAT * most)

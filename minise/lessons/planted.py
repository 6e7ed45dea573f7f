"""A reader's own gradient check, tried on backward passes that are right and that are wrong."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from minise.lessons.markdown import table

BOUND = 1e-5  # of a central difference in float64: far above its error, far below a mistake
TIMES = 5  # each time with other random numbers


class Pair(NamedTuple):
    """A forward and a backward of one array x."""

    name: str
    forward: Callable[[Any], Any]  # x -> out, cache
    backward: Callable[[Any, Any], Any]  # dout, cache -> dx
    x: Any
    right: bool


class Planted:
    """What a check said to each pair.

    Parameters
    ----------
    check : callable
        check(forward, backward, x, rng) returns how far both sides are apart, relatively.
    pairs : sequence of Pair
        Some right, some wrong.

    Attributes
    ----------
    solved : bool
        Whether the check accepts what is right and refuses what is wrong, every time.
    """

    def __init__(self, check: Callable[..., Any], pairs: Sequence[Pair]) -> None:
        self.rows: list[tuple[str, str, str]] = []
        self.problem = ""
        self.solved = True
        for pair in pairs:
            try:
                apart = [self._apart(check, pair, seed) for seed in range(TIMES)]
            except _Blank:
                self.problem = "a line is still to fill in"
            except Exception as error:
                self.problem = f"it fails: {type(error).__name__}: {error}"
            if self.problem:
                self.rows, self.solved = [], False
                return
            self._judge(pair, apart)

    def _apart(self, check: Callable[..., Any], pair: Pair, seed: int) -> float:
        apart = check(pair.forward, pair.backward, pair.x.copy(), np.random.default_rng(seed))
        if apart is ...:
            raise _Blank
        return float(apart)

    def _judge(self, pair: Pair, apart: list[float]) -> None:
        accepted = sum(one < BOUND for one in apart)  # NaN is no agreement
        good = accepted == (TIMES if pair.right else 0)
        self.solved &= good
        said = f"accepted {accepted} of {TIMES} times"
        self.rows.append((pair.name, f"{max(apart):.0e}", said if good else f"**{said}**"))

    def headline(self) -> str:
        """Return the answer in one sentence."""
        if self.problem:
            return f"slope_check: {self.problem}"
        if self.solved:
            return "slope_check: solved, it accepts what is right and refuses what is wrong"
        return (
            "slope_check: not yet, see the bold rows: right ones must be accepted, wrong ones not"
        )

    def __str__(self) -> str:
        """Return the answer as lines of text."""
        lines = [f"  {name}: {said.strip('*')}" for name, _, said in self.rows]
        return "\n".join([self.headline(), *lines])

    def markdown(self) -> str:
        """Return the answer with a table."""
        head = ["backward", "apart by", "verdict"]
        shown = f"\n\n{table(head, self.rows)}" if self.rows else ""
        return f"**{self.headline()}**{shown}"


class _Blank(Exception):
    """A line of the check is blank."""

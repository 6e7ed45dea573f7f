"""Medians, ratios and quartiles of rounds, and which rounds to trust.

A round is one turn of every contestant. Ratios are made within a round, between neighbours in
time, so that a machine which slows down or speeds up as a whole does not move them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import NamedTuple

import numpy as np

DISTURBED = 0.1  # cores taken by others: from here on a round is not trusted


@dataclass(frozen=True)
class Turn:
    """What one contestant did in one round."""

    seconds: list[float]  # each time it did the work
    before: float | None  # cores that others took just before the turn; None where it is unknown
    during: float | None  # and in it

    @property
    def others(self) -> float | None:
        """The larger of what others took before and during the turn."""
        known = [share for share in (self.before, self.during) if share is not None]
        return max(known, default=None)


Round = Mapping[str, Turn]  # by contestant


class Spread(NamedTuple):
    """A median, and the quartiles below and above it."""

    median: float
    lower: float
    upper: float


class Choice(NamedTuple):
    """Which rounds count, and why."""

    kept: list[int]
    disturbed: list[int]
    others: float | None  # the most that others took in any round
    sentence: str

    @property
    def doubtful(self) -> bool:
        """Whether disturbed rounds had to be kept."""
        return not set(self.disturbed).isdisjoint(self.kept)


def spread(values: Sequence[float]) -> Spread:
    """Return median and quartiles.

    Examples
    --------
    >>> spread([4.0, 1.0, 3.0, 2.0, 5.0])
    Spread(median=3.0, lower=2.0, upper=4.0)
    """
    lower, middle, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return Spread(float(middle), float(lower), float(upper))


def turn_medians(rounds: Sequence[Round], name: str) -> list[float]:
    """Return the median of a contestant's turn, in seconds, for each round."""
    return [median(one[name].seconds) for one in rounds]


def ratios(rounds: Sequence[Round], name: str, base: str) -> list[float]:
    """Return for each round how many times as long as base a contestant takes."""
    pairs = zip(turn_medians(rounds, name), turn_medians(rounds, base), strict=True)
    return [one / other for one, other in pairs]


def choose(rounds: Sequence[Round]) -> Choice:
    """Leave disturbed rounds out, if at least half of the rounds remain."""
    shares = [_others(one) for one in rounds]
    known = [share for share in shares if share is not None]
    everything = list(range(len(rounds)))
    if not known:
        return Choice(everything, [], None, meanwhile(None))
    most = max(known)
    disturbed = [i for i, share in enumerate(shares) if share is not None and share > DISTURBED]
    if not disturbed:
        sentence = f"No round was disturbed: others took at most {most:.2f} of a core."
        return Choice(everything, [], most, sentence)
    clean = [i for i in everything if i not in disturbed]
    enough = 2 * len(clean) >= len(rounds)
    sentence = (
        f"Others disturbed {len(disturbed)} of {len(rounds)} rounds (more than {DISTURBED} of a "
        f"core, at most {most:.2f}); "
    )
    if enough:
        return Choice(clean, disturbed, most, sentence + "the figures leave them out.")
    sentence += "fewer than half would remain, so the figures hold all: do not trust them."
    return Choice(everything, disturbed, most, sentence)


def meanwhile(others: float | None) -> str:
    """Return in one sentence what others took while something was measured without rounds."""
    if others is None:
        return "What other processes took is unknown: no /proc/stat."
    advice = ": measure again on a quiet machine" if others > DISTURBED else ""
    return f"Others took {others:.2f} of a core meanwhile{advice}."


def _others(one: Round) -> float | None:
    known = [turn.others for turn in one.values() if turn.others is not None]
    return max(known, default=None)

"""Rounds of interleaved timing: how they are run, their medians and ratios, and which to trust.

A round is one turn of every subject (an implementation, or a net and batch size). Rounds go forward
and backward alternately, so that no subject always follows the same one. Ratios are formed within a
round, between neighbours in time, so that a machine which slows down or speeds up as a whole does
not change them.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np

DISTURBED = 0.1  # cores taken by other processes: a round with more is not trusted


@dataclass(frozen=True)
class Turn:
    """What one subject did in one round."""

    seconds: list[float]  # of each run
    before: float | None  # cores that others took just before the turn; None where it is unknown
    during: float | None  # and during the turn

    @property
    def others(self) -> float | None:
        """The larger of what others took before and during the turn."""
        known = [share for share in (self.before, self.during) if share is not None]
        return max(known, default=None)


Round = Mapping[str, Turn]  # by subject, in the order of the turns


class Spread(NamedTuple):
    """A median, and the quartiles below and above it."""

    median: float
    lower: float
    upper: float


class Choice(NamedTuple):
    """Which rounds count, and why."""

    used: list[int]
    disturbed: list[int]
    others: float | None  # the most that others took in any round
    sentence: str

    @property
    def doubtful(self) -> bool:
        """Whether disturbed rounds are among those that count."""
        return not set(self.disturbed).isdisjoint(self.used)

    def as_json(self) -> dict[str, Any]:
        """Return the choice as it is written with a result."""
        return {
            "rounds_kept": self.used,
            "rounds_disturbed": self.disturbed,
            "others_at_most_cores": self.others,
            "verdict": self.sentence,
        }


def repeat(
    run: Callable[[], object], seconds: float, least: int = 1, most: int | None = None
) -> list[float]:
    """Run again and again until so many seconds have passed, and return the time of each run."""
    times: list[float] = []
    while len(times) < least or (sum(times) < seconds and (most is None or len(times) < most)):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return times


def interleave(
    names: Sequence[str],
    count: int,
    measure: Callable[[str], Turn],
    progress: Callable[[str], None],
) -> list[Round]:
    """Return rounds in which the subjects take turns, forward and backward alternately."""
    rounds: list[Round] = []
    for k in range(count):
        turns_by_name: dict[str, Turn] = {}
        for name in names if k % 2 == 0 else names[::-1]:
            progress(f"round {k + 1} of {count}: {name}")
            turns_by_name[name] = measure(name)
        rounds.append(turns_by_name)
    return rounds


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
    """Return the median run of a subject in seconds, for each round."""
    return [median(turns_by_name[name].seconds) for turns_by_name in rounds]


def ms_spread(rounds: Sequence[Round], name: str) -> Spread:
    """Return median and quartiles of a subject's median runs, in milliseconds."""
    return spread([1000 * seconds for seconds in turn_medians(rounds, name)])


def ratios(rounds: Sequence[Round], name: str, base: str) -> list[float]:
    """Return the time of a subject as a multiple of that of base, for each round."""
    pairs = zip(turn_medians(rounds, name), turn_medians(rounds, base), strict=True)
    return [seconds / base_seconds for seconds, base_seconds in pairs]


def choose(rounds: Sequence[Round]) -> Choice:
    """Leave disturbed rounds out, if at least half of the rounds remain."""
    shares = [_others(turns_by_name) for turns_by_name in rounds]
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
    sentence = (
        f"Others disturbed {len(disturbed)} of {len(rounds)} rounds (more than {DISTURBED} of a "
        f"core taken, up to {most:.2f}); "
    )
    if 2 * len(clean) >= len(rounds):
        return Choice(clean, disturbed, most, sentence + "the figures leave them out.")
    sentence += "fewer than half would remain, so the figures hold all: do not trust them."
    return Choice(everything, disturbed, most, sentence)


def meanwhile(others: float | None) -> str:
    """Return in one sentence what others took during a measurement without rounds."""
    if others is None:
        return "What other processes took is unknown: no /proc/stat."
    advice = ": measure again on a quiet machine" if others > DISTURBED else ""
    return f"Others took {others:.2f} of a core meanwhile{advice}."


def rounds_json(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Return the rounds as they are written with a result."""
    return [{name: vars(turn) for name, turn in one_round.items()} for one_round in rounds]


def _others(one_round: Round) -> float | None:
    known = [turn.others for turn in one_round.values() if turn.others is not None]
    return max(known, default=None)

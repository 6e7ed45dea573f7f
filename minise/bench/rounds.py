"""Interleaved timing in rounds: running them, medians and ratios, and which rounds are reliable.

In a round, every subject (an implementation, or a net with a batch size) runs once, for one turn.
Every second round runs the subjects in reverse order, so that no subject always follows the same
other one. Ratios are computed within a round, between measurements taken close together, so that a
change in the speed of the whole machine cancels.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, NamedTuple

import numpy as np

MAX_OTHER_CORES = 0.1  # a round in which other processes use more counts as disturbed


@dataclass(frozen=True)
class Turn:
    """The runs of one subject in one round."""

    seconds: list[float]  # time of each run
    before: float | None  # cores used by other processes just before the turn; None if unknown
    during: float | None  # cores used by other processes during the turn; None if unknown

    @property
    def other_cores(self) -> float | None:
        """Cores used by other processes: the larger of before and during; None if unknown."""
        known = [cores for cores in (self.before, self.during) if cores is not None]
        return max(known, default=None)

    @property
    def median_seconds(self) -> float:
        """The median time of a run."""
        return median(self.seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the turn as a result file stores it; a short run has hundreds in a turn."""
        runs = {"median_seconds": self.median_seconds, "runs": len(self.seconds)}
        return {**runs, "before": self.before, "during": self.during}


Round = Mapping[str, Turn]  # by subject, in the order of execution


class Spread(NamedTuple):
    """A median with the lower and the upper quartile."""

    median: float
    lower: float
    upper: float


class RoundSelection(NamedTuple):
    """The rounds that enter the statistics, by index, and the reason."""

    used: list[int]
    disturbed: list[int]
    max_other_cores: float | None  # used by other processes in any round; None if unknown
    verdict: str  # a sentence for the reader of a table

    @property
    def unreliable(self) -> bool:
        """True if disturbed rounds enter the statistics."""
        return not set(self.disturbed).isdisjoint(self.used)

    def as_json(self) -> dict[str, Any]:
        """Return the selection as a result file stores it."""
        return {
            "rounds_kept": self.used,
            "rounds_disturbed": self.disturbed,
            "others_at_most_cores": self.max_other_cores,
            "verdict": self.verdict,
        }


def time_repeatedly(
    run: Callable[[], object], seconds: float, min_runs: int = 1, max_runs: float = math.inf
) -> list[float]:
    """Call run until the calls have taken the given seconds, and return the time of each call."""
    times: list[float] = []
    while len(times) < min_runs or (sum(times) < seconds and len(times) < max_runs):
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
    """Measure every subject once a round, in reverse order every second round.

    Parameters
    ----------
    names : sequence of str
        The subjects.
    count : int
        Number of rounds.
    measure : function
        Runs a subject, by name, for one turn.
    progress : function
        Called with a line of text before every turn.
    """
    rounds: list[Round] = []
    for k in range(count):
        turns_by_name: dict[str, Turn] = {}
        for name in names if k % 2 == 0 else names[::-1]:
            progress(f"round {k + 1} of {count}: {name}")
            turns_by_name[name] = measure(name)
        rounds.append(turns_by_name)
    return rounds


def spread(values: Sequence[float]) -> Spread:
    """Return the median and the quartiles.

    Examples
    --------
    >>> spread([4.0, 1.0, 3.0, 2.0, 5.0])
    Spread(median=3.0, lower=2.0, upper=4.0)
    """
    lower, middle, upper = np.quantile(values, [0.25, 0.5, 0.75])
    return Spread(float(middle), float(lower), float(upper))


def turn_medians(rounds: Sequence[Round], name: str) -> list[float]:
    """Return the median time of a run of a subject in seconds, for each round."""
    return [turns_by_name[name].median_seconds for turns_by_name in rounds]


def ms_spread(rounds: Sequence[Round], name: str) -> Spread:
    """Return the median and quartiles over rounds of a subject's median time, in ms."""
    return spread([1000 * seconds for seconds in turn_medians(rounds, name)])


def ratios(rounds: Sequence[Round], name: str, base: str) -> list[float]:
    """Return the time of a subject divided by the time of base, for each round."""
    pairs = zip(turn_medians(rounds, name), turn_medians(rounds, base), strict=True)
    return [seconds / base_seconds for seconds, base_seconds in pairs]


def select_rounds(rounds: Sequence[Round]) -> RoundSelection:
    """Exclude disturbed rounds if at least half of the rounds remain, else use all rounds."""
    loads = [_max_other_cores(turns_by_name) for turns_by_name in rounds]
    known = [cores for cores in loads if cores is not None]
    every = list(range(len(rounds)))
    if not known:
        return RoundSelection(every, [], None, describe_load(None))
    highest = max(known)
    disturbed = [i for i in every if (cores := loads[i]) is not None and cores > MAX_OTHER_CORES]
    if not disturbed:
        verdict = f"No round was disturbed: other processes used at most {highest:.2f} cores."
        return RoundSelection(every, [], highest, verdict)
    clean = [i for i in every if i not in disturbed]
    load = (
        f"Other processes used more than {MAX_OTHER_CORES} cores in {len(disturbed)} of "
        f"{len(rounds)} rounds (up to {highest:.2f})"
    )
    if 2 * len(clean) >= len(rounds):
        return RoundSelection(clean, disturbed, highest, f"{load}: these rounds are excluded.")
    verdict = f"{load}, too many to exclude: the results are unreliable."
    return RoundSelection(every, disturbed, highest, verdict)


def describe_load(other_cores: float | None) -> str:
    """Return a sentence about the load by other processes during a measurement without rounds."""
    if other_cores is None:
        return "The load by other processes is unknown: /proc/stat is missing."
    advice = ": measure again on a quiet machine" if other_cores > MAX_OTHER_CORES else ""
    return f"Other processes used {other_cores:.2f} cores during the measurement{advice}."


def rounds_json(rounds: Sequence[Round]) -> list[dict[str, Any]]:
    """Return the rounds as a result file stores them: of each turn, the median time of a run."""
    return [
        {name: turn.as_json() for name, turn in turns_by_name.items()} for turns_by_name in rounds
    ]


def _max_other_cores(turns_by_name: Round) -> float | None:
    known = [turn.other_cores for turn in turns_by_name.values() if turn.other_cores is not None]
    return max(known, default=None)

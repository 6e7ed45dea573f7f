"""What a run of a reader's backward showed: its steps, a verdict a line, the line to look at."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minise.grading.answer import (
    BLANK,
    BROKEN,
    FOLLOWS,
    RIGHT,
    UNSEEN,
    WRONG,
    Answer,
    Verdict,
)
from minise.grading.compare import floats
from minise.grading.lines import first_line, followers, looped, place_of
from minise.tracing.instrument import RETURN, Instrumented, Line

WORST = (BROKEN, WRONG, BLANK, FOLLOWS, UNSEEN, RIGHT)  # first


class Ran(NamedTuple):
    """A line that ran, with what it gave."""

    line: Line
    value: Any


@dataclass
class Found:
    """What a run at one case showed.

    Attributes
    ----------
    code : Instrumented
        The reader's function.
    case : str
        Sizes and settings, as text.
    steps : list of Ran
        In the order in which they ran.
    verdicts : dict of Line to str
        RIGHT, WRONG, BLANK, BROKEN or UNSEEN.
    culprit, others, reason, likely : Line, tuple of Line, str, str
        The line to look at, others that may be it as well, what is wrong, and the likely mistake.
    sure : bool
        Whether no other line can be meant.
    notes : dict of Line to str
        What is said of lines that cannot be judged yet.
    of, value : str, object
        What the wrong gradient is for, and the wrong gradient.
    """

    code: Instrumented
    case: str
    steps: list[Ran] = field(default_factory=list)
    verdicts: dict[Line, str] = field(default_factory=dict)
    culprit: Line | None = None
    others: tuple[Line, ...] = ()
    reason: str = ""
    likely: str = ""
    sure: bool = False
    notes: dict[Line, str] = field(default_factory=dict)
    of: str = ""
    value: Any = None

    def given_by(self, line: Line, like: Any) -> Any:
        """Return what a line gave at last; of a loop, all its parts, if they make such an array."""
        values = [step.value for step in self.steps if step.line == line]
        if floats(like) and self._loops(line) and all(map(floats, values)):
            whole = np.concatenate([np.ravel(one) for one in values])
            return whole.reshape(like.shape) if whole.size == like.size else values[-1]
        return values[-1]

    def is_part(self, line: Line, like: Any) -> bool:
        """Tell whether a line in a loop gives another number of entries, as of one image."""
        return self._loops(line) and np.size(self.given_by(line, like)) != np.size(like)

    def _loops(self, line: Line) -> bool:
        return line.number in looped(self.code)

    @property
    def solved(self) -> bool:
        """Whether nothing is left to do or to mend."""
        return self.culprit is None and not self.reason

    @property
    def blank(self) -> bool:
        """Whether the line to look at is still to fill in."""
        return self.culprit is not None and self.verdicts.get(self.culprit) == BLANK

    def answer(self, title: str, hints_of: Callable[[str], tuple[str, ...]]) -> Answer:
        """Return it as a reader sees it; hints_of gives the hints by the name a line assigns."""
        if self.culprit is None:
            rows = tuple(dict.fromkeys(self._shown().values()))
            return Answer(title, self.solved, rows, reason=self.reason)
        if self.verdicts.get(self.culprit) == UNSEEN:
            self.verdicts[self.culprit] = WRONG
        self._mark_what_follows(self.culprit)
        shown = self._shown()
        return Answer(
            title,
            solved=False,
            verdicts=tuple(dict.fromkeys(shown.values())),
            line=shown[self.culprit],
            reason=self.reason,
            case="" if self.blank else f"at the smallest case that shows it: {self.case}",
            likely=self.likely,
            hints=self._hints(self.culprit, hints_of),
            place=place_of(self.code, self.culprit),
            also=tuple(shown[line] for line in self.others if line in shown),
        )

    def _hints(self, culprit: Line, hints_of: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
        """Return the hints of the line to look at, behind those of others that may be it."""
        hints = hints_of(culprit.name)
        names = dict.fromkeys(one.name for one in self.others if one.name != culprit.name)
        more = [f"{name}: {text}" for name in names for text in hints_of(name)[:-1]]
        return (*more, *hints)

    def _mark_what_follows(self, culprit: Line) -> None:
        """Tell lines that are wrong since they read the culprit from those with a mistake too."""
        if self.verdicts[culprit] not in (WRONG, BROKEN):
            return
        for line in followers(self.code, culprit, self.verdicts):
            if self.verdicts[line] == WRONG and line not in self.others:
                self.verdicts[line] = FOLLOWS

    def _shown(self) -> dict[Line, Verdict]:
        """Return what is shown of each line; one that assigns several names is shown once."""
        first = first_line(self.code)
        order = sorted(self.verdicts, key=lambda line: (line.number, line.name == RETURN))
        rows: dict[tuple[int, bool], list[Line]] = {}
        for line in order:
            rows.setdefault((line.number, line.name == RETURN), []).append(line)
        shown: dict[Line, Verdict] = {}
        for same in rows.values():
            worst = min(same, key=lambda line: WORST.index(self.verdicts[line]))
            named = self.culprit if self.culprit in same else worst
            number, note = named.number - first + 1, self.notes.get(named, "")
            row = Verdict(number, named.text, named.name, self.verdicts[worst], note)
            shown |= dict.fromkeys(same, row)
        return shown


def worst(every: Sequence[Found]) -> dict[Line, str]:
    """Return the worst verdict on each line: where a size is 1, a sum may be missing unseen."""
    lines = dict.fromkeys(line for found in every for line in found.verdicts)
    said = {line: [one.verdicts[line] for one in every if line in one.verdicts] for line in lines}
    return {line: min(verdicts, key=WORST.index) for line, verdicts in said.items()}

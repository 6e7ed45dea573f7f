"""What an exercise says to a backward: a verdict on every line, as text and as a table."""

from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from minise.grading.worksheet import hints_html

RIGHT, WRONG, BLANK, BROKEN, UNSEEN = "right", "wrong", "to do", "fails", "not judged"
FOLLOWS = "follows"  # wrong, but only as what it reads is
SIGNS = {RIGHT: "ok", WRONG: "WRONG", BLANK: "to do", BROKEN: "FAILS", UNSEEN: "?"}


class Verdict(NamedTuple):
    """What is known about one line of the reader's."""

    number: int  # in the function, from 1
    text: str  # "dv = ds * s"
    name: str  # "dv", or "return"
    verdict: str  # RIGHT, WRONG, BLANK, BROKEN, UNSEEN, FOLLOWS
    note: str = ""  # what is said of a line that is not the one to look at


@dataclass(frozen=True)
class Answer:
    """What the exercise says to a backward; print it, or let a notebook show it.

    Attributes
    ----------
    solved : bool
        Whether every gradient is right in every case.
    verdicts : tuple of Verdict
        One for each line that ran, in the order in which they stand.
    line : Verdict or None
        The first line to look at.
    reason : str
        What is wrong with it, in numbers.
    case : str
        The smallest case that shows it.
    likely : str
        What mistake it looks like, and at which case.
    place : str
        Where the line stands in a file, such as "lesson.py:12"; empty in a notebook.
    hints : tuple of str
        One more telling than the other; the last one is the op's own line.
    """

    title: str
    solved: bool
    verdicts: tuple[Verdict, ...] = ()
    line: Verdict | None = None
    reason: str = ""
    case: str = ""
    likely: str = ""
    hints: tuple[str, ...] = ()
    also: tuple[Verdict, ...] = field(default=())  # other lines that may be the wrong one
    place: str = ""

    def headline(self) -> str:
        """Return the answer in one sentence."""
        if self.solved:
            return f"{self.title}: solved, every gradient is right"
        if self.line is None:
            return f"{self.title}: {self.reason}"
        if self.line.verdict == BLANK:
            return f"{self.title}: {self._line()} is the next to fill in"
        place = f"{self._line()} {_says(self.line.verdict)}"
        if self.also:
            numbers = ", ".join(str(one.number) for one in (*self.also, self.line))
            place = f"one of the lines {numbers} is wrong"
        if any(one.verdict == FOLLOWS for one in self.verdicts):
            place += ", lines below it follow"
        return f"{self.title}: {place}"

    def _line(self) -> str:
        number = self.line.number if self.line else 0
        return f"line {number} ({self.place})" if self.place else f"line {number}"

    def sign(self, one: Verdict) -> str:
        """Return what stands before a line, such as ok, WRONG, or the line that it follows."""
        if one.verdict == FOLLOWS and self.line:
            return f"after {self.line.number}"
        return SIGNS[one.verdict]

    def told(self, one: Verdict) -> list[str]:
        """Return what is said of a line, line by line."""
        texts = (self.reason, self.case, self.likely) if one == self.line else (one.note,)
        return [text for text in texts if text]

    def legend(self) -> str:
        """Return what signs mean that do not explain themselves, of those that stand there."""
        shown = {one.verdict: self.sign(one) for one in self.verdicts}
        meaning = {UNSEEN: "cannot be judged yet", FOLLOWS: "wrong as what it reads is"}
        return "; ".join(f"{shown[v]} = {text}" for v, text in meaning.items() if v in shown)

    def hint(self, step: int = 1) -> str:
        """Return one hint more at each step, from 1."""
        if not self.hints:
            return "no hint is needed" if self.solved else "no hint is known"
        return self.hints[min(max(step, 1), len(self.hints)) - 1]

    def __str__(self) -> str:
        """Return the answer as lines of text."""
        lines = [self.headline()]
        for one in self.verdicts:
            lines.append(f"  {self.sign(one):>8}  {one.number:>2}  {one.text}")
            lines += [f"                {text}" for text in self.told(one)]
        if legend := self.legend():
            lines.append(f"  {legend}")
        if len(self.hints) > 1:
            lines.append(f"  hint 1 of {len(self.hints)}: {self.hints[0]}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return the answer as a table; hints unfold one inside the other, without a script."""
        rows = "".join(_row(one, self) for one in self.verdicts)
        colour = "#2e7d32" if self.solved else "#b3541e"
        return (
            f"<div style='border-left:4px solid {colour};padding:.2em 0 .2em .8em;"
            f"overflow-x:auto'><b>{escape(self.headline())}</b>"
            f"<table style='border-collapse:collapse;font-size:.9em;margin:.4em 0'>{rows}</table>"
            f"<div style='color:#777;font-size:.85em'>{escape(self.legend())}</div>"
            f"{hints_html(self.hints)}</div>"
        )


def _says(verdict: str) -> str:
    return "fails" if verdict == BROKEN else "is wrong"


def _row(one: Verdict, answer: Answer) -> str:
    colours = {RIGHT: "#2e7d32", WRONG: "#c62828", BROKEN: "#c62828"}
    colour = colours.get(one.verdict, "#777")
    cell = "padding:.1em .7em .1em 0;border:0;text-align:left;vertical-align:top"
    texts = [f"<div style='white-space:normal'>{escape(text)}</div>" for text in answer.told(one)]
    notes = "".join(texts)
    return (
        f"<tr><td style='{cell};color:{colour};white-space:nowrap'>{answer.sign(one)}</td>"
        f"<td style='{cell};color:#777'>{one.number}</td>"
        f"<td style='{cell}'><code>{escape(one.text)}</code>{notes}</td></tr>"
    )

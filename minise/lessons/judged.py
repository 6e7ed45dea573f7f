"""What the cell below an exercise shows: an answer where the reader can edit, else a worksheet."""

from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import Any

from minise.grading.answer import BLANK
from minise.grading.exercise import Exercise
from minise.lessons.question import show
from minise.lessons.task import Task, TaskAnswer


class Judged:
    """An exercise or a task with the answer to a function.

    Printed, it is the answer. As HTML it is the answer in ``marimo edit`` and Jupyter. In ``marimo
    run`` and on a static page, where nobody can write code, it is the worksheet, unless no line is
    blank.

    Attributes
    ----------
    answer : Answer or TaskAnswer
    """

    def __init__(self, exercise: Exercise | Task, function: Callable[..., Any]) -> None:
        self.exercise, self.function = exercise, function
        self.answer = exercise.check(function)

    @property
    def blank(self) -> bool:
        """Whether something is left to write."""
        if isinstance(self.answer, TaskAnswer):
            return self.answer.blank
        return any(verdict.verdict == BLANK for verdict in self.answer.verdicts)

    def __str__(self) -> str:
        """Return the answer as text."""
        return str(self.answer)

    def _repr_html_(self) -> str:
        """Return the answer, or the worksheet with a sentence that says where to write."""
        import marimo as mo

        if mo.app_meta().mode not in ("run", "script") or not self.blank:
            return self.answer._repr_html_()
        return (
            "<div><p>To write the lines and have them judged, open the lesson for editing: "
            f"<code>marimo edit tutorials</code>, then <code>{escape(_file_of(self.function))}"
            "</code>. Or write on paper, and unfold the hints in order; the last one is the "
            f"solution.</p>{self.exercise.worksheet(self.function)}</div>"
        )


def judged(exercise: Exercise | Task, function: Callable[..., Any]) -> Judged:
    """Judge a function and return what a cell shows; print the answer in a script."""
    return show(Judged(exercise, function))


def _file_of(function: Callable[..., Any]) -> str:
    """Return the name of a lesson's file."""
    return Path(function.__globals__.get("__file__") or "lesson.py").name

"""Attempts at the exercises of lessons 3, 5, 6 and 7: solutions with some texts replaced."""

import ast
from pathlib import Path

from minise.contract.case import Case
from minise.grading.exercise import Exercise
from tests.tutorials.solutions import SOLUTIONS, compiled

FOLDER = Path(__file__).parents[2] / "tutorials"
NEXT_LINE = "\n            "  # line break and indentation in a solution


def exercise_of(number):
    """Return the exercise of a lesson without running the lesson."""
    (path,) = FOLDER.glob(f"{number}_*.py")
    calls = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)]
    (call,) = [node for node in calls if getattr(node.func, "id", "") == "Exercise"]
    return eval(ast.unparse(call), {"Exercise": Exercise, "Case": Case})


EXERCISES = {number: exercise_of(number) for number in ("03", "05", "06", "07")}


def answered(number, *edits, text=""):
    """Return the answer to a solution with some texts replaced."""
    exercise = EXERCISES[number]
    text = text or SOLUTIONS[exercise.op]
    for old, new in edits:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return exercise.check(compiled(text))


def signs(answer):
    """Return the sign before each line, by the text of the line."""
    return {line.text: answer.sign(line) for line in answer.verdicts}


BLANK = {"05": ("-0.5 * rstd**3 * drstd", "..."), "06": ("ds * s * (1 - s)", "...")}

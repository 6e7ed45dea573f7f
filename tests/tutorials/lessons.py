"""The lessons, and what their tests share."""

import re
import textwrap
from pathlib import Path

import pytest

from minise.grading.exercise import Exercise
from tests.tutorials.solutions import SOLUTIONS

FOLDER = Path(__file__).parents[2] / "tutorials"
LESSONS = sorted(FOLDER.glob("[0-9]*.py"))
IGNORED_WARNING = "ignore::DeprecationWarning"  # marimo's own


def each(function):
    """Repeat a test for every lesson; pytest --dist loadgroup keeps a lesson in one process."""
    lessons = [
        pytest.param(path, id=path.stem, marks=pytest.mark.xdist_group(path.stem))
        for path in LESSONS
    ]
    return pytest.mark.parametrize("path", lessons)(function)


def exercises_of(definitions):
    """Return the exercises among the definitions of a lesson."""
    return [value for value in definitions.values() if isinstance(value, Exercise)]


def skeletons_of(text):
    """Return the backwards with blank lines in the source of a lesson, by op."""
    sources = re.findall(r"@app\.function\n(def (\w+)_backward.*?)\n\n\n", text, re.DOTALL)
    return {op: source for source, op in sources if "= ..." in source}


def solution_of(path, op):
    """Return the solution of an exercise, in the skeleton of its lesson."""
    text = SOLUTIONS[path.stem] if path.stem in SOLUTIONS else SOLUTIONS[op]
    return textwrap.dedent(text).strip()

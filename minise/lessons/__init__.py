"""Shared code of the lessons in tutorials/: arrays, plots, questions, tasks, sources."""

from minise.lessons.arrays import Arrays
from minise.lessons.judged import judged
from minise.lessons.planted import BOUND, Pair, Planted
from minise.lessons.plots import Plot
from minise.lessons.question import Question, show
from minise.lessons.slopes import slopes
from minise.lessons.sources import cuda_of, python_of
from minise.lessons.task import Task, by_gradients, by_values
from minise.lessons.text import Text, table

__all__ = [
    "BOUND",
    "Arrays",
    "Pair",
    "Planted",
    "Plot",
    "Question",
    "Task",
    "Text",
    "by_gradients",
    "by_values",
    "cuda_of",
    "judged",
    "python_of",
    "show",
    "slopes",
    "table",
]

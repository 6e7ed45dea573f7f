"""Shared code of the lessons in tutorials/: arrays, plots, tables, sources, a test of checks."""

from minise.lessons.arrays import Arrays
from minise.lessons.planted import BOUND, Pair, Planted
from minise.lessons.plots import Plot
from minise.lessons.sources import cuda_of, python_of
from minise.lessons.text import Text, table

__all__ = ["BOUND", "Arrays", "Pair", "Planted", "Plot", "Text", "cuda_of", "python_of", "table"]

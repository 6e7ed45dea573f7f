"""What the lessons in tutorials/ share: how they show arrays, plots, tables and sources."""

from minise.lessons.arrays import Arrays
from minise.lessons.markdown import table
from minise.lessons.plots import Plot
from minise.lessons.sources import cuda_of, python_of

__all__ = ["Arrays", "Plot", "cuda_of", "python_of", "table"]

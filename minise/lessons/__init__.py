"""What the lessons in tutorials/ share: how they show arrays, plots, and pieces of sources."""

from minise.lessons.plots import Plot
from minise.lessons.sources import piece
from minise.lessons.tables import Arrays

__all__ = ["Arrays", "Plot", "piece"]

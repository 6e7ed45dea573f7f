"""Plots as SVG that scale to the width of the page and are readable on a phone.

A figure is narrow and shown at most MAX_WIDTH wide, so that its text is about as large as the text
around it. Matplotlib is imported at the first plot.
"""

from io import StringIO
from typing import Any

WIDTH = 4.6  # inches, about the width of a phone's screen
MAX_WIDTH = "30rem"
STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "svg.hashsalt": "minise",  # the same plot gives the same bytes
}


class Plot:
    """A figure with its axes, for a notebook to show.

    Parameters
    ----------
    height : float
        Height in inches; the width is 4.6 inches.
    rows, columns : int
        Number of rows and columns of axes.

    Attributes
    ----------
    figure : matplotlib.figure.Figure
    axes : matplotlib.axes.Axes, or ndarray of them if there are several
    """

    def __init__(self, height: float, rows: int = 1, columns: int = 1) -> None:
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        with rc_context(STYLE):
            self.figure: Any = Figure(figsize=(WIDTH, height), layout="constrained")
            self.axes: Any = self.figure.subplots(rows, columns)

    def _repr_html_(self) -> str:
        """Return the figure as SVG."""
        from matplotlib import rc_context

        for axes in self.figure.axes:
            if (legend := axes.get_legend()) is not None:
                legend.set_frame_on(False)
        text = StringIO()
        with rc_context(STYLE):
            self.figure.savefig(text, format="svg", metadata={"Date": None})
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :].replace("<svg ", "<svg style='width:100%;height:auto' ", 1)
        return f"<div style='max-width:{MAX_WIDTH}'>{svg}</div>"

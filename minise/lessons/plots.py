"""Plots that are as wide as the page lets them be, with text that can be read on a phone.

They are drawn narrow, as vectors, and never wider than LARGEST, so that the text is about as large
as that around it. No plotting library is loaded before the first plot.
"""

from io import StringIO
from typing import Any

WIDTH = 4.6  # inches: about a phone's
LARGEST = "30rem"
STYLE = {
    "axes.spines.right": False,
    "axes.spines.top": False,
    "font.size": 10,
    "svg.hashsalt": "minise",  # the same file for the same plot
}


class Plot:
    """A figure with its axes, for a notebook to show.

    Parameters
    ----------
    height : float
        In inches, of a figure that is 4.6 wide.
    rows, columns : int
        Of axes.

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
        """Return the figure as vectors."""
        from matplotlib import rc_context

        for axes in self.figure.axes:
            if (legend := axes.get_legend()) is not None:
                legend.set_frame_on(False)
        text = StringIO()
        with rc_context(STYLE):
            self.figure.savefig(text, format="svg", metadata={"Date": None})
        svg = text.getvalue()
        svg = svg[svg.index("<svg") :].replace("<svg ", "<svg style='width:100%;height:auto' ", 1)
        return f"<div style='max-width:{LARGEST}'>{svg}</div>"

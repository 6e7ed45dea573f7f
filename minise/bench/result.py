"""The result of a benchmark: what was measured, where and how; as tables, JSON and a figure.

Result    settings, rows and a summary, with date, command, machine and versions
Table     rows of text for the terminal
Figure    points and lines, drawn by Matplotlib
Task      one measurement of a long list, where one that fails hides no other
"""

import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minise.bench import machine

if TYPE_CHECKING:
    from rich.console import Group

ROW_NAMES = ("works", "series", "rows")  # the key of the rows in a file: the first that is there
CIRCUMSTANCES = ("date", "command", "machine", "versions")
LEFT_OUT = "left out: no time was left"
TRACE_CHARACTERS = 700  # the end of a traceback
INCHES, DPI = (9.0, 3.9), 200
TICK_DISTANCE = 0.07  # at least, as a share of the axis: the width of a number
POINTS, LINE, GREY = "#1f4e79", "#d1742f", "#666666"


@dataclass(frozen=True)
class Table:
    """Rows of text: a first column of names, then figures aligned to the right.

    Parameters
    ----------
    heading, note : str
        Text above and below, as wide as the terminal.
    columns : sequence of str
        Headings of all columns but the first.
    rows : sequence of sequence of str
        One cell a column; cells missing at the end are empty. An empty row draws a line.
    left, unbroken : tuple of str
        Columns that are aligned to the left, and columns that are not wrapped.
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    left: tuple[str, ...] = ()
    unbroken: tuple[str, ...] = ()

    def render(self) -> "Group":
        """Return the table as rich prints it."""
        from rich import box, table
        from rich.console import Group
        from rich.text import Text

        rendered = table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
        rendered.add_column("")
        for name in self.columns:
            justify: Any = "left" if name in self.left else "right"
            rendered.add_column(name, justify=justify, no_wrap=name in self.unbroken)
        for row in self.rows:
            if row:
                rendered.add_row(*map(Text, row))
            else:
                rendered.add_section()
        note = Text(self.note + "\n" if self.note else "")
        return Group(Text(self.heading, "bold"), rendered, note)


class Panel(NamedTuple):
    """One plot of a figure: points, and a straight line with its words."""

    title: str
    xlabel: str
    ylabel: str
    xs: Sequence[float]
    ys: Sequence[float]
    slope: float
    intercept: float
    label: str


@dataclass(frozen=True)
class Figure:
    """Plots side by side, with a caption below."""

    panels: Sequence[Panel]
    caption: str

    def draw(self, path: Path) -> None:
        """Write a PNG or SVG file; Matplotlib must be there."""
        figure = figure_class()(figsize=INCHES, layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(self.panels)), self.panels, strict=True):
            draw_panel(axes, panel)
        figure.supxlabel(self.caption, fontsize=7, color=GREY)
        figure.savefig(path, dpi=DPI)


@dataclass
class Result:
    """What a benchmark measured, and all that is needed to repeat it.

    Parameters
    ----------
    settings : dict
        What was asked, as JSON takes it.
    rows : list
        What was measured, as JSON takes it: one entry for each workload, series, op or task.
    summary : dict
        What holds for all rows, by name.
    rows_name : str
        The key of the rows in a file, one of ROW_NAMES.
    tables, notes, figure
        How the result is shown.
    circumstances : dict
        "date", "command", "machine" and "versions".
    """

    settings: dict[str, Any]
    rows: list[Any] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    rows_name: str = "rows"
    tables: Sequence[Table] = ()
    notes: str = ""
    figure: Figure | None = None
    circumstances: dict[str, Any] = field(default_factory=machine.circumstances)

    def as_json(self) -> dict[str, Any]:
        """Return everything but tables and figure, as JSON takes it."""
        measured = {**self.summary, self.rows_name: self.rows}
        return {**self.circumstances, "settings": self.settings, **measured}

    def write(self, path: Path) -> None:
        """Write everything but tables and figure to a file, as JSON."""
        path.write_text(json.dumps(self.as_json(), indent=1, default=str) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Return what `write` wrote, without tables and figure.

        Raises
        ------
        ValueError
            If the file is not the result of a benchmark.
        """
        content = json.loads(path.read_text())
        names = [name for name in ROW_NAMES if name in content]
        if not names or not {"settings", *CIRCUMSTANCES} <= content.keys():
            raise ValueError(
                f"{path} is not the result of a benchmark: pass a file of bench --json"
            )
        circumstances = {name: content.pop(name) for name in CIRCUMSTANCES}
        settings, rows = content.pop("settings"), content.pop(names[0])
        return cls(settings, rows, content, names[0], circumstances=circumstances)


class Task(NamedTuple):
    """One measurement or check."""

    name: str
    run: Callable[[], Any]  # returns what JSON takes


def run_tasks(
    tasks: Iterable[Task], seconds: float, progress: Callable[[str], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Run tasks in order until their time is up, and yield a row after each.

    Parameters
    ----------
    tasks : iterable of Task
        In order.
    seconds : float
        A task that would start later is left out.
    progress : function, optional
        Is called with the name of each task before it runs.

    Yields
    ------
    dict
        "name" and "seconds", and "result" or, after an exception, "problem" and "trace".
    """
    end = time.monotonic() + seconds
    for task in tasks:
        start = time.monotonic()
        row: dict[str, Any] = {"name": task.name}
        if start > end:
            row["problem"] = LEFT_OUT
        else:
            if progress is not None:
                progress(task.name)
            try:
                row["result"] = task.run()
            except Exception as error:  # of CuPy, PyTorch or CUDA, which have classes of their own
                message = str(error).partition("\n")[0]
                row["problem"] = f"{type(error).__name__}: {message[:300]}"
                row["trace"] = traceback.format_exc()[-TRACE_CHARACTERS:]
        row["seconds"] = round(time.monotonic() - start, 3)
        yield row


def problems(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the names of the tasks that failed; a task that was left out has not failed."""
    return [row["name"] for row in rows if row.get("problem", LEFT_OUT) != LEFT_OUT]


def short(number: float) -> str:
    """Return a number with three digits, and larger ones rounded to an integer.

    Examples
    --------
    >>> [short(number) for number in (0.012345, 1.5, 104.4, 12345.6)]
    ['0.0123', '1.50', '104', '12,346']
    """
    return f"{number:,.0f}" if number >= 100 else f"{number:#.3g}"


def millis(ms: float) -> str:
    """Return milliseconds, to a microsecond at the finest.

    Examples
    --------
    >>> [millis(ms) for ms in (0.0123456, 1.5, 2345.6)]
    ['0.012', '1.50', '2,346']
    """
    return short(ms) if ms >= 1 else f"{ms:.3f}"


def figure_class() -> Any:
    """Return Matplotlib's Figure, which needs no window.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("drawing needs Matplotlib: pip install 'minise[plot]'") from None
    return Figure


def draw_panel(axes: Any, panel: Panel) -> None:
    """Draw points and line on the axes of Matplotlib."""
    ends = (0, 1.04 * max(panel.xs))
    line = [panel.slope * x + panel.intercept for x in ends]
    axes.plot(ends, line, color=LINE, linewidth=1.5, label=panel.label, zorder=1)
    axes.plot(panel.xs, panel.ys, "o", color=POINTS, markersize=6)
    axes.set_title(panel.title, loc="left", fontsize=11)
    axes.set_xlabel(panel.xlabel)
    axes.set_ylabel(panel.ylabel)
    axes.set_xlim(*ends)
    axes.set_ylim(bottom=0)
    axes.set_xticks(ticks_of(panel.xs))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, handlelength=1.5)


def ticks_of(xs: Sequence[float]) -> list[float]:
    """Return 0 and those places on an axis whose numbers do not overlap.

    Examples
    --------
    >>> ticks_of([16, 32, 64, 128, 256, 512])
    [0, 64, 128, 256, 512]
    """
    ticks: list[float] = [0]
    for x in xs:
        if x - ticks[-1] >= TICK_DISTANCE * max(xs):
            ticks.append(x)
    return ticks

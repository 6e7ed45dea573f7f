"""The result of a benchmark with its circumstances, as tables, JSON and a figure.

Result    settings, rows and a summary, with date, command, machine and versions
Table     rows of text for the terminal
Figure    points and lines, drawn by Matplotlib
Task      one measurement of a list; its failure does not stop the others
"""

import json
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from minise.atomic import writing
from minise.bench import machine

if TYPE_CHECKING:
    from rich.console import Group

ROW_KEYS = ("works", "series", "rows")  # possible keys of the rows in a file, the first wins
CIRCUMSTANCES = ("date", "command", "machine", "versions")
SKIPPED = "skipped: the time limit was reached"
TRACEBACK_CHARACTERS = 700  # at most; the end of a traceback is stored
FIGURE_INCHES, DPI = (9.0, 3.9), 200
MIN_TICK_DISTANCE = 0.07  # fraction of the axis: the width of a number
POINTS, LINE, GREY = "#1f4e79", "#d1742f", "#666666"


@dataclass(frozen=True)
class Table:
    """Rows of text: a first column of names, then right-aligned numbers.

    Parameters
    ----------
    heading, note : str
        Text above and below the table, as wide as the terminal.
    columns : sequence of str
        Headings of all columns but the first.
    rows : sequence of sequence of str
        One cell per column; missing cells at the end are empty. An empty row draws a line.
    left, unbroken : tuple of str
        Left-aligned columns, and columns that are not wrapped ("" is the first).
    """

    heading: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    left: tuple[str, ...] = ()
    unbroken: tuple[str, ...] = ()

    def render(self) -> "Group":
        """Return the table as an object that rich prints."""
        from rich import box, table
        from rich.console import Group
        from rich.text import Text

        rendered = table.Table(box=box.SIMPLE_HEAD, pad_edge=False)
        rendered.add_column("", no_wrap="" in self.unbroken)
        for name in self.columns:
            justify: Any = "left" if name in self.left else "right"
            rendered.add_column(Text(name), justify=justify, no_wrap=name in self.unbroken)
        for row in self.rows:
            if row:
                rendered.add_row(*map(Text, row))
            else:
                rendered.add_section()
        note = Text(self.note + "\n" if self.note else "")
        return Group(Text(self.heading, "bold"), rendered, note)


class Panel(NamedTuple):
    """One plot of a figure: points, and a straight line with its label."""

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
    """Plots side by side above a caption."""

    panels: Sequence[Panel]
    caption: str

    def draw(self, path: Path) -> None:
        """Write a PNG or SVG file; requires Matplotlib."""
        figure = figure_class()(figsize=FIGURE_INCHES, layout="constrained")
        for axes, panel in zip(figure.subplots(1, len(self.panels)), self.panels, strict=True):
            draw_panel(axes, panel)
        figure.supxlabel(self.caption, fontsize=7, color=GREY)
        with writing(path):
            figure.savefig(path, dpi=DPI)


@dataclass
class Result:
    """Measurements of a benchmark, with everything needed to repeat them.

    Parameters
    ----------
    settings : dict
        Settings of the benchmark, JSON-serialisable.
    rows : list
        Measurements, JSON-serialisable: one entry for each workload, series, op or task.
    summary : dict
        Values that hold for all rows, by name.
    rows_key : str
        Key of the rows in a file, one of ROW_KEYS.
    tables, notes, figure
        The result for display; not stored in files.
    circumstances : dict
        "date", "command", "machine" and "versions".
    """

    settings: dict[str, Any]
    rows: list[Any] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    rows_key: str = "rows"
    tables: Sequence[Table] = ()
    notes: str = ""
    figure: Figure | None = None
    circumstances: dict[str, Any] = field(default_factory=machine.circumstances)

    def as_json(self) -> dict[str, Any]:
        """Return everything except tables, notes and figure as a JSON-serialisable dict."""
        measured = {**self.summary, self.rows_key: self.rows}
        return {**self.circumstances, "settings": self.settings, **measured}

    def write(self, path: Path) -> None:
        """Write everything except tables, notes and figure to a JSON file."""
        with writing(path):
            path.write_text(json.dumps(self.as_json(), indent=1, default=str) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Result":
        """Return the result that `write` stored, without tables, notes and figure.

        Raises
        ------
        ValueError
            If the file is not the result of a benchmark.
        """
        content = json.loads(path.read_text())
        names = [name for name in ROW_KEYS if name in content]
        if not names or not {"settings", *CIRCUMSTANCES} <= content.keys():
            raise ValueError(
                f"{path} is not the result of a benchmark, expected a file that "
                "`minise bench --json` wrote"
            )
        circumstances = {name: content.pop(name) for name in CIRCUMSTANCES}
        settings, rows = content.pop("settings"), content.pop(names[0])
        return cls(settings, rows, content, names[0], circumstances=circumstances)


class Task(NamedTuple):
    """One measurement or check."""

    name: str
    run: Callable[[], Any]  # returns a JSON-serialisable value


def run_tasks(
    tasks: Iterable[Task], seconds: float, progress: Callable[[str], None] | None = None
) -> Iterator[dict[str, Any]]:
    """Run tasks in order within a time limit, and yield a row after each.

    Parameters
    ----------
    tasks : iterable of Task
        The tasks in order.
    seconds : float
        Time limit: tasks that would start later are skipped.
    progress : function, optional
        Called with the name of each task before it runs.

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
            row["problem"] = SKIPPED
        else:
            if progress is not None:
                progress(task.name)
            try:
                row["result"] = task.run()
            except Exception as error:  # CuPy, PyTorch and CUDA have classes of their own
                message = str(error).partition("\n")[0]
                row["problem"] = f"{type(error).__name__}: {message[:300]}"
                row["trace"] = traceback.format_exc()[-TRACEBACK_CHARACTERS:]
        row["seconds"] = round(time.monotonic() - start, 3)
        yield row


def failed_tasks(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return the names of the tasks that failed; skipped tasks are not failures."""
    return [row["name"] for row in rows if row.get("problem", SKIPPED) != SKIPPED]


def format_number(number: float) -> str:
    """Return a number as text: three significant digits, or an integer from 100 upwards.

    Examples
    --------
    >>> [format_number(number) for number in (0.012345, 1.5, 104.4, 12345.6)]
    ['0.0123', '1.50', '104', '12,346']
    """
    return f"{number:,.0f}" if number >= 100 else f"{number:#.3g}"


def format_ms(ms: float) -> str:
    """Return milliseconds as text, with a resolution of at most a microsecond.

    Examples
    --------
    >>> [format_ms(ms) for ms in (0.0123456, 1.5, 2345.6)]
    ['0.012', '1.50', '2,346']
    """
    return format_number(ms) if ms >= 1 else f"{ms:.3f}"


def figure_class() -> Any:
    """Return Matplotlib's class Figure, which needs no window.

    Raises
    ------
    ImportError
        If Matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise ImportError("drawing needs Matplotlib: pip install -e '.[plot]'") from None
    return Figure


def draw_panel(axes: Any, panel: Panel) -> None:
    """Draw the points and the line of a panel on Matplotlib axes."""
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
    """Return tick positions on an axis: 0 and those xs whose numbers do not overlap.

    Examples
    --------
    >>> ticks_of([16, 32, 64, 128, 256, 512])
    [0, 64, 128, 256, 512]
    """
    ticks: list[float] = [0]
    for x in xs:
        if x - ticks[-1] >= MIN_TICK_DISTANCE * max(xs):
            ticks.append(x)
    return ticks

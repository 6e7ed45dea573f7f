"""`minise bench scaling`: time of a training step against depth, and against the batch size.

All residual units need the same number of multiplications (a stage halves the images' sides and
doubles the channels), and so do all images. The time should therefore be linear in depth and in the
batch size. The intercept is the constant cost: the first and last layers, or the optimiser and
Python between the calls. Curvature would point to a cache that is too small, or to a cost that
grows superlinearly.

All points are interleaved in one process, so that a slowdown of the machine affects all of them.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from minise import models
from minise.bench.machine import cores_used_by_others, describe, read_clocks
from minise.bench.net_settings import ScalingSettings
from minise.bench.peers import Run, training_step_of
from minise.bench.result import Figure, Panel, Result, Table, format_ms, format_number
from minise.bench.rounds import (
    Round,
    RoundSelection,
    Spread,
    Turn,
    interleave,
    ms_spread,
    rounds_json,
    select_rounds,
    time_repeatedly,
)
from minise.bench.settings import with_count
from minise.bench.workloads import batch_of

TURN_SECONDS = 0.4  # duration of a turn; at least one run
UNITS = {"depth": "layer", "batch": "image"}
LABELS = {"depth": "depth (layers with weights)", "batch": "batch size (images)"}


class Point(NamedTuple):
    """A net and a batch size."""

    depth: int
    batch: int

    @property
    def name(self) -> str:
        """Name of the point in a round."""
        return f"{self.net}, batch {self.batch}"

    @property
    def net(self) -> str:
        """Name of the net."""
        return f"se_resnet{self.depth}"


class Line(NamedTuple):
    """A least-squares line: y = slope * x + intercept."""

    slope: float
    intercept: float
    r2: float  # fraction of the variance of y explained by the line

    def at(self, x: float) -> float:
        """Return y at x."""
        return self.slope * x + self.intercept


@dataclass(frozen=True)
class Series:
    """Points along one axis, the time of a training step at each point, and the fitted line."""

    axis: str  # "depth" or "batch"
    points: list[Point]
    ms: list[Spread]
    line: Line

    @property
    def shared(self) -> str:
        """The setting that all points share: the batch size or the net."""
        point = self.points[0]
        return f"batch {point.batch}" if self.axis == "depth" else point.net

    @property
    def formula(self) -> str:
        """The line as text, such as "2.50 ms per layer + 5.00 ms"."""
        slope, intercept, _ = self.line
        sign = "+" if intercept >= 0 else "-"
        return f"{format_ms(slope)} ms per {UNITS[self.axis]} {sign} {format_ms(abs(intercept))} ms"

    @property
    def xs(self) -> list[int]:
        """Coordinates of the points on the axis."""
        return [getattr(point, self.axis) for point in self.points]

    @property
    def residuals(self) -> list[float]:
        """Relative residual of each point: (time - line) / time."""
        return [
            (ms.median - self.line.at(x)) / ms.median
            for x, ms in zip(self.xs, self.ms, strict=True)
        ]


class Scaling(NamedTuple):
    """Measurements along both axes."""

    series: list[Series]
    rounds: list[Round]  # turns by the name of the point
    selection: RoundSelection


def prepare(settings: ScalingSettings) -> dict[Point, Run]:
    """Return for every point a function that takes a training step; equal depths share a net.

    Raises
    ------
    ValueError, TypeError, ImportError
        If the back end is unknown, or no net has one of the depths.
    """
    ops = settings.load_ops()
    nets: dict[int, Any] = {}
    steps = {}
    for point in dict.fromkeys(point for points in axes_of(settings).values() for point in points):
        if point.depth not in nets:
            keywords = settings.net_settings(point.net)
            nets[point.depth] = models.build(point.net, ops=ops, **keywords)
        net = nets[point.depth]
        steps[point] = training_step_of(net, ops, *batch_of(net, point.batch))
    return steps


def measure(
    settings: ScalingSettings, steps: dict[Point, Run], progress: Callable[[str], None]
) -> Scaling:
    """Run every step once, time the steps in interleaved rounds, and fit the lines."""
    by_name = {point.name: step for point, step in steps.items()}

    def turn(name: str) -> Turn:
        start = read_clocks([])
        seconds = time_repeatedly(by_name[name], TURN_SECONDS)
        return Turn(seconds, None, cores_used_by_others(start, read_clocks([])))

    with threadpool_limits(settings.threads, "blas"):
        for name, step in by_name.items():
            progress(f"preparing {name}")
            step()  # compiles, and touches the memory
        rounds = interleave(list(by_name), settings.rounds, turn, progress)
    return scaling_of(settings, rounds)


def scaling_of(settings: ScalingSettings, rounds: list[Round]) -> Scaling:
    """Return the lines fitted to rounds, each of which contains all points."""
    selection = select_rounds(rounds)
    used = [rounds[i] for i in selection.used]
    series = [series_of(axis, points, used) for axis, points in axes_of(settings).items()]
    return Scaling(series, rounds, selection)


def axes_of(settings: ScalingSettings) -> dict[str, list[Point]]:
    """Return the points along each axis, sorted."""
    depths, batches = sorted(set(settings.depths)), sorted(set(settings.batches))
    return {
        "depth": [Point(depth, settings.batch) for depth in depths],
        "batch": [Point(settings.depth, batch) for batch in batches],
    }


def series_of(axis: str, points: list[Point], rounds: Sequence[Round]) -> Series:
    """Return the times at the points along an axis, with the fitted line."""
    ms = [ms_spread(rounds, point.name) for point in points]
    xs = [getattr(point, axis) for point in points]
    return Series(axis, points, ms, fit(xs, [spread.median for spread in ms]))


def fit(xs: Iterable[float], ys: Iterable[float]) -> Line:
    """Return the least-squares line through points.

    Examples
    --------
    >>> line = fit([1, 2, 3, 4], [5, 7, 9, 11])
    >>> round(line.slope, 9), round(line.intercept, 9), round(line.r2, 9)
    (2.0, 3.0, 1.0)
    """
    x, y = np.array([*xs], float), np.array([*ys], float)
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx @ dy) / (dx @ dx)
    residual = dy - slope * dx
    total = dy @ dy
    r2 = 1 - (residual @ residual) / total if total else 1.0
    return Line(float(slope), float(y.mean() - slope * x.mean()), float(r2))


def result_of(scaling: Scaling, settings: ScalingSettings) -> Result:
    """Return the result: a table and a plot for each axis."""
    threads = with_count(settings.threads, "thread")
    tables = [table_of(series, settings) for series in scaling.series]
    tables[-1] = replace(tables[-1], note=f"{tables[-1].note}\n{scaling.selection.verdict}")
    caption = (
        f"SE-ResNet, reduction {settings.reduction}, {settings.dtype}, minise {settings.ops} on "
        f"{threads}, {describe()['processor']}; medians of {len(scaling.selection.used)} rounds"
    )
    return Result(
        settings.as_dict(),
        [_row(series) for series in scaling.series],
        {**scaling.selection.as_json(), "rounds": rounds_json(scaling.rounds)},
        "series",
        tables,
        figure=Figure([panel_of(series) for series in scaling.series], caption),
    )


def table_of(series: Series, settings: ScalingSettings) -> Table:
    """Return a table with a row for each point, and the fitted line below."""
    points = zip(series.points, series.xs, series.ms, series.residuals, strict=True)
    largest, x_largest = max(
        zip(series.residuals, series.xs, strict=True), key=lambda pair: abs(pair[0])
    )
    return Table(
        f"a training step against {series.axis}: {series.shared}, reduction {settings.reduction}, "
        f"{settings.dtype}, {settings.back_end}, {with_count(settings.threads, 'thread')}",
        ("ms", "quartiles", "fitted ms", "residual", "images/s"),
        [
            (
                f"{series.axis} {x}",
                format_ms(ms.median),
                f"{format_ms(ms.lower)}-{format_ms(ms.upper)}",
                format_ms(series.line.at(x)),
                f"{residual:+.1%}",
                format_number(1000 * point.batch / ms.median),
            )
            for point, x, ms, residual in points
        ],
        f"{series.formula}; R^2 {series.line.r2:.5f}; largest residual {largest:+.1%}, at "
        f"{series.axis} {x_largest}",
    )


def panel_of(series: Series) -> Panel:
    """Return the plot of a series."""
    slope, intercept, r2 = series.line
    point = series.points[0]
    title = f"batch of {point.batch}" if series.axis == "depth" else f"SE-ResNet-{point.depth}"
    label = f"{series.formula}\nR² = {r2:.4f}"
    times = [ms.median for ms in series.ms]
    label_x, label_y = LABELS[series.axis], "training step (ms)"
    return Panel(title, label_x, label_y, series.xs, times, slope, intercept, label)


def _row(series: Series) -> dict[str, Any]:
    points = zip(series.points, series.ms, series.residuals, strict=True)
    return {
        "axis": series.axis,
        "line": {**series.line._asdict(), "largest_off": max(map(abs, series.residuals))},
        "points": [
            {**point._asdict(), "ms": ms._asdict(), "off_line": residual}
            for point, ms, residual in points
        ],
    }

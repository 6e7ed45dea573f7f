"""The tables of `minise bench scaling`, and the same figures as JSON."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Group
from rich.text import Text

from minise.bench import machine
from minise.bench.report import framed, millis, plain_table, short
from minise.bench.scaling import Scaling, ScalingSettings, Series

UNITS = {"depth": "layer", "batch": "image"}


def tables_of(scaling: Scaling, settings: ScalingSettings) -> Group:
    """Return a table for each axis, with its line below it."""
    parts = [_table(series, settings) for series in scaling.series]
    return Group(*parts, Text(scaling.choice.sentence))


def formula(series: Series) -> str:
    """Return a line in words, such as "2.50 ms per layer + 5.00 ms"."""
    slope, intercept, _ = series.line
    sign = "+" if intercept >= 0 else "-"
    return f"{millis(slope)} ms per {UNITS[series.axis]} {sign} {millis(abs(intercept))} ms"


def where(series: Series, settings: ScalingSettings) -> str:
    """Return what all points of a series share."""
    point = series.points[0]
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    fixed = f"batch {point.batch}" if series.axis == "depth" else point.net
    return f"{fixed}, reduction {settings.reduction}, {settings.dtype}, {settings.ops}, {threads}"


def as_json(scaling: Scaling, settings: ScalingSettings) -> dict[str, Any]:
    """Return every figure, with what is needed to repeat it."""
    choice = scaling.choice
    return {
        **machine.circumstances(),
        "settings": {
            key: str(value) if isinstance(value, Path) else value
            for key, value in asdict(settings).items()
        },
        "series": [_series_json(series) for series in scaling.series],
        "rounds_kept": choice.kept,
        "rounds_disturbed": choice.disturbed,
        "others_at_most_cores": choice.others,
        "verdict": choice.sentence,
        "rounds": [{name: asdict(t) for name, t in one.items()} for one in scaling.rounds],
    }


def _table(series: Series, settings: ScalingSettings) -> Group:
    table = plain_table()
    for name in ("ms", "quartiles", "line's ms", "off it", "images/s"):
        table.add_column(name, justify="right")
    for point, x, ms, off in zip(series.points, series.xs, series.ms, series.off, strict=True):
        table.add_row(
            f"{series.axis} {x}",
            millis(ms.median),
            f"{millis(ms.lower)}-{millis(ms.upper)}",
            millis(series.line.at(x)),
            f"{off:+.1%}",
            short(1000 * point.batch / ms.median),
        )
    farthest = max(zip(series.off, series.xs, strict=True), key=lambda pair: abs(pair[0]))
    below = (
        f"{formula(series)}; R^2 {series.line.r2:.5f}; farthest off it {farthest[0]:+.1%}, at "
        f"{series.axis} {farthest[1]}"
    )
    above = f"a training step against {series.axis}: {where(series, settings)}"
    return framed(above, table, below)


def _series_json(series: Series) -> dict[str, Any]:
    points = zip(series.points, series.ms, series.off, strict=True)
    return {
        "axis": series.axis,
        "line": {**series.line._asdict(), "largest_off": max(map(abs, series.off))},
        "points": [
            {**point._asdict(), "ms": ms._asdict(), "off_line": off} for point, ms, off in points
        ],
    }

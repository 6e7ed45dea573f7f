"""The figure of `minise bench scaling`, and the one door to Matplotlib, which is an extra."""

from pathlib import Path
from typing import Any

from minise.bench import machine
from minise.bench.scaling import Scaling, ScalingSettings, Series
from minise.bench.scaling_report import formula

LABELS = {"depth": "depth (layers with weights)", "batch": "batch size (images)"}
INCHES, DPI = (9.0, 3.9), 200
APART = 0.07  # of the axis: as wide as a number
POINTS, LINE, GREY = "#1f4e79", "#d1742f", "#666666"


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


def draw(scaling: Scaling, settings: ScalingSettings, path: Path) -> None:
    """Draw every series beside the other, points and line, and write a PNG or SVG file."""
    figure = figure_class()(figsize=INCHES, layout="constrained")
    for axes, series in zip(figure.subplots(1, len(scaling.series)), scaling.series, strict=True):
        _draw_series(axes, series)
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    figure.supxlabel(
        f"SE-ResNet, reduction {settings.reduction}, {settings.dtype}, minise {settings.ops} on "
        f"{threads}, {machine.describe()['processor']}; medians of {len(scaling.choice.kept)} "
        "rounds",
        fontsize=7,
        color=GREY,
    )
    figure.savefig(path, dpi=DPI)


def ticks_of(xs: list[int]) -> list[int]:
    """Return 0 and those places on an axis whose numbers do not run into each other.

    Examples
    --------
    >>> ticks_of([16, 32, 64, 128, 256, 512])
    [0, 64, 128, 256, 512]
    """
    ticks = [0]
    for x in xs:
        if x - ticks[-1] >= APART * max(xs):
            ticks.append(x)
    return ticks


def _draw_series(axes: Any, series: Series) -> None:
    line, ends = series.line, (0, 1.04 * max(series.xs))
    words = f"{formula(series)}\nR² = {line.r2:.4f}"
    axes.plot(ends, [line.at(x) for x in ends], color=LINE, linewidth=1.5, label=words, zorder=1)
    axes.plot(series.xs, [ms.median for ms in series.ms], "o", color=POINTS, markersize=6)
    point = series.points[0]
    fixed = f"batch of {point.batch}" if series.axis == "depth" else f"SE-ResNet-{point.depth}"
    axes.set_title(fixed, loc="left", fontsize=11)
    axes.set_xlabel(LABELS[series.axis])
    axes.set_ylabel("training step (ms)")
    axes.set_xlim(*ends)
    axes.set_ylim(bottom=0)
    axes.set_xticks(ticks_of(series.xs))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="upper left", frameon=False, handlelength=1.5)

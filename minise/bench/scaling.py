"""`minise bench scaling`: what a training step costs against depth, and against the batch.

Every residual unit multiplies as often as the one before it (a stage halves the images' sides and
doubles the channels), and every image as every other; so both costs ought to be straight lines,
with what does not grow as their intercept: the first and last layers, or the optimiser and Python
between the calls. A bend would be a cache that no longer holds, or work that grows faster than it
ought to.

All points take turns in one process, forward and backward by rounds, so that a machine which slows
down does so for all of them.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from minise import models
from minise.bench.contestants import Run, step_of
from minise.bench.figures import Choice, Round, Spread, Turn, choose, spread, turn_medians
from minise.bench.load import read, taken
from minise.bench.settings import Dtype, Settings, check_file
from minise.bench.threads import check_threads, default_threads, ops_with
from minise.bench.works import images_of
from minise.ops.checks import check_choice, check_integer

TURN = 0.4  # seconds of runs in a turn; one run at least
LEAST = 3  # points of a line: through two of them there always is one
DRAWN = (".png", ".svg")


@dataclass(frozen=True)
class ScalingSettings:
    """Time training steps against depth and against batch size, and lay straight lines through.

    Example: minise bench scaling --depths 8 20 32 --batches 1 2 4 --batch 2 --rounds 2
    """

    depths: tuple[int, ...] = (20, 32, 56, 110)
    """Of SE-ResNets, at one batch size."""
    batch: int = 128
    """That batch size: images of 32 x 32."""
    batches: tuple[int, ...] = (16, 32, 64, 128, 256, 512)
    """Batch sizes, at one depth."""
    depth: int = 20
    """That depth."""
    reduction: int = 16
    """Of the SE blocks."""
    threads: int = field(default_factory=default_threads)
    """For the back end and for BLAS."""
    dtype: Dtype = "float32"
    """Of all arrays."""
    rounds: int = 9
    """How often each point has its turn."""
    json: Path | None = None
    """Write every figure to this file."""
    plot: Path | None = None
    """Draw points and lines to this file, .png or .svg (needs Matplotlib)."""
    ops: str = "jit"
    """Back end: its name, a module such as my_package.my_ops, or a file."""

    def __post_init__(self) -> None:
        """Refuse what cannot be measured."""
        for name in ("batch", "depth", "reduction", "rounds"):
            check_integer("bench scaling", name, getattr(self, name), 1)
        for name in ("depths", "batches"):
            values = getattr(self, name)
            for value in values:
                check_integer("bench scaling", name, value, 1)
            if len(set(values)) < LEAST:
                raise ValueError(
                    f"bench scaling: {name} is {values}, expected at least {LEAST} different "
                    "ones: a line through fewer says nothing"
                )
        check_threads("bench scaling", self.threads)
        check_file("bench scaling", "json", self.json)
        check_file("bench scaling", "plot", self.plot)
        if self.plot is not None:
            check_choice("bench scaling", "plot's suffix", self.plot.suffix, DRAWN)


class Point(NamedTuple):
    """A net and a batch size."""

    depth: int
    batch: int

    @property
    def name(self) -> str:
        """What it is called in a round."""
        return f"{self.net}, batch {self.batch}"

    @property
    def net(self) -> str:
        """The net's name."""
        return f"se_resnet{self.depth}"


class Line(NamedTuple):
    """A straight line by least squares: y = slope * x + intercept."""

    slope: float
    intercept: float
    r2: float  # share of the variance of y that it explains

    def at(self, x: float) -> float:
        """Return y."""
        return self.slope * x + self.intercept


@dataclass(frozen=True)
class Series:
    """Points along one axis, what a step took at each, and the line through them."""

    axis: str  # "depth" or "batch"
    points: list[Point]
    ms: list[Spread]
    line: Line

    @property
    def xs(self) -> list[int]:
        """The points' places on the axis."""
        return [getattr(point, self.axis) for point in self.points]

    @property
    def off(self) -> list[float]:
        """How far each time lies above the line, as a share of that time."""
        return [
            (one.median - self.line.at(x)) / one.median
            for x, one in zip(self.xs, self.ms, strict=True)
        ]


class Scaling(NamedTuple):
    """The outcome."""

    series: list[Series]
    rounds: list[Round]  # by names of points
    choice: Choice


def prepare(settings: ScalingSettings) -> dict[Point, Run]:
    """Return for every point a function that does a step; nets of one depth are one net.

    Raises
    ------
    ValueError, TypeError, ImportError
        If there is no such back end, or no net of such a depth.
    """
    ops = ops_with(settings.ops, settings.threads)
    nets: dict[int, Any] = {}
    steps = {}
    for point in dict.fromkeys(point for points in _axes(settings).values() for point in points):
        of_step = Settings(
            net=point.net, reduction=settings.reduction, batch=point.batch,
            threads=settings.threads, dtype=settings.dtype, ops=settings.ops,
        )  # fmt: skip
        if point.depth not in nets:
            nets[point.depth] = models.build(point.net, ops=ops, **of_step.net_settings)
        steps[point] = step_of(nets[point.depth], ops, *images_of(of_step))
    return steps


def measure(
    settings: ScalingSettings, steps: dict[Point, Run], progress: Callable[[str], None]
) -> Scaling:
    """Do every step once, then let them take turns, and fit the lines."""
    rounds: list[Round] = []
    with threadpool_limits(settings.threads, "blas"):
        for point, step in steps.items():
            progress(f"{point.name} gets ready")
            step()  # compiles, and touches the memory
        for k in range(settings.rounds):
            turns = {}
            for point in list(steps) if k % 2 == 0 else reversed(steps):
                progress(f"round {k + 1} of {settings.rounds}: {point.name}")
                turns[point.name] = _turn(steps[point])
            rounds.append(turns)
    choice = choose(rounds)
    kept = [rounds[i] for i in choice.kept]
    series = [series_of(axis, points, kept) for axis, points in _axes(settings).items()]
    return Scaling(series, rounds, choice)


def series_of(axis: str, points: list[Point], rounds: Sequence[Round]) -> Series:
    """Return what rounds say of points along an axis."""
    ms = [spread([1000 * s for s in turn_medians(rounds, point.name)]) for point in points]
    xs = [getattr(point, axis) for point in points]
    return Series(axis, points, ms, fit(xs, [one.median for one in ms]))


def fit(xs: Iterable[float], ys: Iterable[float]) -> Line:
    """Return the line by least squares.

    Examples
    --------
    >>> line = fit([1, 2, 3, 4], [5, 7, 9, 11])
    >>> round(line.slope, 9), round(line.intercept, 9), round(line.r2, 9)
    (2.0, 3.0, 1.0)
    """
    x, y = np.array([*xs], float), np.array([*ys], float)
    dx, dy = x - x.mean(), y - y.mean()
    slope = (dx @ dy) / (dx @ dx)
    rest = dy - slope * dx
    total = dy @ dy
    r2 = 1 - (rest @ rest) / total if total else 1.0
    return Line(float(slope), float(y.mean() - slope * x.mean()), float(r2))


def _axes(settings: ScalingSettings) -> dict[str, list[Point]]:
    depths, batches = sorted(set(settings.depths)), sorted(set(settings.batches))
    return {
        "depth": [Point(depth, settings.batch) for depth in depths],
        "batch": [Point(settings.depth, batch) for batch in batches],
    }


def _turn(step: Run) -> Turn:
    start = read([])
    seconds: list[float] = []
    while not seconds or sum(seconds) < TURN:
        before = time.perf_counter()
        step()
        seconds.append(time.perf_counter() - before)
    return Turn(seconds, None, taken(start, read([])))

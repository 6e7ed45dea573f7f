"""`minise bench conv-ladder`: every rung of ladder.py, timed on a stage of ResNet-20."""

import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Literal, NamedTuple

import numpy as np
from rich.console import Group
from threadpoolctl import threadpool_limits

from minise.bench.figures import meanwhile
from minise.bench.ladder import RUNGS, Rung
from minise.bench.load import read, taken
from minise.bench.report import framed, millis, plain_table, short
from minise.bench.threads import check_threads, default_threads
from minise.ops.checks import Array, check_integer

STAGES = {1: (16, 32), 2: (32, 16), 3: (64, 8)}  # channels, rows and columns
TINY = (1, 4, 8)  # images, channels, rows and columns: what pure Python is timed on
KERNEL, MACS_OF_KERNEL = (3, 3), 9
ENOUGH = 1.0  # seconds of runs, but three at least


@dataclass(frozen=True)
class LadderSettings:
    """Time one 3x3 convolution written ten times: from loops in Python to Winograd's algorithm.

    Example: minise bench conv-ladder --batch 4
    """

    stage: Literal[1, 2, 3] = 2
    """Of ResNet-20: 16 channels of 32x32, 32 channels of 16x16, or 64 channels of 8x8."""
    batch: int = 128
    """Images."""
    threads: int = field(default_factory=default_threads)
    """Of the rungs that use more than one."""

    def __post_init__(self) -> None:
        """Refuse what cannot be timed."""
        check_integer("bench conv-ladder", "batch", self.batch, 1)
        check_threads("bench conv-ladder", self.threads)


class Timed(NamedTuple):
    """How long a rung takes."""

    rung: Rung
    seconds: float
    flops: float  # 2 * MACs in a second
    scaled: bool  # whether it was timed on TINY


def climb(settings: LadderSettings) -> tuple[list[Timed], float | None]:
    """Time every rung, without its compilation; return also how many cores others took."""
    channels, size = STAGES[settings.stage]
    before = read([])
    with threadpool_limits(settings.threads, "blas"):
        shape = (settings.batch, channels, size)
        timed = [_time(rung, shape, settings.threads) for rung in RUNGS]
    return timed, taken(before, read([]))


def table_of(timed: list[Timed], others: float | None, settings: LadderSettings) -> Group:
    """Return the ladder as a table."""
    channels, size = STAGES[settings.stage]
    threads = "1 thread" if settings.threads == 1 else f"{settings.threads} threads"
    table = plain_table()
    for name in ("ms", "GFLOP/s", "times as fast"):
        table.add_column(name, justify="right")
    table.add_column("what it does")
    for one in timed:
        table.add_row(
            one.rung.name,
            millis(1000 * one.seconds) + ("*" if one.scaled else " "),
            short(one.flops / 1e9),
            short(timed[0].seconds / one.seconds),
            (one.rung.forward.__doc__ or "").partition("\n")[0],
        )
    return framed(
        f"3x3 convolution, {channels} to {channels} channels, {settings.batch} images of "
        f"{size}x{size}, float32, {threads}",
        table,
        "GFLOP/s: a multiply-accumulate counts as two. * timed on one image of "
        f"{TINY[2]}x{TINY[2]} with {TINY[1]} channels, and scaled by the multiply-accumulates.\n"
        + meanwhile(others),
    )


def _time(rung: Rung, shape: tuple[int, int, int], threads: int) -> Timed:
    scaled = rung.name == "python_loops"
    x, weight = _inputs(TINY if scaled else shape, rung.channels_last)
    where: dict[str, Any] = {"stride": (1, 1), "padding": (1, 1), "threads": threads}
    rung.forward(x, weight, **where)  # compiles, and touches the memory
    seconds: list[float] = []
    while len(seconds) < 3 or sum(seconds) < ENOUGH:
        start = time.perf_counter()
        rung.forward(x, weight, **where)
        seconds.append(time.perf_counter() - start)
    rate = 2 * _macs(TINY if scaled else shape) / median(seconds)
    return Timed(rung, 2 * _macs(shape) / rate, rate, scaled)


def _inputs(shape: tuple[int, int, int], channels_last: bool) -> tuple[Array, Array]:
    """Return images (N, C, H, H), in memory as the rung likes them, and as many filters."""
    N, C, H = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, C, H, H)).astype(np.float32)
    weight = rng.standard_normal((C, C, *KERNEL)).astype(np.float32)
    if channels_last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return x, weight


def _macs(shape: tuple[int, int, int]) -> int:
    N, C, H = shape
    return N * C * C * H * H * MACS_OF_KERNEL

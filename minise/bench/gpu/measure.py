"""Everything that `minise bench cuda` measures, in order, row by row, within a time limit.

What goes wrong in one row (a peer that is not installed, memory that does not suffice) is said in
that row; the others go on.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from minise.bench.gpu import ours
from minise.bench.gpu.clock import sets_of_buffers
from minise.bench.gpu.settings import CudaSettings
from minise.bench.gpu.works import PASSES, Shape, floor_us, shapes
from minise.bench.works import SE, TAIL, title

OPS = {"se": SE, "tail": TAIL}
NET, BATCHES = "se_resnet20", (128, 512)
PRECISIONS = ("fp32", "tf32", "bf16")


@dataclass
class Row:
    """One way of doing one work."""

    work: str
    batch: int
    way: str
    launched: str  # "launched" from Python, or in a "graph"
    forward_us: float | None = None
    both_us: float | None = None  # forward and backward; of a step all of it
    floor_us: float | None = None  # what its bytes take, forward and backward, at copy's bandwidth
    error: float | None = None  # against float64
    problem: str = ""


@dataclass
class Found:
    """All that was measured."""

    gpu: str
    copy_gb_s: float = 0.0
    launch_us: float = 0.0
    graph_launch_us: float = 0.0
    rows: list[Row] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)  # for want of time

    @property
    def wrong(self) -> list[Row]:
        """Rows whose results are further from float64's than they may be."""
        return [row for row in self.rows if row.error is not None and not row.error <= ours.LIMIT]

    def as_dict(self) -> dict[str, Any]:
        """Return everything as JSON takes it."""
        return asdict(self)


class Measurement:
    """Measures on one GPU: ops are the cuda back end, clock times its kernels."""

    def __init__(self, settings: CudaSettings, ops: Any, clock: Any, gpu: str) -> None:
        self.settings, self.ops, self.clock = settings, ops, clock
        self.found = Found(gpu)
        self.end = time.monotonic() + settings.seconds

    def run(self, saw: Callable[[str, Found], None]) -> Found:
        """Measure everything; saw is told what comes next, and of all that was found so far."""
        saw("copying memory", self.found)
        self.found.copy_gb_s = self.clock.copy_bandwidth()
        self.found.launch_us, self.found.graph_launch_us = self.clock.launch_cost()
        for name, row, measure in self._plan():
            if time.monotonic() > self.end:
                self.found.left_out.append(name)
                continue
            saw(name, self.found)
            try:
                measure(row)
            except Exception as error:  # of CuPy, PyTorch or CUDA, which have classes of their own
                row.problem = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
            self.found.rows.append(row)
        saw("", self.found)
        return self.found

    def _plan(self) -> Iterator[tuple[str, Row, Callable[[Row], None]]]:
        """Yield the name of every row, the row, and what fills it."""
        for shape in shapes():
            for what, op in OPS.items():
                if what in self.settings.what:
                    yield from self._op_rows(op, shape)
        if "step" in self.settings.what:
            yield from self._step_rows()

    def _op_rows(self, op: str, shape: Shape) -> Iterator[tuple[str, Row, Callable[[Row], None]]]:
        work = title(shape.work(op))
        for way in ours.ways_of(self.ops, op, shape):
            for how in ("launched", "graph"):
                row = Row(work, shape.N, f"minise, {way.name}", how)
                yield _name(row), row, self._own(way, op, shape)
        for peer in self.settings.against:
            row = Row(work, shape.N, peer, "graph" if peer == "torch-graph" else "launched")
            yield _name(row), row, self._peer(peer, op, shape)

    def _own(self, way: ours.Way, op: str, shape: Shape) -> Callable[[Row], None]:
        def measure(row: Row) -> None:
            row.floor_us = floor_us(sum(PASSES[op, way.name]), shape.bytes, self.found.copy_gb_s)
            row.error = ours.error_of(way.ops, op, shape)
            calls = ours.calls_of(way.ops, shape.work(op), self._sets(shape))
            clock = self.clock.graphed if row.launched == "graph" else self.clock.launched
            row.forward_us, row.both_us = (clock(one) for one in calls)

        return measure

    def _peer(self, peer: str, op: str, shape: Shape) -> Callable[[Row], None]:
        def measure(row: Row) -> None:
            from minise.bench.gpu import peers  # PyTorch need not be there

            work, sets = shape.work(op), self._sets(shape)
            timing = peers.op_times(peer, work, sets, self.settings.rounds)
            row.forward_us, row.both_us = timing

        return measure

    def _step_rows(self) -> Iterator[tuple[str, Row, Callable[[Row], None]]]:
        for batch in BATCHES:
            row = Row(f"training step of {NET}", batch, "minise", "launched")
            yield _name(row), row, self._own_step(batch)
            for precision in PRECISIONS if self.settings.against else ():
                for how in ("launched", "graph"):
                    row = Row(f"training step of {NET}", batch, f"torch, {precision}", how)
                    yield _name(row), row, self._peer_step(precision, batch)

    def _own_step(self, batch: int) -> Callable[[Row], None]:
        def measure(row: Row) -> None:
            row.both_us = self.clock.launched([ours.training_step(self.ops, batch, NET)])

        return measure

    def _peer_step(self, precision: str, batch: int) -> Callable[[Row], None]:
        def measure(row: Row) -> None:
            from minise.bench.gpu import peers

            rounds, graph = self.settings.rounds, row.launched == "graph"
            row.both_us = peers.step_time(precision, graph, batch, rounds, NET)

        return measure

    def _sets(self, shape: Shape) -> int:
        return sets_of_buffers(2 * shape.bytes, self.clock.cache_bytes())


def _name(row: Row) -> str:
    return f"{row.work}, batch {row.batch}: {row.way}, {row.launched}"

"""`minise bench cuda`: minise's kernels beside PyTorch's, row by row, within a time limit.

What goes wrong in one row (a peer that is not installed, too little memory) is said in that row;
the others are measured nevertheless.

The floor of an op is the time in which the GPU copies as many bytes as the op has to move. The unit
below is S, the bytes of x. Arrays without an axis of pixels are left out, as they are small.

    squeeze_excite    forward    backward    in all
    simple            3          4           7
    tile              2          3           5        the least there can be
    eager PyTorch     3          10          13
    torch.compile     3          4           7

    se_block_tail     4          7           11
    eager PyTorch     10         20          30

Eager's and the compiler's are counted from the ops that PyTorch runs, one by one.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minise.bench.gpu_clock import Call, calls_on_buffers, sets_of_buffers
from minise.bench.peers import passes_of, relative_error, training_step
from minise.bench.result import LEFT_OUT, Result, Table, Task, run_tasks, short
from minise.bench.settings import CudaSettings
from minise.bench.workloads import SE, TAIL, Workload, gated_arrays_of, title
from minise.ops import reference
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.squeeze_excite import tile_bytes

OPS = {"se": SE, "tail": TAIL}
PASSES = {  # over arrays of x's size, forward and backward
    (SE, "simple"): (3, 4),
    (SE, "tile"): (2, 3),
    (TAIL, "fused"): (4, 7),
}
SIZEOF = 4  # float32
# C, H, R of SE-ResNet-20's three stages, and of SE-ResNet-50's last three
CIFAR = [(16, 32, 1), (32, 16, 2), (64, 8, 4)]
IMAGENET = [(512, 28, 32), (1024, 14, 64), (2048, 7, 128)]
CIFAR_BATCH, IMAGENET_BATCH = 128, 64
NET, BATCHES = "se_resnet20", (128, 512)
PRECISIONS = ("fp32", "tf32", "bf16")
CHECKED_IMAGES = 5  # in the comparison with float64
MAX_ERROR = 1e-5  # of ||error|| / ||expected||, for every result
BASES = {"torch": "eager", "torch-graph": "graph", "torch-compile": "compile"}
COLUMNS = ("fwd", "both", "of floor", *BASES.values(), "error")
NOTES = (
    "fwd, both: forward, and forward with backward, in us, the median of several rounds. floor: "
    "the time that the bytes which this way moves take where memory is copied. eager, graph, "
    "compile: PyTorch's time for both as a multiple of minise's. error: the largest ||error|| / "
    "||expected|| of all results against float64."
)


class Shape(NamedTuple):
    """A batch of square images, and the hidden units of their gates."""

    N: int
    C: int
    H: int
    R: int

    @property
    def bytes(self) -> int:
        """Bytes of x."""
        return SIZEOF * self.N * self.C * self.H * self.H

    def workload(self, op: str, N: int | None = None) -> Workload:
        """Return an op at this shape, or at another batch size."""
        size = {"C": self.C, "H": self.H, "W": self.H, "R": self.R}
        return {"kind": "op", "op": op, "N": self.N if N is None else N, **size}


def shapes() -> list[Shape]:
    """Return all shapes, small images first."""
    small = [Shape(CIFAR_BATCH, *sizes) for sizes in CIFAR]
    return small + [Shape(IMAGENET_BATCH, *sizes) for sizes in IMAGENET]


def floor_us(passes: int, size: int, gigabytes_per_second: float) -> float:
    """Return the microseconds of so many passes over size bytes at a bandwidth.

    Examples
    --------
    >>> floor_us(5, 100_000_000, 4000)
    125.0
    """
    return passes * size / gigabytes_per_second / 1e3


class Way(NamedTuple):
    """A way of doing an op."""

    name: str
    ops: Any


def ways_of(ops: Backend, op: str, shape: Shape) -> list[Way]:
    """Return the ways in which an op can be done at a shape; the last is the one that is chosen."""
    if op == TAIL:
        return [Way("fused", ops)]
    ways = [Way("simple", ops.using(squeeze_excite="simple"))]
    x = np.broadcast_to(np.float32(0), (1, shape.C, shape.H, shape.H))
    if tile_bytes(x, shape.R) <= ops.launcher.shared_limit():
        ways.append(Way("tile", ops))
    return ways


def calls_of(ops: Any, workload: Workload, sets: int) -> tuple[list[Call], list[Call]]:
    """Return calls that do an op forward, and forward and backward, each on its own buffers."""
    arrays = {name: ops.asarray(array) for name, array in gated_arrays_of(workload).items()}
    forward, backward = passes_of(ops, workload, np.float32)

    def both(inputs: list[Any], dout: Any) -> tuple[Any, Any]:
        out, cache = forward(*inputs)
        return out, backward(dout, cache)

    return calls_on_buffers(arrays, sets, forward, both)


def error_of(ops: Any, op: str, shape: Shape) -> float:
    """Return the largest ||error|| / ||expected|| of out and gradients against float64."""
    workload = shape.workload(op, CHECKED_IMAGES)
    arrays = gated_arrays_of(workload)
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    expected = _results(reference, workload, wide, np.float64)
    arrays = {name: ops.asarray(array) for name, array in arrays.items()}
    results = _results(ops, workload, arrays, np.float32)
    return max(relative_error(ops.asnumpy(a), b) for a, b in zip(results, expected, strict=True))


def _results(ops: Any, workload: Workload, arrays: dict[str, Any], dtype: Any) -> list[Any]:
    forward, backward = passes_of(ops, workload, dtype)
    out, cache = forward(*(array for name, array in arrays.items() if name != "dout"))
    return [out, *backward(arrays["dout"], cache)]


@dataclass
class Row:
    """One way of doing one workload."""

    work: str
    batch: int
    way: str
    launched: str  # "launched" from Python, or in a "graph"
    forward_us: float | None = None
    both_us: float | None = None  # forward and backward; the whole of a step
    floor_us: float | None = None  # of the bytes, forward and backward, at copy's bandwidth
    error: float | None = None  # against float64
    problem: str = ""

    @property
    def name(self) -> str:
        """The row in words."""
        return f"{self.work}, batch {self.batch}: {self.way}, {self.launched}"

    @property
    def wrong(self) -> bool:
        """Whether the results differ from float64's by more than they may."""
        return self.error is not None and not self.error <= MAX_ERROR


@dataclass
class Limits:
    """What the GPU itself reaches."""

    gpu: str
    copy_gb_s: float = 0.0
    launch_us: float = 0.0
    graph_launch_us: float = 0.0


class Measurement:
    """Measures on one GPU: ops are the cuda back end, clock times its kernels."""

    def __init__(self, settings: CudaSettings, ops: Any, clock: Any, gpu: str) -> None:
        self.settings, self.ops, self.clock = settings, ops, clock
        self.limits = Limits(gpu)
        self.rows: list[Row] = []
        self.left_out: list[str] = []  # for want of time

    def run(self, progress: Callable[[str], None]) -> None:
        """Measure everything, and write the file of the settings after every row."""
        progress("copying memory")
        self.limits.copy_gb_s = self.clock.copy_bandwidth()
        self.limits.launch_us, self.limits.graph_launch_us = self.clock.launch_cost()
        rows = dict[str, Row]()
        tasks = self._tasks(rows)
        for done in run_tasks(tasks, self.settings.seconds, progress):
            name, problem = done["name"], done.get("problem", "")
            if problem == LEFT_OUT:
                self.left_out.append(name)
                continue
            rows[name].problem = problem
            self.rows.append(rows[name])
            if self.settings.json is not None:
                self.result().write(self.settings.json)

    def result(self) -> Result:
        """Return what was measured so far."""
        summary = {**asdict(self.limits), "left_out": self.left_out}
        tables = [table_of(self.rows, self.limits, self.left_out)]
        rows = [asdict(row) for row in self.rows]
        return Result(self.settings.as_dict(), rows, summary, tables=tables)

    def _tasks(self, rows: dict[str, Row]) -> Iterator[Task]:
        """Yield a task for every row, and put the row that it fills into rows by name."""
        for row, fill in self._plan():
            rows[row.name] = row
            yield Task(row.name, partial(fill, row))

    def _plan(self) -> Iterator[tuple[Row, Callable[[Row], None]]]:
        """Yield every row, and the function that fills it."""
        for shape in shapes():
            for what, op in OPS.items():
                if what in self.settings.what:
                    yield from self._op_rows(op, shape)
        if "step" in self.settings.what:
            yield from self._step_rows()

    def _op_rows(self, op: str, shape: Shape) -> Iterator[tuple[Row, Callable[[Row], None]]]:
        work = title(shape.workload(op))
        for way in ways_of(self.ops, op, shape):
            for how in ("launched", "graph"):
                row = Row(work, shape.N, f"minise, {way.name}", how)
                yield row, partial(self._own_op, way, op, shape)
        for peer in self.settings.against:
            row = Row(work, shape.N, peer, "graph" if peer == "torch-graph" else "launched")
            yield row, partial(self._peer_op, op, shape)

    def _own_op(self, way: Way, op: str, shape: Shape, row: Row) -> None:
        passes = sum(PASSES[op, way.name])
        row.floor_us = floor_us(passes, shape.bytes, self.limits.copy_gb_s)
        row.error = error_of(way.ops, op, shape)
        calls = calls_of(way.ops, shape.workload(op), self._sets(shape))
        time = self.clock.graphed if row.launched == "graph" else self.clock.launched
        row.forward_us, row.both_us = map(time, calls)

    def _peer_op(self, op: str, shape: Shape, row: Row) -> None:
        from minise.bench.peers import pytorch  # PyTorch need not be there

        arguments = shape.workload(op), self._sets(shape), self.settings.rounds
        row.forward_us, row.both_us = pytorch.op_times(row.way, *arguments)

    def _step_rows(self) -> Iterator[tuple[Row, Callable[[Row], None]]]:
        for batch in BATCHES:
            work = f"training step of {NET}"
            yield Row(work, batch, "minise", "launched"), self._own_step
            for precision in PRECISIONS if self.settings.against else ():
                for how in ("launched", "graph"):
                    row = Row(work, batch, f"torch, {precision}", how)
                    yield row, partial(self._peer_step, precision)

    def _own_step(self, row: Row) -> None:
        row.both_us = self.clock.launched([training_step(self.ops, row.batch, NET)])

    def _peer_step(self, precision: str, row: Row) -> None:
        from minise.bench.peers import pytorch

        graph, rounds = row.launched == "graph", self.settings.rounds
        row.both_us = pytorch.step_time(precision, graph, row.batch, rounds, NET)

    def _sets(self, shape: Shape) -> int:
        return sets_of_buffers(2 * shape.bytes, self.clock.cache_bytes())


def table_of(rows: list[Row], limits: Limits, left_out: list[str]) -> Table:
    """Return everything as one table, workload by workload."""
    cells: list[list[str]] = []
    heading = ""
    for row in rows:
        if (row_heading := f"{row.work}, batch {row.batch}") != heading:
            heading = row_heading
            cells += [[], [heading]]
        cells.append(_cells(row, rows))
    return Table(
        f"{limits.gpu}; copies {limits.copy_gb_s:.0f} GB/s; a launch costs "
        f"{limits.launch_us:.1f} us from Python, {limits.graph_launch_us:.1f} us in a graph",
        COLUMNS,
        cells,
        NOTES + (f"\nleft out, for want of time: {'; '.join(left_out)}" if left_out else ""),
    )


def _cells(row: Row, rows: list[Row]) -> list[str]:
    name = f"  {row.way}, {row.launched}"
    if row.problem:
        return [f"{name}: {row.problem}"]
    times = ["" if us is None else short(us) for us in (row.forward_us, row.both_us)]
    of_floor = f"{row.floor_us / row.both_us:.0%}" if row.floor_us and row.both_us else ""
    ratios = [_ratio(row, rows, peer) for peer in BASES]
    error = "" if row.error is None else f"{row.error:.0e}"
    return [name, *times, of_floor, *ratios, error]


def _ratio(row: Row, rows: list[Row], peer: str) -> str:
    """Return the time of a peer as a multiple of minise's, for the same workload."""
    if not row.way.startswith("minise") or not row.both_us:
        return ""
    for other in rows:
        same = (other.work, other.batch) == (row.work, row.batch)
        if same and other.way == peer and other.both_us:
            return f"{other.both_us / row.both_us:.2f}"
    return ""

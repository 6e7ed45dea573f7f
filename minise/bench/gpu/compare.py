"""`minise bench cuda`: minise's kernels against PyTorch, within a time limit.

A failure in one row (a peer that is not installed, out of memory) is reported in that row and does
not stop the others.

The floor of an op is a lower bound on its time: the number of bytes that the op reads and writes,
divided by the bandwidth of a copy. The table lists these bytes in units of the size of x. Arrays
without a pixel axis are small and not counted.

    squeeze_excite    forward    backward    total
    simple            3          4           7
    tile              2          3           5        the minimum
    eager PyTorch     3          10          13
    torch.compile     3          4           7

    se_block_tail     4          7           11
    eager PyTorch     10         20          30

The numbers of eager PyTorch and torch.compile are counted from the ops that PyTorch executes.
"""

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minise.bench.gpu_clock import Call, buffer_set_count, calls_on_buffers
from minise.bench.peers import forward_and_backward_of, relative_error, training_step
from minise.bench.result import SKIPPED, Result, Table, Task, format_number, run_tasks
from minise.bench.settings import CudaSettings
from minise.bench.workloads import SE, TAIL, Workload, gated_arrays_of, title
from minise.ops import reference
from minise.ops.cuda.backend import Backend
from minise.ops.cuda.squeeze_excite import tile_bytes

OPS = {"se": SE, "tail": TAIL}
PASSES = {  # arrays of the size of x read or written: (forward, backward)
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
MAX_ERROR = 1e-5  # bound on ||error|| / ||expected|| of every result
PEER_COLUMNS = {"torch": "eager", "torch-graph": "graph", "torch-compile": "compile"}
COLUMNS = ("fwd", "both", "of floor", *PEER_COLUMNS.values(), "error")
COLUMN_NOTES = (
    "fwd, both: time of forward, and of forward + backward, in us, median of several rounds. "
    "of floor: floor / both, where the floor is a lower bound on the time: the bytes that the "
    "implementation reads and writes, at the bandwidth of a copy. eager, graph, compile: PyTorch's "
    "time for both as a multiple of minise's. error: the largest ||error|| / ||expected|| of all "
    "results against float64."
)


class Shape(NamedTuple):
    """Shape of a batch of square images, and number of hidden units of the gate."""

    N: int
    C: int
    H: int
    R: int

    @property
    def bytes(self) -> int:
        """Size of x in bytes."""
        return SIZEOF * self.N * self.C * self.H * self.H

    def workload(self, op: str, N: int | None = None) -> Workload:
        """Return the workload of an op at this shape, or at another batch size N."""
        size = {"C": self.C, "H": self.H, "W": self.H, "R": self.R}
        return {"kind": "op", "op": op, "N": self.N if N is None else N, **size}


def shapes() -> list[Shape]:
    """Return all shapes, small images first."""
    cifar = [Shape(CIFAR_BATCH, *sizes) for sizes in CIFAR]
    return cifar + [Shape(IMAGENET_BATCH, *sizes) for sizes in IMAGENET]


def floor_us(passes: int, size: int, gigabytes_per_second: float) -> float:
    """Return the time in microseconds of a number of passes over size bytes at a bandwidth.

    Examples
    --------
    >>> floor_us(5, 100_000_000, 4000)
    125.0
    """
    return passes * size / gigabytes_per_second / 1e3


class Variant(NamedTuple):
    """A variant of minise's kernels for an op."""

    name: str
    ops: Any


def variants_of(ops: Backend, op: str, shape: Shape) -> list[Variant]:
    """Return the variants of an op that support a shape; the last one is the default."""
    if op == TAIL:
        return [Variant("fused", ops)]
    variants = [Variant("simple", ops.using(squeeze_excite="simple"))]
    x = np.broadcast_to(np.float32(0), (1, shape.C, shape.H, shape.H))
    if tile_bytes(x, shape.R) <= ops.launcher.shared_limit():
        variants.append(Variant("tile", ops))
    return variants


def calls_of(ops: Any, workload: Workload, sets: int) -> tuple[list[Call], list[Call]]:
    """Return calls of an op forward, and forward and backward, each on its own buffers."""
    arrays = {name: ops.asarray(array) for name, array in gated_arrays_of(workload).items()}
    forward, backward = forward_and_backward_of(ops, workload, np.float32)

    def forward_backward(inputs: list[Any], dout: Any) -> tuple[Any, Any]:
        out, cache = forward(*inputs)
        return out, backward(dout, cache)

    return calls_on_buffers(arrays, sets, forward, forward_backward)


def error_of(ops: Any, op: str, shape: Shape) -> float:
    """Return the largest ||error|| / ||expected|| of output and gradients against float64."""
    workload = shape.workload(op, CHECKED_IMAGES)
    arrays = gated_arrays_of(workload)
    arrays64 = {name: array.astype(np.float64) for name, array in arrays.items()}
    expected = _results(reference, workload, arrays64, np.float64)
    arrays = {name: ops.asarray(array) for name, array in arrays.items()}
    results = _results(ops, workload, arrays, np.float32)
    return max(relative_error(ops.asnumpy(a), b) for a, b in zip(results, expected, strict=True))


def _results(ops: Any, workload: Workload, arrays: dict[str, Any], dtype: Any) -> list[Any]:
    forward, backward = forward_and_backward_of(ops, workload, dtype)
    out, cache = forward(*(array for name, array in arrays.items() if name != "dout"))
    return [out, *backward(arrays["dout"], cache)]


@dataclass
class Row:
    """Measurements of one implementation of one workload; the fields are keys in result files."""

    work: str  # title of the workload
    batch: int
    way: str  # the implementation
    launched: str  # "launched" from Python, or "graph"
    forward_us: float | None = None
    both_us: float | None = None  # forward and backward, or a training step
    floor_us: float | None = None  # lower bound on both_us
    error: float | None = None  # largest, against float64
    problem: str = ""

    @property
    def name(self) -> str:
        """Workload, batch size, implementation and mode of launch as text."""
        return f"{self.work}, batch {self.batch}: {self.way}, {self.launched}"

    @property
    def wrong(self) -> bool:
        """True if the error against float64 exceeds MAX_ERROR."""
        return self.error is not None and not self.error <= MAX_ERROR


@dataclass
class Limits:
    """Limits of the GPU: bandwidth of a copy, and time of an empty kernel."""

    gpu: str
    copy_gb_s: float = 0.0
    launch_us: float = 0.0
    graph_launch_us: float = 0.0


class Measurement:
    """The measurements of `minise bench cuda`.

    Parameters
    ----------
    settings : CudaSettings
        Workloads, peers, number of timings and time limit.
    ops : Backend
        The cuda back end.
    clock : Clock
        Times kernels of the back end.
    gpu : str
        Description of the GPU.
    """

    def __init__(self, settings: CudaSettings, ops: Any, clock: Any, gpu: str) -> None:
        self.settings, self.ops, self.clock = settings, ops, clock
        self.limits = Limits(gpu)
        self.rows: list[Row] = []
        self.left_out: list[str] = []  # names of skipped rows: the time limit was reached

    def run(self, progress: Callable[[str], None]) -> None:
        """Measure everything, and write the JSON file of the settings after every row."""
        progress("copying memory")
        self.limits.copy_gb_s = self.clock.copy_bandwidth()
        self.limits.launch_us, self.limits.graph_launch_us = self.clock.launch_cost()
        rows = dict[str, Row]()
        tasks = self._tasks(rows)
        for done in run_tasks(tasks, self.settings.seconds, progress):
            name, problem = done["name"], done.get("problem", "")
            if problem == SKIPPED:
                self.left_out.append(name)
                continue
            rows[name].problem = problem
            self.rows.append(rows[name])
            if self.settings.json is not None:
                self.result().write(self.settings.json)

    def result(self) -> Result:
        """Return the result of the measurements so far."""
        summary = {**asdict(self.limits), "left_out": self.left_out}
        tables = [table_of(self.rows, self.limits, self.left_out)]
        rows = [asdict(row) for row in self.rows]
        return Result(self.settings.as_dict(), rows, summary, tables=tables)

    def _tasks(self, rows: dict[str, Row]) -> Iterator[Task]:
        """Yield a task for every row, and add the row that the task fills to rows by name."""
        for row, fill in self._plan():
            rows[row.name] = row
            yield Task(row.name, partial(fill, row))

    def _plan(self) -> Iterator[tuple[Row, Callable[[Row], None]]]:
        """Yield every row with the function that fills it."""
        for shape in shapes():
            for what, op in OPS.items():
                if what in self.settings.what:
                    yield from self._op_rows(op, shape)
        if "step" in self.settings.what:
            yield from self._step_rows()

    def _op_rows(self, op: str, shape: Shape) -> Iterator[tuple[Row, Callable[[Row], None]]]:
        label = title(shape.workload(op))
        for variant in variants_of(self.ops, op, shape):
            for mode in ("launched", "graph"):
                row = Row(label, shape.N, f"minise, {variant.name}", mode)
                yield row, partial(self._minise_op, variant, op, shape)
        for peer in self.settings.against:
            row = Row(label, shape.N, peer, "graph" if peer == "torch-graph" else "launched")
            yield row, partial(self._peer_op, op, shape)

    def _minise_op(self, variant: Variant, op: str, shape: Shape, row: Row) -> None:
        passes = sum(PASSES[op, variant.name])
        row.floor_us = floor_us(passes, shape.bytes, self.limits.copy_gb_s)
        row.error = error_of(variant.ops, op, shape)
        calls = calls_of(variant.ops, shape.workload(op), self._sets(shape))
        time = self.clock.time_in_graph if row.launched == "graph" else self.clock.time_launched
        row.forward_us, row.both_us = map(time, calls)

    def _peer_op(self, op: str, shape: Shape, row: Row) -> None:
        from minise.bench.peers import pytorch  # PyTorch is optional

        arguments = shape.workload(op), self._sets(shape), self.settings.rounds
        row.forward_us, row.both_us = pytorch.op_times(row.way, *arguments)

    def _step_rows(self) -> Iterator[tuple[Row, Callable[[Row], None]]]:
        for batch in BATCHES:
            label = f"training step of {NET}"
            for implementation, tf32 in (("minise, fp32", False), ("minise, tf32", True)):
                row = Row(label, batch, implementation, "launched")
                yield row, partial(self._minise_step, tf32)
            for precision in PRECISIONS if self.settings.against else ():
                for mode in ("launched", "graph"):
                    row = Row(label, batch, f"torch, {precision}", mode)
                    yield row, partial(self._peer_step, precision)

    def _minise_step(self, tf32: bool, row: Row) -> None:
        ops = self.ops.using(tf32=tf32)
        row.both_us = self.clock.time_launched([training_step(ops, row.batch, NET)])

    def _peer_step(self, precision: str, row: Row) -> None:
        from minise.bench.peers import pytorch

        graph, rounds = row.launched == "graph", self.settings.rounds
        row.both_us = pytorch.step_time(precision, graph, row.batch, rounds, NET)

    def _sets(self, shape: Shape) -> int:
        return buffer_set_count(2 * shape.bytes, self.clock.cache_bytes())


def table_of(rows: list[Row], limits: Limits, left_out: list[str]) -> Table:
    """Return all rows as one table, grouped by workload."""
    cells: list[list[str]] = []
    heading = ""
    for row in rows:
        if (row_heading := f"{row.work}, batch {row.batch}") != heading:
            heading = row_heading
            cells += [[], [heading]]
        cells.append(_cells(row, rows))
    return Table(
        f"{limits.gpu}; copies {limits.copy_gb_s:.0f} GB/s; a kernel launch takes "
        f"{limits.launch_us:.1f} us from Python, {limits.graph_launch_us:.1f} us in a graph",
        COLUMNS,
        cells,
        COLUMN_NOTES + (f"\nskipped (time limit): {'; '.join(left_out)}" if left_out else ""),
    )


def _cells(row: Row, rows: list[Row]) -> list[str]:
    name = f"  {row.way}, {row.launched}"
    if row.problem:
        return [f"{name}: {row.problem}"]
    times = ["" if us is None else format_number(us) for us in (row.forward_us, row.both_us)]
    of_floor = f"{row.floor_us / row.both_us:.0%}" if row.floor_us and row.both_us else ""
    ratios = [_ratio(row, rows, peer) for peer in PEER_COLUMNS]
    error = "" if row.error is None else f"{row.error:.0e}"
    return [name, *times, of_floor, *ratios, error]


def _ratio(row: Row, rows: list[Row], peer: str) -> str:
    """Return the time of a peer as a multiple of minise's for the same workload, or ""."""
    if not row.way.startswith("minise") or not row.both_us:
        return ""
    for other in rows:
        same = (other.work, other.batch) == (row.work, row.batch)
        if same and other.way == peer and other.both_us:
            return f"{other.both_us / row.both_us:.2f}"
    return ""

"""`minise profile`: time of every op of a training step against a roofline model.

Times are measured by minise.ops.wrap, a back end around the back end, so the net is not changed. An
additional step, before the timed ones, records the cost of each op: its multiply-accumulates
(MACs), and the bytes of the arrays that it reads and writes, each counted once.

The floor of an op, a lower bound on its time, is the larger of two times: its MACs at the rate of a
large matrix product, and its bytes at the bandwidth of a large copy. Both rates are measured here,
with NumPy. An op can be faster than its floor if its arrays are still in a cache, or if its
algorithm needs fewer multiplications than the definition (Winograd's).

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures", Communications of the ACM 52 (2009).
"""

import copy
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from minise.bench.machine import cores_used_by_others, read_clocks
from minise.bench.net_settings import ProfileSettings
from minise.bench.peers import training_step_of
from minise.bench.result import Result, Table, format_ms, format_number
from minise.bench.rounds import describe_load, time_repeatedly
from minise.bench.workloads import batch_of
from minise.checks import Array
from minise.nn import Layer
from minise.ops.cost.counts import macs
from minise.ops.cost.traffic import bytes_moved
from minise.ops.wrap import FORWARD, Call, Timing, Wrapper, attach, timed

Key = tuple[str, str, str]  # layer, op, direction
LOSS = "(loss)"  # layer name of the loss
MATRIX_SIDE = 1536  # large enough for the full rate; 0.1 s on one core
COPY_BYTES = 128 * 2**20  # larger than any cache
RATE_RUNS = 5  # the fastest is used: other processes can only slow a run down
MIN_FLOOR_SECONDS = 1e-5  # below, call overhead dominates, and no ratio is shown
SHARE_COLUMNS = ("share", "floor ms", "times\nfloor")


class Rates(NamedTuple):
    """Rates of the machine."""

    macs: float  # multiply-accumulates per second of a large matrix product
    bytes: float  # bytes per second of a large copy, reads and writes added

    def floor(self, macs: float, moved: float) -> float:
        """Return a lower bound on the seconds for a number of MACs and of bytes moved.

        Examples
        --------
        >>> Rates(macs=100, bytes=10).floor(50, 20)
        2.0
        """
        return max(macs / self.macs, moved / self.bytes)


def measure_rates(threads: int, dtype: str) -> Rates:
    """Return both rates, measured with a number of threads."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, MATRIX_SIDE, MATRIX_SIDE)).astype(dtype)
    out = np.empty_like(a)
    source, target = np.ones(COPY_BYTES, np.uint8), np.zeros(COPY_BYTES, np.uint8)
    pairs = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))

    def copy_pair(pair: tuple[Array, Array]) -> None:
        np.copyto(pair[1], pair[0])  # releases the GIL, so that threads copy in parallel

    with threadpool_limits(threads, "blas"), ThreadPoolExecutor(threads) as pool:
        product = _fastest(lambda: np.matmul(a, b, out=out))
        copying = _fastest(lambda: list(pool.map(copy_pair, pairs)))
    return Rates(MATRIX_SIDE**3 / product, 2 * COPY_BYTES / copying)


def _fastest(run: Callable[[], object]) -> float:
    run()  # warm-up: wakes threads, and touches memory
    return min(time_repeatedly(run, 0, min_runs=RATE_RUNS))


class CallCost(NamedTuple):
    """Cost of one call."""

    macs: int
    moved: int  # bytes read and written


class Entry(NamedTuple):
    """Time and floor of one op in one layer and direction, per training step, in seconds."""

    layer: str
    op: str
    direction: str
    calls: int
    seconds: float
    floor: float


class Profile(NamedTuple):
    """Medians over training steps; medians of parts do not add up to the median of their sum."""

    entries: list[Entry]
    step: float  # seconds per step
    outside: float  # seconds per step outside of ops
    rates: Rates
    other_cores: float | None  # used by other processes; None if unknown

    @property
    def sum(self) -> float:
        """Sum of the parts of a step in seconds."""
        return self.outside + sum(entry.seconds for entry in self.entries)


class CostRecorder(Wrapper):
    """Records the cost of every call, without references to arrays.

    Backward needs twice the MACs of forward: once for the gradient of the input, once for the
    gradient of the weights.
    """

    def __init__(self, ops: Any) -> None:
        super().__init__(ops)
        self.costs: dict[Key, list[CallCost]] = {}
        self.forward_macs: dict[tuple[str, str], int] = {}

    def observe(self, call: Call) -> None:
        """Record the cost of a call."""
        if call.direction == FORWARD:
            count = self.forward_macs[call.layer, call.op] = macs(call)
        else:
            count = 2 * self.forward_macs.get((call.layer, call.op), 0)
        costs = self.costs.setdefault((call.layer, call.op, call.direction), [])
        costs.append(CallCost(count, bytes_moved(call)))


def prepare(settings: ProfileSettings) -> Layer:
    """Return the net.

    Raises
    ------
    ValueError, TypeError, ImportError
        If the net or its back end is unknown, or cannot be loaded.
    """
    return settings.build(settings.load_ops())


def profile(
    net: Layer, settings: ProfileSettings, batch: tuple[Array, Array] | None = None
) -> Profile:
    """Measure the rates of the machine, then training steps of a net.

    Parameters
    ----------
    net : Layer
        Any net from images to logits (N, classes). A copy is trained.
    settings : ProfileSettings
        Its net, ops and algorithm only appear in the headings of tables.
    batch : (inputs, labels), optional
        By default random images of settings.size, or of the net's own size, with the number of
        channels that the net expects.
    """
    net, ops = copy.deepcopy(net), net.ops
    images, labels = batch or batch_of(net, settings.batch, settings.size)
    with threadpool_limits(settings.threads, "blas"):
        start = read_clocks([])
        rates = measure_rates(settings.threads, settings.dtype)
        recorder, timer = CostRecorder(ops), timed(ops)
        attach(net, recorder)
        training_step_of(net, recorder.at(LOSS), images, labels)()
        attach(net, timer)
        step = training_step_of(net, timer.at(LOSS), images, labels)
        step()
        totals: list[float] = []
        parts: list[dict[Key, Timing]] = []
        for _ in range(settings.steps):
            timer.timings = {}
            before = time.perf_counter()
            step()
            totals.append(time.perf_counter() - before)
            parts.append(timer.timings)
        other_cores = cores_used_by_others(start, read_clocks([]))
    outside = median(total - _sum(part) for total, part in zip(totals, parts, strict=True))
    entries = list(_entries(parts, recorder.costs, rates))
    return Profile(entries, median(totals), outside, rates, other_cores)


def _entries(
    parts: list[dict[Key, Timing]], costs: dict[Key, list[CallCost]], rates: Rates
) -> Iterator[Entry]:
    for key, timing in parts[0].items():
        seconds = median(part[key].seconds for part in parts)
        floor = sum(rates.floor(*cost) for cost in costs[key])
        yield Entry(*key, timing.calls, seconds, floor)


def _sum(part: dict[Key, Timing]) -> float:
    return sum(timing.seconds for timing in part.values())


def result_of(profile: Profile, settings: ProfileSettings) -> Result:
    """Return the result: a table of the ops, and a table of the slowest layers."""
    summary = {
        "step_seconds": profile.step,
        "outside_seconds": profile.outside,
        "rates": profile.rates._asdict(),
        "others_cores": profile.other_cores,
    }
    rows = [entry._asdict() for entry in profile.entries]
    tables = [ops_table(profile, settings), layers_table(profile, settings)]
    return Result(settings.as_dict(), rows, summary, tables=tables)


def ops_table(profile: Profile, settings: ProfileSettings) -> Table:
    """Return a table with a row for each op and direction, the slowest first, and their sums."""
    rows: list[tuple[str, ...]] = []
    for (op, direction), entries in _grouped(profile, lambda e: (e.op, e.direction)):
        calls = sum(entry.calls for entry in entries)
        rows.append((op, direction, str(calls), *_cells(entries, profile)))
    share = f"{profile.outside / profile.sum:.1%}"
    rows += [
        (),
        ("all ops", "", "", *_cells(profile.entries, profile)),
        ("outside of ops", "", "", format_ms(1000 * profile.outside), share),
        ("step", "", "", format_ms(1000 * profile.sum), "100.0%"),
    ]
    return Table(
        f"a training step by ops: {settings.heading(settings.net)}, {settings.back_end}",
        ("direction", "calls", "ms", *SHARE_COLUMNS),
        rows,
        f"ms: median over the steps; a step took {format_ms(1000 * profile.step)} ms in total.\n"
        "floor: a lower bound on the time, the larger of the multiply-accumulates at the measured "
        f"rate of a large matrix product ({format_number(profile.rates.macs / 1e9)} billion per "
        "second) and the arrays read and written at the measured bandwidth of a large copy "
        f"({format_number(profile.rates.bytes / 1e9)} GB/s). An op can be faster if its arrays are "
        "still in a cache, or by Winograd's algorithm.\n"
        "outside of ops: the optimiser, and Python between the calls.\n"
        f"{describe_load(profile.other_cores)}",
        left=("direction",),
    )


def layers_table(profile: Profile, settings: ProfileSettings) -> Table:
    """Return a table with a row for each of the slowest layers."""
    grouped = _grouped(profile, lambda entry: (entry.layer, entry.op))
    count = min(settings.layers, len(grouped))
    rows: list[tuple[str, ...]] = []
    for (layer, op), entries in grouped[:count]:
        ms = {True: 0.0, False: 0.0}  # forward and backward
        for entry in entries:
            ms[entry.direction == FORWARD] += 1000 * entry.seconds
        _, *rest = _cells(entries, profile)
        rows.append((layer or "(net)", op, format_ms(ms[True]), format_ms(ms[False]), *rest))
    columns = ("op", "forward\nms", "backward\nms", *SHARE_COLUMNS)
    return Table(f"the slowest {count} of {len(grouped)} layers", columns, rows, left=("op",))


def _grouped(
    profile: Profile, key: Callable[[Entry], tuple[str, str]]
) -> list[tuple[tuple[str, str], list[Entry]]]:
    """Return the entries grouped by a key, the slowest group first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in profile.entries:
        groups.setdefault(key(entry), []).append(entry)
    return sorted(groups.items(), key=lambda item: -sum(entry.seconds for entry in item[1]))


def _cells(entries: list[Entry], profile: Profile) -> list[str]:
    """Return the cells ms, share of the step, floor in ms, and ms / floor."""
    seconds = sum(entry.seconds for entry in entries)
    floor = sum(entry.floor for entry in entries)
    share = f"{seconds / profile.sum:.1%}"
    if floor < MIN_FLOOR_SECONDS:
        return [
            format_ms(1000 * seconds),
            share,
            f"<{1000 * MIN_FLOOR_SECONDS}" if floor else "0",
            "",
        ]
    return [format_ms(1000 * seconds), share, format_ms(1000 * floor), f"{seconds / floor:.1f}"]

"""`minise profile`: the time of every op of a training step beside its floor, a roofline model.

Times come from minise.ops.wrap, a back end around the back end, so nothing in the net is changed.
One more step, before the timed ones, records the needs of each op: its multiply-accumulates, and
the bytes of the arrays that it reads and writes, each counted once.

An op takes at least the time of its multiply-accumulates at the rate of a large matrix product, and
of reading its inputs and writing its results once at the rate of a large copy. The larger of the
two is its floor. Both rates are measured here, through NumPy. Two things can get below the floor:
arrays that are still in a cache, and algorithms that need fewer multiplications than the definition
(Winograd's).

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures", Communications of the ACM 52 (2009).
"""

import copy
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from minise import models
from minise.analysis.cost import macs
from minise.bench.machine import cores_taken, read
from minise.bench.peers import step_of
from minise.bench.result import Result, Table, millis, short
from minise.bench.rounds import meanwhile, repeat
from minise.bench.settings import ProfileSettings
from minise.bench.workloads import batch_of
from minise.checks import Array
from minise.nn import Layer
from minise.ops.user.pair import cache_of
from minise.ops.wrap import FORWARD, Call, Timing, Wrapper, attach, timed

Key = tuple[str, str, str]  # layer, op, direction
LOSS = "(loss)"  # the layer's name of the loss
MATRIX_SIDE = 1536  # large enough for the full rate, 0.1 s on one core
COPIED_BYTES = 128 * 2**20  # beyond any cache
RATE_RUNS = 5  # the fastest counts: other processes can only slow it down
CALL_SECONDS = 1e-5  # with a smaller floor, most of the time is that of the call itself
FIGURE_COLUMNS = ("share", "floor ms", "times\nfloor")


class Rates(NamedTuple):
    """What the machine reaches."""

    macs: float  # multiply-accumulates a second, of a large matrix product
    bytes: float  # a second, read and written together, of a large copy

    def floor(self, macs: float, moved: float) -> float:
        """Return the least seconds for so many MACs and so many bytes.

        Examples
        --------
        >>> Rates(macs=100, bytes=10).floor(50, 20)
        2.0
        """
        return max(macs / self.macs, moved / self.bytes)


def measure_rates(threads: int, dtype: str) -> Rates:
    """Measure both rates with so many threads."""
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, MATRIX_SIDE, MATRIX_SIDE)).astype(dtype)
    out = np.empty_like(a)
    source, target = np.ones(COPIED_BYTES, np.uint8), np.zeros(COPIED_BYTES, np.uint8)
    pairs = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))

    def copy_pair(pair: tuple[Array, Array]) -> None:
        np.copyto(pair[1], pair[0])  # without Python's lock, so threads copy at the same time

    with threadpool_limits(threads, "blas"), ThreadPoolExecutor(threads) as pool:
        product = _fastest(lambda: np.matmul(a, b, out=out))
        copying = _fastest(lambda: list(pool.map(copy_pair, pairs)))
    return Rates(MATRIX_SIDE**3 / product, 2 * COPIED_BYTES / copying)


def _fastest(run: Callable[[], object]) -> float:
    run()  # wakes threads and touches memory
    return min(repeat(run, 0, least=RATE_RUNS))


class Need(NamedTuple):
    """What one call needs at least."""

    macs: int
    moved: int  # bytes


class Entry(NamedTuple):
    """The time of one op in one layer and direction in a step, and its floor, in seconds."""

    layer: str
    op: str
    direction: str
    calls: int
    seconds: float
    floor: float


class Profile(NamedTuple):
    """What was measured; medians of parts do not add up to the median of their sum."""

    entries: list[Entry]
    step: float  # seconds of a step, median
    outside: float  # seconds of a step outside of ops, median
    rates: Rates
    others: float | None  # cores that others took meanwhile

    @property
    def sum(self) -> float:
        """The parts of a step added up, in seconds."""
        return self.outside + sum(entry.seconds for entry in self.entries)


class Needs(Wrapper):
    """Records what every call needs, and holds no array.

    Backward has the products of forward twice: once for the gradient of the input, once for that of
    the weights.
    """

    def __init__(self, ops: Any) -> None:
        super().__init__(ops)
        self.of: dict[Key, list[Need]] = {}
        self.forward_macs: dict[tuple[str, str], int] = {}

    def observe(self, call: Call) -> None:
        """Record the call."""
        if call.direction == FORWARD:
            count = self.forward_macs[call.layer, call.op] = macs(call)
        else:
            count = 2 * self.forward_macs.get((call.layer, call.op), 0)
        needs = self.of.setdefault((call.layer, call.op, call.direction), [])
        needs.append(Need(count, moved(call)))


def prepare(settings: ProfileSettings) -> Layer:
    """Return the net.

    Raises
    ------
    ValueError, TypeError, ImportError
        If it or its back end is not there.
    """
    ops = settings.load_ops()
    return models.build(settings.net, ops=ops, **settings.net_settings(settings.net))


def profile(
    net: Layer, settings: ProfileSettings, batch: tuple[Array, Array] | None = None
) -> Profile:
    """Measure the machine, then training steps of a net.

    Parameters
    ----------
    net : Layer
        From images to logits (N, classes); it may be the caller's own. A copy of it is trained.
    settings : ProfileSettings
        Its net, ops and algorithm are what the tables are headed with.
    batch : (inputs, labels), optional
        By default images of 32 x 32 that are drawn, with as many channels as the net takes.
    """
    net, ops = copy.deepcopy(net), net.ops
    images, labels = batch or batch_of(net, settings.batch)
    with threadpool_limits(settings.threads, "blas"):
        start = read([])
        rates = measure_rates(settings.threads, settings.dtype)
        needs, timer = Needs(ops), timed(ops)
        attach(net, needs)
        step_of(net, needs.at(LOSS), images, labels)()
        attach(net, timer)
        step = step_of(net, timer.at(LOSS), images, labels)
        step()
        totals: list[float] = []
        parts: list[dict[Key, Timing]] = []
        for _ in range(settings.steps):
            timer.timings = {}
            before = time.perf_counter()
            step()
            totals.append(time.perf_counter() - before)
            parts.append(timer.timings)
        others = cores_taken(start, read([]))
    outside = median(total - _sum(part) for total, part in zip(totals, parts, strict=True))
    return Profile(list(_entries(parts, needs, rates)), median(totals), outside, rates, others)


def _entries(parts: list[dict[Key, Timing]], needs: Needs, rates: Rates) -> Iterator[Entry]:
    for key, timing in parts[0].items():
        seconds = median(part[key].seconds for part in parts)
        floor = sum(rates.floor(*need) for need in needs.of[key])
        yield Entry(*key, timing.calls, seconds, floor)


def _sum(part: dict[Key, Timing]) -> float:
    return sum(timing.seconds for timing in part.values())


def moved(call: Call) -> int:
    """Return the bytes of the arrays that a call has to read and to write, each once.

    A backward reads dout, plus and what its cache holds. Results that are views of inputs move
    nothing; where all results are, the call moves nothing at all.
    """
    inputs = list(_arrays(call.arrays))
    if call.direction != FORWARD:
        inputs += _arrays([*call.settings.values(), _contents_of(call.cache)])
    written = [
        result
        for result in _arrays(call.results)
        if not any(np.may_share_memory(result, array) for array in inputs)
    ]
    unique = {id(array): array for array in [*inputs, *written]}
    return sum(array.nbytes for array in unique.values()) if written else 0


def _contents_of(cache: Any) -> Any:
    """Return the contents of a cache as a tuple, also those of a user's dict or object."""
    cache = cache_of(cache)
    if isinstance(cache, dict):
        return tuple(cache.values())
    held = getattr(cache, "__dict__", None)
    return tuple(held.values()) if held else cache


def _arrays(values: Iterable[Any]) -> Iterator[np.ndarray]:
    """Yield the arrays among values, and in tuples among them."""
    for value in values:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, tuple | list):
            yield from _arrays(value)


def result_of(profile: Profile, settings: ProfileSettings) -> Result:
    """Return the result: a table of the ops, and one of the slowest layers."""
    summary = {
        "step_seconds": profile.step,
        "outside_seconds": profile.outside,
        "rates": profile.rates._asdict(),
        "others_cores": profile.others,
    }
    rows = [entry._asdict() for entry in profile.entries]
    tables = [ops_table(profile, settings), layers_table(profile, settings)]
    return Result(settings.as_dict(), rows, summary, tables=tables)


def ops_table(profile: Profile, settings: ProfileSettings) -> Table:
    """Return a line for each op and direction, the slowest first, and their sums."""
    rows: list[tuple[str, ...]] = []
    for (op, direction), entries in _grouped(profile, lambda e: (e.op, e.direction)):
        calls = sum(entry.calls for entry in entries)
        rows.append((op, direction, str(calls), *_cells(entries, profile)))
    share = f"{profile.outside / profile.sum:.1%}"
    rows += [
        (),
        ("all ops", "", "", *_cells(profile.entries, profile)),
        ("outside of ops", "", "", millis(1000 * profile.outside), share),
        ("step", "", "", millis(1000 * profile.sum), "100.0%"),
    ]
    return Table(
        f"a training step by ops: {settings.heading(settings.net)}, {settings.back_end}",
        ("direction", "calls", "ms", *FIGURE_COLUMNS),
        rows,
        f"ms: median of the steps; a step took {millis(1000 * profile.step)} in all.\n"
        "floor: the multiply-accumulates at the rate of a large matrix product, measured as "
        f"{short(profile.rates.macs / 1e9)} billion a second, or all arrays read and written once, "
        f"at {short(profile.rates.bytes / 1e9)} GB/s of a large copy, whichever takes longer. "
        "Arrays that are still in a cache can get below it.\n"
        "outside of ops: the optimiser, and Python between the calls.\n"
        f"{meanwhile(profile.others)}",
        left=("direction",),
    )


def layers_table(profile: Profile, settings: ProfileSettings) -> Table:
    """Return a line for each of the slowest layers."""
    grouped = _grouped(profile, lambda entry: (entry.layer, entry.op))
    count = min(settings.layers, len(grouped))
    rows: list[tuple[str, ...]] = []
    for (layer, op), entries in grouped[:count]:
        ms = {True: 0.0, False: 0.0}  # forward and backward
        for entry in entries:
            ms[entry.direction == FORWARD] += 1000 * entry.seconds
        _, *rest = _cells(entries, profile)
        rows.append((layer or "(net)", op, millis(ms[True]), millis(ms[False]), *rest))
    columns = ("op", "forward\nms", "backward\nms", *FIGURE_COLUMNS)
    return Table(f"the slowest {count} of {len(grouped)} layers", columns, rows, left=("op",))


def _grouped(
    profile: Profile, key: Callable[[Entry], tuple[str, str]]
) -> list[tuple[tuple[str, str], list[Entry]]]:
    """Return the entries by a key, the slowest group first."""
    groups: dict[tuple[str, str], list[Entry]] = {}
    for entry in profile.entries:
        groups.setdefault(key(entry), []).append(entry)
    return sorted(groups.items(), key=lambda item: -sum(entry.seconds for entry in item[1]))


def _cells(entries: list[Entry], profile: Profile) -> list[str]:
    """Return ms, share of the step, floor in ms, and the time as a multiple of the floor."""
    seconds = sum(entry.seconds for entry in entries)
    floor = sum(entry.floor for entry in entries)
    share = f"{seconds / profile.sum:.1%}"
    if floor < CALL_SECONDS:
        return [millis(1000 * seconds), share, f"<{1000 * CALL_SECONDS}" if floor else "0", ""]
    return [millis(1000 * seconds), share, millis(1000 * floor), f"{seconds / floor:.1f}"]

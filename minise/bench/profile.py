"""`minise profile`: what every op of a training step takes, beside what it would have to take.

Times come from minise.ops.wrap, a back end around the back end, so nothing in the net is changed.
One step more, before the timed ones, notes what each op needs: its multiply-accumulates, and the
bytes of the arrays that it reads and writes, each counted once.
"""

import copy
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from minise import models
from minise.analysis.cost import macs
from minise.bench.contestants import step_of
from minise.bench.load import read, taken
from minise.bench.roofline import Rates, measure
from minise.bench.settings import Dtype, Settings
from minise.bench.threads import check_threads, default_threads, ops_with
from minise.bench.works import batch_of
from minise.nn import Layer
from minise.ops.backend import Algorithm
from minise.ops.checks import Array, check_integer
from minise.ops.user.pair import cache_of
from minise.ops.wrap import FORWARD, Call, Timing, Wrapper, attach, timed

Key = tuple[str, str, str]  # layer, op, direction
LOSS = "(loss)"  # the layer's name of the loss


@dataclass(frozen=True)
class ProfileSettings:
    """What is profiled."""

    net: str = "se_resnet20"
    """Name of the net; `minise summary all` lists them."""
    reduction: int = 16
    """Of the SE blocks."""
    batch: int = 128
    """Images, of 32 x 32."""
    threads: int = field(default_factory=default_threads)
    """For the back end and for BLAS."""
    dtype: Dtype = "float32"
    """Of all arrays."""
    steps: int = 5
    """How many are timed; each figure is the median."""
    layers: int = 10
    """How many lines the second table has."""
    ops: str = "jit"
    """Back end: its name, a module such as my_package.my_ops, or a file."""
    algorithm: Algorithm = "auto"
    """Of its convolutions, where it has a choice, as jit has."""

    def __post_init__(self) -> None:
        """Refuse what cannot be profiled."""
        for name in ("reduction", "batch", "steps", "layers"):
            check_integer("profile", name, getattr(self, name), 1)
        check_threads("profile", self.threads)

    @property
    def of_step(self) -> Settings:
        """The same as settings of a step."""
        return Settings(
            net=self.net, reduction=self.reduction, batch=self.batch, threads=self.threads,
            dtype=self.dtype, ops=self.ops, algorithm=self.algorithm,
        )  # fmt: skip


class Need(NamedTuple):
    """What one call needs at least."""

    macs: int
    moved: int  # bytes


class Entry(NamedTuple):
    """What one op in one layer and direction takes in a step, and needs at least."""

    layer: str
    op: str
    direction: str
    calls: int
    seconds: float
    floor: float


class Profile(NamedTuple):
    """The outcome; medians of parts do not add up to the median of the whole, so both are here."""

    entries: list[Entry]
    whole: float  # seconds of a step, median
    outside: float  # seconds of a step outside of ops, median
    rates: Rates
    others: float | None  # cores that others took meanwhile

    @property
    def sum(self) -> float:
        """The parts of a step added up, in seconds."""
        return self.outside + sum(entry.seconds for entry in self.entries)


class Needs(Wrapper):
    """Notes what every call needs, and keeps no array.

    Backward has the products of forward twice: once for the gradient of the input, once for that of
    the weights.
    """

    def __init__(self, ops: Any) -> None:
        super().__init__(ops)
        self.of: dict[Key, list[Need]] = {}
        self.forward_macs: dict[tuple[str, str], int] = {}

    def observe(self, call: Call) -> None:
        """Note the call."""
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
    ops = ops_with(settings.ops, settings.threads, settings.algorithm)
    return models.build(settings.net, ops=ops, **settings.of_step.net_settings)


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
        rates = measure(settings.threads, settings.dtype)
        needs, timer = Needs(ops), timed(ops)
        attach(net, needs)
        step_of(net, needs.at(LOSS), images, labels)()
        attach(net, timer)
        step = step_of(net, timer.at(LOSS), images, labels)
        step()
        wholes: list[float] = []
        parts: list[dict[Key, Timing]] = []
        for _ in range(settings.steps):
            timer.timings = {}
            before = time.perf_counter()
            step()
            wholes.append(time.perf_counter() - before)
            parts.append(timer.timings)
        outsides = [whole - _sum(part) for whole, part in zip(wholes, parts, strict=True)]
        entries = list(_entries(parts, needs, rates))
        return Profile(entries, median(wholes), median(outsides), rates, taken(start, read([])))


def _entries(parts: list[dict[Key, Timing]], needs: Needs, rates: Rates) -> Iterator[Entry]:
    for key, timing in parts[0].items():
        seconds = median(part[key].seconds for part in parts)
        floor = sum(rates.floor(*need) for need in needs.of[key])
        yield Entry(*key, timing.calls, seconds, floor)


def _sum(part: dict[Key, Timing]) -> float:
    return sum(timing.seconds for timing in part.values())


def moved(call: Call) -> int:
    """Return the bytes of the arrays that a call has to read and to write, each once.

    A backward reads dout, plus and what its cache holds. Results that are views of what was given
    move nothing; where all are, the call moves nothing at all.
    """
    given = list(_arrays(call.arrays))
    if call.direction != FORWARD:
        given += _arrays([*call.settings.values(), _read_of(call.cache)])
    written = [
        result
        for result in _arrays(call.results)
        if not any(np.may_share_memory(result, array) for array in given)
    ]
    unique = {id(array): array for array in [*given, *written]}
    return sum(array.nbytes for array in unique.values()) if written else 0


def _read_of(cache: Any) -> Any:
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

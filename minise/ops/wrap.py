"""Wrap a back end to record every call, to time it, or to stop at the first NaN.

A back end is an object with functions, so any object with the same functions can replace it. A
wrapper is called like the back end that it wraps, for single ops::

    recorder = record(reference)
    out, cache = recorder.relu_forward(x)
    recorder.calls[0].op                       # "relu"

and in nets, where `attach` passes it the layers' names::

    attach(net, recorder)
    net.forward(x, training=True)
    recorder.calls[0].layer                    # "conv1"
    attach(net, reference)                     # removes the recorder
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from minise.ops.guard import Guard, NonFinite, NonFiniteError, unguarded
from minise.ops.wrapper import BACKWARD, FORWARD, Call, Wrapper, attach, unwrapped

__all__ = [
    "BACKWARD",
    "FORWARD",
    "Call",
    "Guard",
    "NonFinite",
    "NonFiniteError",
    "Recorder",
    "Row",
    "Timer",
    "Timing",
    "Wrapper",
    "attach",
    "guarded",
    "record",
    "timed",
    "unguarded",
    "unwrapped",
]


class Recorder(Wrapper):
    """Stores every call with its arrays, in order."""

    def __init__(self, ops: Any) -> None:
        super().__init__(ops)
        self.calls: list[Call] = []

    def observe(self, call: Call) -> None:
        """Store the call."""
        self.calls.append(call)


@dataclass
class Timing:
    """Number and total duration of the calls of one op, layer and direction."""

    calls: int = 0
    seconds: float = 0.0


@dataclass
class Row:
    """One line of a timer's table."""

    layer: str
    op: str
    direction: str
    timing: Timing = field(default_factory=Timing)


class Timer(Wrapper):
    """Sums the time of every op by layer and direction; stores no array."""

    def __init__(self, ops: Any) -> None:
        super().__init__(ops)
        self.timings: dict[tuple[str, str, str], Timing] = {}

    def observe(self, call: Call) -> None:
        """Add the call's time."""
        timing = self.timings.setdefault((call.layer, call.op, call.direction), Timing())
        timing.calls += 1
        timing.seconds += call.seconds

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the table, the slowest first."""
        slowest = sorted(self.timings.items(), key=lambda item: -item[1].seconds)
        for (layer, op, direction), timing in slowest:
            yield Row(layer, op, direction, timing)

    @property
    def seconds(self) -> float:
        """The total time spent in ops."""
        return sum(timing.seconds for timing in self.timings.values())


def record(ops: Any) -> Recorder:
    """Return a back end that stores every call in `.calls`."""
    return Recorder(ops)


def timed(ops: Any) -> Timer:
    """Return a back end that times every call; results are in `.timings` and rows()."""
    return Timer(ops)


def guarded(ops: Any) -> Guard:
    """Return a back end that raises NonFiniteError at the first NaN or infinity."""
    return Guard(ops)

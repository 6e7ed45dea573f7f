"""Let the clocks of a Python process jump, stop or go backwards.

    with clock(wall=[(0.5, 7200), (1.0, -7200)]):
        train()

In a process of its own: `run(with_clock(dict(wall=[(0.5, 7200)]), ["-m", "package", "train"]))`.

A jump is a pair: seconds after the start by the real monotonic clock, and seconds that are added
from then on (in place of the jump before). `wall` moves time.time, time_ns, localtime, gmtime,
strftime and ctime (a user sets the clock, daylight saving, NTP); `monotonic` moves time.monotonic,
perf_counter and their _ns (a computer that slept). `tick` rounds all clocks down to multiples of
that many seconds, as coarse clocks do: two readings in a row are equal, so a rate is x / 0.
datetime.now, the file system's times and functions imported by name before are not changed.
"""

import json
import runpy
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

Jumps = Sequence[tuple[float, float]]
CLOCKS = {"wall": ("time",), "monotonic": ("monotonic", "perf_counter")}
FROM_SECONDS = ("localtime", "gmtime", "ctime")  # of time; without argument they take time.time()


@contextmanager
def clock(wall: Jumps = (), monotonic: Jumps = (), tick: float = 0.0) -> Iterator[None]:
    """Change the clocks of this process while the context is open.

    Parameters
    ----------
    wall, monotonic : sequence of (float, float)
        Jumps: after so many seconds, the clock is so many seconds ahead.
    tick : float
        Resolution in seconds; 0 keeps that of the system.
    """
    real, start = time.monotonic, time.monotonic()

    def ahead(jumps: Jumps) -> float:
        passed = [offset for after, offset in jumps if real() - start >= after]
        return passed[-1] if passed else 0.0

    def changed(function: Any, jumps: Jumps) -> Any:
        def read() -> float:
            seconds = function() + ahead(jumps)
            return seconds // tick * tick if tick else seconds

        return read

    with ExitStack() as stack:
        for kind, jumps in (("wall", wall), ("monotonic", monotonic)):
            for name in CLOCKS[kind]:
                read = changed(getattr(time, name), jumps)
                stack.enter_context(mock.patch.object(time, name, read))
                nanoseconds = lambda read=read: int(read() * 1e9)  # noqa: E731
                stack.enter_context(mock.patch.object(time, f"{name}_ns", nanoseconds))
        for name in FROM_SECONDS:
            stack.enter_context(mock.patch.object(time, name, _now_by_default(name)))
        strftime = time.strftime
        by_default = lambda text, t=None: strftime(text, time.localtime() if t is None else t)  # noqa: E731
        stack.enter_context(mock.patch.object(time, "strftime", by_default))
        yield


def _now_by_default(name: str) -> Any:
    function = getattr(time, name)
    return lambda seconds=None: function(time.time() if seconds is None else seconds)


def with_clock(clocks: Mapping[str, Any], arguments: Sequence[Any]) -> list[str]:
    """Return a command that runs a module of Python ("-m", name, arguments) with these clocks."""
    text = json.dumps(dict(clocks))
    return [sys.executable, "-m", "tests.torture.clocks", text, *map(str, arguments)]


if __name__ == "__main__":
    text, option, module, *rest = sys.argv[1:]
    assert option == "-m", option
    sys.argv = [module, *rest]
    with clock(**json.loads(text)):
        runpy.run_module(module, run_name="__main__", alter_sys=True)

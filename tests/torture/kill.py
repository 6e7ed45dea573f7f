"""Kill a command, at random or chosen instants, and start it again until it ends by itself.

    rng = random.Random(7)
    lives = run_until_done(first, again, lambda life: rng.uniform(0, 2))
    assert [life.status for life in lives] == [-9, -9, 0]

At an instant: `run(command, kill_at=0.3)`, in seconds. When something has happened:
`run(command, kill_at=path.exists)`, called every millisecond, or `Growth` of a file. At an exact
file call, with half of its bytes written if it is a write:
`run(at_call(folder, 12, "torn", ["-m", "package"]))`, a command that runs a module of Python with
calls.py in it and kills itself; `file_calls` lists them. When a function is called:
`run(in_function("package.loop.step", 3, ["-m", "package"]))`. Several signals:
`run(command, kill_at=[0.3, 0.1], number=[SIGINT, SIGINT])`, the second 0.1 seconds later.

The environment of a command is that of this process with `env`; an empty folder for compiled code,
by the variable that the program reads, makes each life compile.
"""

import functools
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple
from unittest import mock

from tests.torture.calls import READS, Call, FileCalls

ROOT = Path(__file__).parents[2]  # where this package can be imported
Instant = float | Callable[[], bool]


class Life(NamedTuple):
    """A process that has ended."""

    command: list[str]
    status: int  # -9 if SIGKILL ended it
    out: str
    err: str
    seconds: float
    killed_at: float | None  # seconds after the start of the last signal; None if it came too late


def run(
    command: Sequence[Any],
    kill_at: Instant | Sequence[Instant] | None = None,
    number: int | Sequence[int] = signal.SIGKILL,
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    seconds: float = 120,
    **settings: Any,
) -> Life:
    """Run a command, send signals to it, and return how it ended.

    Parameters
    ----------
    command : sequence of str or path
        Program and arguments.
    kill_at : float or callable() -> bool, or several of them in order
        Seconds after the start, or after the signal before; or a condition. None sends no signal.
    number : int, or one for each instant
        Signals.
    seconds : float
        A command that takes longer is killed, and raises AssertionError.
    **settings
        Of subprocess.Popen, such as preexec_fn.
    """
    instants = [] if kill_at is None else list(kill_at) if _several(kill_at) else [kill_at]
    numbers = list(number) if _several(number) else [number] * len(instants)
    environment = {**os.environ, **(env or {})}
    paths = [str(ROOT), environment.get("PYTHONPATH", "")]
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    start, sent = time.perf_counter(), None
    before = start
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        files = dict(stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        args = [os.fspath(a) if isinstance(a, os.PathLike) else str(a) for a in command]
        process = subprocess.Popen(args, env=environment, cwd=cwd, **files, **settings)
        while process.poll() is None:
            now = time.perf_counter()
            elapsed, first = now - start, instants[0] if instants else float("inf")
            if first() if callable(first) else now - before >= first:
                process.send_signal(numbers.pop(0))
                sent, before, _ = elapsed, now, instants.pop(0)
            if elapsed > seconds:
                process.kill()
            time.sleep(0.001)
        elapsed = time.perf_counter() - start
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode(errors="backslashreplace"))
    life = Life(args, process.returncode, *texts, elapsed, None if instants else sent)
    assert elapsed <= seconds, f"it takes more than {seconds} s: {life}"
    return life


def _several(value: Any) -> bool:
    return isinstance(value, Sequence)


class Growth:
    """A condition for `run`: a file has grown a number of times, and then a time has passed.

    Under any load, the instant is at random in the program's own progress. A file that gets shorter
    or is absent is no growth.

    Parameters
    ----------
    path : Path
        The file, such as a log.
    times : int
        How many times it grows; 0 kills `seconds` after the start.
    seconds : float
        Time from the last growth to the kill.
    """

    def __init__(self, path: Path, times: int, seconds: float) -> None:
        self.path, self.times, self.seconds = path, times, seconds
        self.size, self.since = self._size(), time.perf_counter()

    def __call__(self) -> bool:
        """Return whether it is time to kill."""
        before, self.size = self.size, self._size()
        if self.size > before and self.times:
            self.times, self.since = self.times - 1, time.perf_counter()
        return not self.times and time.perf_counter() - self.since >= self.seconds

    def _size(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0


def run_until_done(
    first: Sequence[Any],
    again: Callable[[Life], Sequence[Any]],
    instant: Callable[[list[Life]], Instant | None],
    *,
    check: Callable[[Life], None] = lambda life: None,
    lives: int = 1000,
    **settings: Any,
) -> list[Life]:
    """Run a command, kill it, and continue with another one until one ends with status 0.

    Parameters
    ----------
    first : sequence
        The command of the first life.
    again : callable(Life) -> sequence
        The command after a kill, such as one with --resume, or first again.
    instant : callable(list of Life) -> float, callable() -> bool or None
        When to kill the next life, from those that have ended; None lets it end by itself.
    check : callable(Life)
        Called after each killed life, such as with a check of the files that remain.
    lives : int
        The largest number of lives; then AssertionError.
    **settings
        Of `run`.

    Returns
    -------
    list of Life
        All lives; the last one ended with status 0.

    Raises
    ------
    AssertionError
        If a life ends with another status than 0 or the signal's, or there are too many.
    """
    ended: list[Life] = []
    command = first
    while len(ended) < lives:
        life = run(command, instant(ended), **settings)
        ended.append(life)
        if life.status == 0:
            return ended
        assert life.killed_at is not None, f"it failed by itself: {life}"
        check(life)
        command = again(life)
    raise AssertionError(f"not done after {lives} lives; the last one: {ended[-1]}")


def at_call(folder: Path, number: int, when: str, arguments: Sequence[Any]) -> list[str]:
    """Return a command that runs Python with arguments and kills itself at a file call.

    Parameters
    ----------
    folder : Path
        Calls below it count.
    number : int
        From 0; all but reading count. A number beyond the last one kills nothing.
    when : str
        "before" the call, "after" it, or "torn": with half of the bytes written.
    arguments : sequence
        "-m", a module and its arguments.
    """
    text = [str(argument) for argument in arguments]
    return [sys.executable, "-m", "tests.torture.kill", str(folder), str(number), when, *text]


def file_calls(folder: Path, arguments: Sequence[Any], **settings: Any) -> list[str]:
    """Run at_call's command without a kill; return its calls as texts, such as "write net 8"."""
    life = run(at_call(folder, -1, "log", arguments), **settings)
    assert life.status == 0, life
    prefix = "file call: "
    return [line.removeprefix(prefix) for line in life.err.splitlines() if line.startswith(prefix)]


def in_function(
    target: str, number: int, arguments: Sequence[Any], signals: Sequence[int] = (signal.SIGKILL,)
) -> list[str]:
    """Return a command that runs Python with arguments and kills itself when a function is called.

    Parameters
    ----------
    target : str
        The function where its caller looks it up, such as "package.loop.step".
    number : int
        The call, from 1. With fewer calls nothing is killed.
    arguments : sequence
        "-m", a module and its arguments.
    signals : sequence of int
        Sent to the process itself, one after the other, before the function runs.
    """
    numbers = ",".join(str(int(number)) for number in signals)
    text = [str(argument) for argument in arguments]
    return [sys.executable, "-m", "tests.torture.kill", target, str(number), numbers, *text]


def _die_at_call(folder: str, number: int, when: str) -> FileCalls:
    """Return the context in which a file call kills this process."""
    calls = []

    def handle(call: Call, perform: Any) -> Any:
        if call.name in READS - {"open"}:
            return perform()
        calls.append(call)
        if when == "log":
            os.write(2, f"file call: {call}\n".encode())
        if len(calls) - 1 != number:
            return perform()
        half = call.data[: len(call.data) // 2]
        with suppress(OSError):  # a call that fails is a call, too
            if when == "after":
                perform()
            elif when == "torn" and half:
                perform(half)
        os.kill(os.getpid(), signal.SIGKILL)
        time.sleep(60)  # SIGKILL comes before it ends
        return None

    return FileCalls(folder, handle)


def _die_in_function(target: str, number: int, signals: str) -> Any:
    """Return the context in which a call of a function kills this process."""
    function, calls = pkgutil.resolve_name(target), []

    @functools.wraps(function)
    def run(*arguments: Any, **settings: Any) -> Any:
        calls.append(arguments)
        if len(calls) == number:
            for text in signals.split(","):
                os.kill(os.getpid(), int(text))
        return function(*arguments, **settings)

    return mock.patch(target, run)


def main(target: str, number: str, how: str, option: str, module: str, *arguments: str) -> None:
    """Run a module; kill this process at a file call or a function, or list the calls on stderr."""
    assert option == "-m", option
    is_function = how.replace(",", "").isdigit()
    context = (_die_in_function if is_function else _die_at_call)(target, int(number), how)
    sys.argv = [module, *arguments]
    with context:
        runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])

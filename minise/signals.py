"""End a command by a signal: one line on standard error, and exit status 128 + the signal's number.

Only the command line installs these handlers: minise/__main__.py calls `install` before it imports
anything else. Python handles a signal that arrives earlier, while the interpreter starts. Until the
command runs, a signal ends the process at once. While it runs, the first signal raises Stop, and
the second ends the process at once, also in a finally block or at exit. After the command, a signal
ends the process with the command's status.

Python prints an exception in __del__ or in a callback, and continues. If this happens to a Stop,
nothing is printed and its signal is sent again. The training loop has its own handlers
(train/interrupt.py), which `handle` follows.
"""

import _thread
import atexit
import os
import select
import signal
import sys
import time
from collections.abc import Callable
from types import FrameType
from typing import Any

SIGNALS = tuple(
    getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
)
SECONDS_BEFORE_RESENDING = 0.01


class Stop(KeyboardInterrupt):
    """A signal ends the command or the run."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Command:
    """The state of this process, if it is a command."""

    installed = False
    started = False  # whether the command runs, or has run
    raises = False  # whether the first signal raises Stop, else it ends the process
    raised = False  # whether the first signal has raised Stop
    number = 0  # the first signal
    describe: Callable[[], str] | None = None  # returns which files a second signal leaves
    status: int | None = None  # of a command that has ended
    writes = False  # whether the last line is being written: other signals wait
    waiting = False  # whether another signal waits


command = _Command()


def install() -> None:
    """Install the handlers; signals that are ignored, as after nohup, stay ignored."""
    command.installed = True
    for number in SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handle)
    sys.unraisablehook = _unraisable
    atexit.register(_ignore)  # before all others, so that it is called last


def begin() -> None:
    """Let the first signal raise Stop from here on, if this process is a command."""
    command.started, command.raises = True, command.installed


def end(status: int, line: str = "") -> None:
    """Print the last line; from here on, a signal ends the process with the command's status."""
    command.writes = True
    try:
        if line:
            print(line, file=sys.stderr, flush=True)
    except OSError:
        if not command.number:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())  # discards the line
    finally:
        if command.installed:
            command.status = status
        command.writes = False
    if command.waiting:
        os._exit(status)


def handle(number: int, frame: FrameType | None) -> None:
    """Raise Stop for the first signal of a running command, or end the process."""
    if command.writes:
        command.waiting = True
        return
    first = not command.number
    command.number = command.number or number
    if first and command.raises and command.status is None:
        command.raised = True
        raise Stop(number)
    command.writes = True
    if command.status is None:
        _write(_last_line(first))
    os._exit(128 + command.number if command.status is None else command.status)


def _last_line(first: bool) -> str:
    verb = next((f"{word}: " for word in sys.argv[1:2] if word.isalpha()), "")
    if first:
        phase = "at the end" if command.started else "before the start; nothing is written"
        text = f"interrupted {phase}"
    else:
        files = "" if command.describe is None else f"; {command.describe()}"
        text = f"interrupted twice, ended at once{files}"
    return f"minise: {verb}{text}\n"


def _write(line: str) -> None:
    """Write a line to standard error, and show the terminal's cursor, which progress bars hide."""
    has_escapes = os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    for stream, text, escape in ((1, "", "\x1b[?25h"), (2, line, "\r\x1b[K")):
        try:
            if os.name != "posix" or select.select([], [stream], [], 0)[1]:  # else it would block
                escape = escape if has_escapes and os.isatty(stream) else ""
                os.write(stream, (escape + text).encode(errors="backslashreplace"))
        except OSError:  # closed
            pass


def _unraisable(lost: Any) -> None:
    """Send the signal of a lost Stop again; print other lost exceptions as Python does."""
    if not isinstance(lost.exc_value, Stop):
        sys.__unraisablehook__(lost)
        return
    command.number, command.raised = 0, False
    _thread.start_new_thread(_send_again, (lost.exc_value.number,))


def _send_again(number: int) -> None:
    time.sleep(SECONDS_BEFORE_RESENDING)
    signal.raise_signal(number)


def _ignore() -> None:
    """Ignore signals while the interpreter is taken down, when handlers cannot run."""
    for number in SIGNALS:
        if signal.getsignal(number) is handle:
            signal.signal(number, signal.SIG_IGN)

"""End a run early, by a signal or a failure, with a message that names its checkpoint.

The first signal (Ctrl-C, SIGTERM, or SIGHUP of a closed terminal) ends the run after the training
step, with a checkpoint; during an evaluation or the compilation of a kernel it ends the run at
once. The second signal raises KeyboardInterrupt in a library, and ends the process of a command
(minise/signals.py).
"""

import errno
import json
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from minise import signals
from minise.checks import as_word
from minise.data import ImageError
from minise.files import Damaged
from minise.ops.backend import is_compiling, on_compile
from minise.ops.user.errors import OpsError
from minise.signals import Stop
from minise.train.checkpoint import load
from minise.train.memory import OutOfMemory, lack_of_memory
from minise.train.run_folder import RunFolder

COMPILING = " while a kernel is compiled"


class Interrupted(Exception):
    """A signal stopped the run; the message says which checkpoint is written."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + number


class Interruption:
    """Store the first signal in `number`, or raise KeyboardInterrupt if the run can end at once."""

    def __init__(self) -> None:
        self.number = 0
        self.where = ""  # the phase that KeyboardInterrupt ends
        self._before: dict[int, Any] = {}
        self._raises = False

    def __enter__(self) -> Self:
        """Install the signal handlers; only in the main thread, as Python requires.

        Signals that are ignored, as after nohup, stay ignored.
        """
        if threading.current_thread() is threading.main_thread():
            try:
                for number in signals.SIGNALS:
                    handler = signal.getsignal(number)
                    if handler is not signal.SIG_IGN:
                        self._before[number] = handler
                        signal.signal(number, self._record)
            except KeyboardInterrupt:
                self._restore()
                raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the previous handlers; raise KeyboardInterrupt for a stored signal."""
        self._restore()
        if kind is None and self.number:
            raise Stop(self.number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self, phase: str = "evaluation") -> Iterator[None]:
        """Let the first signal raise KeyboardInterrupt, at once if a signal is already stored."""
        self._raises, self.where = True, f" in {phase}"
        try:
            self.raise_stored()
            yield
            self.where = ""
        finally:
            self._raises = False

    def raise_stored(self) -> None:
        """Raise KeyboardInterrupt if a signal is stored."""
        if self.number:
            raise Stop(self.number)

    def before_compiling(self, *kernel: Any) -> None:
        """Do not compile a kernel after a signal; a listener of `on_compile`."""
        if self.number:
            self.where = COMPILING
            raise Stop(self.number)

    def _record(self, number: int, frame: FrameType | None) -> None:
        compiles = is_compiling()
        if not (self.number or self._raises or compiles):
            self.number = number
            if signals.command.installed:  # its handler then ends the process at the next signal
                signals.command.number = number
            return
        if compiles and not self._raises:
            self.where = COMPILING
        if signals.command.installed:
            signals.handle(number, frame)
        else:
            raise Stop(self.number or number)


def interrupted(number: int, folder: RunFolder, where: str) -> Interrupted:
    """Return the exception for a run that was saved after `where`, such as "step 1 of 2"."""
    return Interrupted(
        number, f"train: interrupted after {where}, saved in {folder.last}{_command(folder)}"
    )


@contextmanager
def naming_the_checkpoint(folder: RunFolder, interruption: Interruption) -> Iterator[None]:
    """Append to the message of an error the run's last checkpoint.

    KeyboardInterrupt is converted to Interrupted, and MemoryError to OutOfMemory.
    """
    if signals.command.installed:
        signals.command.describe = lambda: _remaining(folder)
    try:
        with on_compile(interruption.before_compiling):
            yield
        interruption.raise_stored()
    except KeyboardInterrupt as error:
        number = getattr(error, "number", interruption.number or signal.SIGINT)
        raise _stopped(number, folder, interruption.where) from None
    except MemoryError as error:
        raise OutOfMemory(f"{lack_of_memory('train', error)}; {_written(folder)}") from error
    except (OSError, SystemExit) as error:  # rich raises SystemExit
        if interruption.number and getattr(error, "errno", errno.EPIPE) in (errno.EPIPE, errno.EIO):
            raise _stopped(
                interruption.number, folder, ""
            ) from error  # the reader of the output ended, too
        if isinstance(error, SystemExit | BrokenPipeError):
            raise
        text = f"{error}; {_written(folder)}{_command(folder)}"
        raise type(error)(text) from error  # the text of an OSError does not follow its args
    except (FloatingPointError, ImageError, OpsError, Damaged) as error:
        error.args = (f"{error}; {_written(folder)}{getattr(error, 'remedy', '')}",)
        raise


def _stopped(number: int, folder: RunFolder, where: str) -> Interrupted:
    text = f"train: interrupted{where}; {_written(folder)}{_command(folder)}"
    return Interrupted(number, text)


def _written(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "no checkpoint is written"
    try:
        step = load(folder.last).progress["step"]
    except (OSError, ValueError, MemoryError):
        return f"{folder.last} is written, but cannot be read at present"
    return f"{folder.last} has the state after step {step}"


def _command(folder: RunFolder) -> str:
    """Return how to continue a run, for a message, or "" without a checkpoint."""
    try:
        settings = json.loads((folder.path / "config.json").read_text())["config"]
    except (OSError, ValueError, KeyError):
        return ""
    if not folder.last.exists():
        return ""
    if "model" in settings:
        return f"; to continue: minise resume {as_word(folder.path)}"
    return f"; to continue: train.run(…, resume={str(folder.path)!r})"


def _remaining(folder: RunFolder) -> str:
    """Return what a second signal leaves, without reading the checkpoint."""
    if not folder.last.exists():
        return "no checkpoint is written"
    return f"{folder.last} has the last checkpoint{_command(folder)}"

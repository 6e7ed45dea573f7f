"""End a run early, by Ctrl-C, SIGTERM or a failure, with a message that names its checkpoint.

The first signal during training ends the run after the step, with a checkpoint; the first signal
during an evaluation ends the run at once.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

from minise.data import ImageError
from minise.ops.user.errors import OpsError
from minise.train.checkpoint import load
from minise.train.memory import OutOfMemory, lack_of_memory
from minise.train.run_folder import RunFolder


class Interrupted(Exception):
    """A signal stopped the run; the message says which checkpoint is written."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.exit_status = 128 + number


class Interruption:
    """Store the first SIGINT or SIGTERM in `number`; a second one raises KeyboardInterrupt."""

    SIGNALS = (signal.SIGINT, signal.SIGTERM)

    def __init__(self) -> None:
        self.number = 0
        self._before: dict[int, Any] = {}
        self._raises = False

    def __enter__(self) -> Self:
        """Install the signal handlers; only in the main thread, as Python requires."""
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._record) for number in self.SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Let the first signal raise KeyboardInterrupt, too, here if it is already stored."""
        self._raises = True
        try:
            if self.number:
                raise KeyboardInterrupt
            yield
        finally:
            self._raises = False

    def _record(self, number: int, frame: FrameType | None) -> None:
        is_second, self.number = bool(self.number), self.number or number
        if is_second or self._raises:
            raise KeyboardInterrupt


@contextmanager
def naming_the_checkpoint(folder: RunFolder, interruption: Interruption) -> Iterator[None]:
    """Append to the message of an error the run's last checkpoint.

    KeyboardInterrupt is converted to Interrupted, and MemoryError to OutOfMemory.
    """
    try:
        yield
    except KeyboardInterrupt:
        number = interruption.number or signal.SIGINT
        raise Interrupted(number, f"train: interrupted; {_written(folder)}") from None
    except MemoryError as error:
        raise OutOfMemory(f"{lack_of_memory('train', error)}; {_written(folder)}") from error
    except BrokenPipeError:  # the reader of the output closed the pipe
        raise
    except OSError as error:  # its text cannot be changed through args
        raise type(error)(f"{error}; {_written(folder)}") from error
    except (FloatingPointError, ImageError, OpsError) as error:
        error.args = (f"{error}; {_written(folder)}{getattr(error, 'remedy', '')}",)
        raise


def _written(folder: RunFolder) -> str:
    if not folder.last.exists():
        return "no checkpoint is written"
    try:
        step = load(folder.last).progress["step"]
    except (OSError, ValueError, MemoryError):
        return f"{folder.last} is written, but cannot be read at present"
    return f"{folder.last} has the state after step {step}"

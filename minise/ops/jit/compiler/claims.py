"""Of processes that want the same kernel at once, one compiles it: a lock on a file beside it.

The system takes a lock back from a process that ends, however it ends. Where files cannot be
locked, or a lock is held for too long, a process compiles for itself: that costs time alone.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

PATIENCE = 120.0  # seconds; a kernel takes up to twenty on a core of its own
PAUSE = 0.05  # seconds


class Claim:
    """A process's claim to be the one that compiles a kernel."""

    def __init__(self) -> None:
        self._lock: tuple[int, Path] | None = None

    def take(self, path: Path) -> None:
        """Wait until no other process compiles what path is for; then it may lie there."""
        self.release()  # of what could not be compiled
        if fcntl is None:
            return
        lock, start = path.with_name(f"{path.name}.lock"), time.monotonic()
        with suppress(OSError):  # a read-only disk, or one that has no locks
            lock.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC), lock
            while time.monotonic() - start < PATIENCE:
                try:
                    fcntl.flock(self._lock[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(PAUSE)

    def release(self) -> None:
        """Let others go on.

        Who has the deleted file open locks that one, while the next creates another: then two may
        compile the same.
        """
        if self._lock is not None:
            handle, lock = self._lock
            self._lock = None
            with suppress(OSError):
                lock.unlink(missing_ok=True)
            os.close(handle)

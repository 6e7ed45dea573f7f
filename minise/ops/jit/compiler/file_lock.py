"""One process compiles a kernel; the others wait for its file lock.

The operating system releases the lock when its process ends, even if it is killed. Where files
cannot be locked, or a lock is held for too long, each process compiles for itself: that costs only
time.
"""

import os
import time
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

TIMEOUT_SECONDS = 120.0  # a kernel takes up to 20 s to compile on an idle core
POLL_SECONDS = 0.05


class FileLock:
    """An exclusive lock on `<kernel file>.lock`, held while a process compiles that kernel."""

    def __init__(self) -> None:
        self._lock: tuple[int, Path] | None = None

    def acquire(self, path: Path) -> None:
        """Wait until no other process compiles the kernel of this path, then lock it.

        The kernel file may exist afterwards: the process that held the lock has written it.
        """
        self.release()  # if its release was interrupted
        if fcntl is None:
            return
        lock, start = path.with_name(f"{path.name}.lock"), time.monotonic()
        with suppress(OSError):  # a read-only disk, or a file system without locks
            lock.parent.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(lock, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC), lock
            while time.monotonic() - start < TIMEOUT_SECONDS:
                try:
                    fcntl.flock(self._lock[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    time.sleep(POLL_SECONDS)

    def release(self) -> None:
        """Release the lock and delete its file; without a lock, do nothing.

        A waiting process then locks the deleted file, and the next one creates a new file: these
        two may compile the same kernel.
        """
        if self._lock is not None:
            handle, lock = self._lock
            with suppress(OSError):  # a forked process that inherited the file would keep the lock
                fcntl.flock(handle, fcntl.LOCK_UN)
            self._lock = None
            with suppress(OSError):
                lock.unlink(missing_ok=True)
            os.close(handle)

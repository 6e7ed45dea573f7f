"""The process that locked a run folder: who it is, and whether it has ended."""

import json
import os
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

MAX_BYTES = 4096  # of an owner as JSON


class Owner(NamedTuple):
    """The process that wrote a lock file."""

    pid: int
    host: str
    kernel: str  # identifier of the running system, "" if unknown
    namespace: str  # of its process id, "" if unknown
    start: str  # when the process started, in ticks of the system, "" if unknown
    since: str  # local time at which the process locked the folder, for messages


def this_process() -> Owner:
    """Return this process as the owner of a lock."""
    pid, since = os.getpid(), time.strftime("%Y-%m-%d %H:%M:%S")
    return Owner(pid, socket.gethostname(), _kernel(), _namespace(), _start(pid), since)


def from_json(content: bytes) -> Owner | None:
    """Return the owner in a lock file; None if its writer was killed before it wrote."""
    try:
        owner = Owner(**json.loads(content))
    except (ValueError, TypeError, RecursionError):
        return None
    pid, *texts = owner
    is_pid = isinstance(pid, int) and not isinstance(pid, bool)
    return owner if is_pid and all(isinstance(text, str) for text in texts) else None


def is_of_this_host(owner: Owner) -> bool:
    """Return whether the owner ran on this host, so that its process can be looked for."""
    return owner.host == socket.gethostname() or owner.kernel == _kernel() != ""


def has_ended(owner: Owner, is_locked: bool) -> bool:
    """Return whether the owner has ended for certain.

    is_locked is True if this process has locked the owner's file: then no other process of the same
    host holds the lock.
    """
    if not is_of_this_host(owner):
        return False
    if owner.kernel != _kernel():  # the host was started again
        return True
    if owner.namespace != _namespace():  # its process id means another process here
        return is_locked
    if owner.pid == os.getpid():  # whatever this process holds is known (lock.py)
        return True
    if owner.start:
        return _start(owner.pid) != owner.start
    return not _is_alive(owner.pid)


def _kernel() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _namespace() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _start(pid: int) -> str:
    """Return when a process started; "" for none, for a zombie, and without /proc."""
    with suppress(OSError, IndexError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if words[0] in "ZX" else words[19]
    return ""


def _is_alive(pid: int) -> bool:
    """Return whether there is a process of this id, or whether that is unknown."""
    if os.name != "posix":  # os.kill would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    return True

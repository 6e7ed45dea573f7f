"""One process writes to a run folder; a second one is refused.

The owner writes its process id, host and start into the file run.lock, and holds a POSIX record
lock on that file. The operating system releases a record lock when the owner ends, however it
ends, and forked children do not inherit it. Where files cannot be locked, the process id decides.
"""

import errno
import json
import os
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from minise.checks import StrPath, escaped
from minise.files import TEMPORARY, writing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LOCK = "run.lock"  # in the run folder
O_CLOEXEC = getattr(os, "O_CLOEXEC", 0)  # not on Windows
TRIES, PAUSE_SECONDS = 5, 0.05  # a process that only looks at the lock holds it for a moment
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)  # of a file system
_held: dict[tuple[int, Path], object] = {}  # process id (forks inherit the dict) and lock file


class Locked(OSError):
    """Another run writes to the folder; the message names its process."""


class Owner(NamedTuple):
    """The process that wrote a lock file."""

    pid: int
    host: str
    kernel: str  # identifier of the running system, "" if unknown
    space: str  # its namespace of process ids, "" if unknown
    start: str  # when the process started, in ticks of the system, "" if unknown
    since: str  # when it locked the folder, for people


@contextmanager
def locked(folder: StrPath) -> Iterator[None]:
    """Lock a run folder for one writer, and remove the temporary files of dead ones.

    Parameters
    ----------
    folder : str or path
        The run folder.

    Raises
    ------
    Locked
        If another writer holds the lock, in this process or another one, or if the lock is of
        another host, whose processes cannot be seen from here.
    OSError
        If the lock file cannot be written.
    """
    path, pid, token = _path(folder), os.getpid(), object()
    if _held.setdefault((pid, path), token) is not token:  # record locks do not exclude threads
        raise Locked(_refusal(path, _this_process()))
    try:
        handle = _acquire(path)
        try:
            remove_temporary_files(path.parent.glob(TEMPORARY))
            yield
        finally:
            if os.getpid() == pid:  # else this is a forked child
                _release(path, handle)
    finally:
        _held.pop((pid, path), None)


def state(folder: StrPath) -> tuple[str, Owner | None]:
    """Return the state of a folder's lock, "free", "held" or "stale", and who wrote it.

    The lock of another host counts as held. Nothing is written.
    """
    path = _path(folder)
    if (os.getpid(), path) in _held:  # closing the file would release the lock
        return "held", _this_process()
    try:
        handle = os.open(path, os.O_RDONLY | O_CLOEXEC)
    except FileNotFoundError:
        return "free", None
    except PermissionError:
        return "held", None
    try:
        owner = _read(handle)
        is_locked = _lock(handle, shared=True)
        return "stale" if _is_stale(owner, is_locked) else "held", owner
    finally:
        os.close(handle)


def remove_temporary_files(paths: Iterable[Path]) -> None:
    """Remove temporary files whose writers are dead."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def remove_litter(folders: Path) -> None:
    """Remove the temporary files and the locks of dead runs, whose folders are in a folder."""
    for log in folders.glob("*/metrics.jsonl"):
        run = log.parent
        with suppress(OSError):
            temporary = list(run.glob(TEMPORARY))  # before the lock is read: a new run has others
            condition = state(run)[0]
            if condition != "held":
                remove_temporary_files(temporary)
            if condition == "stale":
                with locked(run):
                    pass


def _path(folder: StrPath) -> Path:
    return Path(os.path.realpath(folder)) / LOCK


def _acquire(path: Path) -> int:
    """Return the handle of the lock file, which is locked and names this process."""
    owner = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        with writing(path):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | O_CLOEXEC, 0o666)
        try:
            owner = _read(handle)
            if _is_stale(owner, _lock(handle)) and _is_at(path, handle):
                _write(path, handle)
                return handle
        except BaseException:
            os.close(handle)
            raise
        os.close(handle)
    raise Locked(_refusal(path, owner))


def _release(path: Path, handle: int) -> None:
    """Remove the lock file and unlock it; in this order, or another owner's would be removed."""
    if fcntl is None:  # Windows removes no open file
        os.close(handle)
    with suppress(OSError):
        path.unlink()
    if fcntl is not None:
        os.close(handle)


def _write(path: Path, handle: int) -> None:
    """Write this process into the lock file; if that fails, remove the file."""
    try:
        with writing(path):
            os.ftruncate(handle, 0)
            os.lseek(handle, 0, os.SEEK_SET)
            os.write(handle, json.dumps(_this_process()._asdict()).encode())
    except BaseException:
        with suppress(OSError):
            path.unlink()
        raise


def _lock(handle: int, shared: bool = False) -> bool | None:
    """Lock an open file; return whether it is locked now, or None if files cannot be locked."""
    if fcntl is None:
        return None
    try:
        fcntl.lockf(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        if error.errno in NO_LOCKS:
            return None
        raise
    return True


def _is_at(path: Path, handle: int) -> bool:
    """Return whether the path still names the open file: another process may have removed it."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(handle))
    except FileNotFoundError:
        return False


def _read(handle: int) -> Owner | None:
    """Return the owner in a lock file; None if its writer was killed before it wrote."""
    try:
        owner = Owner(**json.loads(os.read(handle, 4096)))
    except (ValueError, TypeError, RecursionError):
        return None
    texts = owner._replace(pid="")  # type: ignore[arg-type]
    return owner if type(owner.pid) is int and all(isinstance(t, str) for t in texts) else None


def _this_process() -> Owner:
    pid = os.getpid()
    since = time.strftime("%Y-%m-%d %H:%M:%S")
    return Owner(pid, socket.gethostname(), _kernel(), _space(), _start(pid), since)


def _kernel() -> str:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    return ""


def _space() -> str:
    with suppress(OSError):
        return os.readlink("/proc/self/ns/pid")
    return ""


def _start(pid: int) -> str:
    """Return when a process started; "" for none, for a zombie, and without /proc."""
    with suppress(OSError, IndexError):
        words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return "" if words[0] in "ZX" else words[19]
    return ""


def _same_host(owner: Owner) -> bool:
    return owner.host == socket.gethostname() or owner.kernel == _kernel() != ""


def _is_stale(owner: Owner | None, is_locked: bool | None) -> bool:
    """Return whether the owner has ended for certain.

    is_locked is the result of _lock: whether this process holds the lock, or None.
    """
    if is_locked is False:
        return False
    if owner is None:
        return True
    if not _same_host(owner):
        return False
    if owner.kernel != _kernel():  # the host was started again
        return True
    if owner.space != _space():  # its process id means another process here
        return bool(is_locked)
    if owner.start:
        return _start(owner.pid) != owner.start
    return not _is_alive(owner.pid)


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


def _refusal(path: Path, owner: Owner | None) -> str:
    """Return the message of Locked."""
    if owner is None:
        return f"{path.parent} is being written by another process: wait for its end, or stop it"
    who = "this process" if owner.pid == os.getpid() else "the process"
    text = f"{path.parent} is being written by {who} {owner.pid} of host {escaped(str(owner.host))}"
    text += f" since {escaped(str(owner.since))}"
    if not _same_host(owner):
        return f"{text}, which cannot be seen from here: if that run has ended, remove {path}"
    return f"{text}: wait for its end, or stop it"

"""One process writes to a run folder; a second one is refused.

The owner writes its process id, host and start into the file run.lock (owner.py), and holds a
POSIX record lock on it. The operating system releases a record lock when the owner ends, however it
ends, and forked children do not inherit it. Where files cannot be locked, the process id decides.
"""

import errno
import json
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from minise.atomic import TEMPORARY, writing
from minise.checks import StrPath, escaped
from minise.train.owner import MAX_BYTES, Owner, from_json, has_ended, is_of_this_host, this_process

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
        another host, whose processes this host cannot check.
    OSError
        If the lock file cannot be written.
    """
    path, pid, token = _path(folder), os.getpid(), object()
    if _held.setdefault((pid, path), token) is not token:  # record locks do not exclude threads
        raise Locked(_refusal(folder, this_process()))
    try:
        handle = _acquire(path, folder)
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
        return "held", this_process()
    try:
        handle = os.open(path, os.O_RDONLY | O_CLOEXEC)
    except FileNotFoundError:
        return "free", None
    except PermissionError:
        return "held", None
    try:
        owner = from_json(os.read(handle, MAX_BYTES))
        is_locked = _lock(handle, shared=True)
        return "stale" if _is_stale(owner, is_locked) else "held", owner
    finally:
        os.close(handle)


def remove_temporary_files(paths: Iterable[Path]) -> None:
    """Remove temporary files whose writers are dead."""
    for path in paths:
        with suppress(OSError):
            path.unlink()


def remove_stale_files(folders: Path) -> None:
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


def _acquire(path: Path, folder: StrPath) -> int:
    """Return the handle of the lock file, which is locked and names this process.

    folder is the path for messages, as the user wrote it.
    """
    owner = None
    for attempt in range(TRIES):
        if attempt:
            time.sleep(PAUSE_SECONDS)
        with writing(Path(folder, LOCK)):
            handle = os.open(path, os.O_RDWR | os.O_CREAT | O_CLOEXEC, 0o666)
            try:
                owner = from_json(os.read(handle, MAX_BYTES))
                if _is_stale(owner, _lock(handle)) and _is_at(path, handle):
                    _write(path, handle)
                    return handle
            except BaseException:
                os.close(handle)
                raise
            os.close(handle)
    raise Locked(_refusal(folder, owner))


def _release(path: Path, handle: int) -> None:
    """Remove the lock file and unlock it; in this order, or another owner's would be removed."""
    if fcntl is None:  # Windows removes no open file
        os.close(handle)
    try:
        with suppress(OSError):
            path.unlink()
    finally:
        if fcntl is not None:
            with suppress(OSError):
                os.close(handle)


def _write(path: Path, handle: int) -> None:
    """Write this process into the lock file; if that fails, remove the file."""
    try:
        os.ftruncate(handle, 0)
        os.lseek(handle, 0, os.SEEK_SET)
        os.write(handle, json.dumps(this_process()._asdict()).encode())
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


def _is_stale(owner: Owner | None, is_locked: bool | None) -> bool:
    """Return whether the owner has ended for certain; is_locked is the result of _lock."""
    if is_locked is False:
        return False
    return owner is None or has_ended(owner, bool(is_locked))


def _refusal(folder: StrPath, owner: Owner | None) -> str:
    """Return the message of Locked."""
    text = f"{os.fspath(folder)} is being written by"
    if owner is None:
        return f"{text} another process: wait for its end, or stop it"
    is_this = owner.pid == os.getpid() and is_of_this_host(owner)
    who = "this process" if is_this else "the process"
    text += f" {who} {owner.pid} of host {escaped(owner.host)} since {escaped(owner.since)}"
    if not is_of_this_host(owner):
        lock = Path(folder, LOCK)
        return f"{text}, which this host cannot check: if that run has ended, remove {lock}"
    return f"{text}: wait for its end, or stop it"

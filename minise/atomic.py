"""Write files atomically, and describe a failure in one line: file, reason and fix.

The content goes to a temporary file in the same folder, which is flushed to disk and renamed, and
then the folder is flushed.
"""

import errno
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TEMPORARY = ".minise-*.tmp"  # names of temporary files: * is a random number
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of os.link, on some disks
REMEDIES = {
    errno.ENOENT: "create its folder first",
    errno.EROFS: "make the disk writable, or choose another path",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "check the permissions, or choose another path"),
    **dict.fromkeys(DISK_FULL, "free some space, or choose another path"),
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or choose another disk",
}


def write_whole(path: Path, content: bytes, previous: Path | None = None) -> None:
    """Write a file atomically: after a power failure it is complete, or as it was before.

    If path is a symbolic link, its target is written.

    Parameters
    ----------
    path : Path
        The file.
    content : bytes
        The new content of the file.
    previous : Path, optional
        The name that an existing file gets. path exists at every instant, unless the disk has no
        hard links.

    Raises
    ------
    OSError
        If the file cannot be written; then an existing file is unchanged. If only the folder cannot
        be flushed to disk, the file is written, and the message says so.
    """
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not os.path.isfile(target):  # these two raise no error
        raise IsADirectoryError(
            f"{path} is a folder or a device, expected a file: pass for example "
            f"{path / 'net.safetensors'}"
        )
    if not os.path.isdir(target.parent):
        raise FileNotFoundError(
            f"{path} cannot be written, its folder does not exist: create {target.parent} first"
        )
    temporary = _temporary(target.parent)
    with writing(path, len(content)):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            if previous is not None and target.exists():
                _rename_to(previous, target)
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)
    for folder in {target.parent, *([] if previous is None else [previous.absolute().parent])}:
        try:
            flush_folder(folder)
        except OSError as error:
            raise type(error)(
                f"{path} is written, but its folder could not be flushed to disk "
                f"({error.strerror or error}): after a power failure the previous state may be "
                "there"
            ) from error


def _temporary(folder: Path) -> Path:
    """Return the name of a new temporary file: unique, and never too long."""
    return folder / TEMPORARY.replace("*", uuid.uuid4().hex)


def _rename_to(previous: Path, target: Path) -> None:
    """Let `previous` become another name of the file target or, without hard links, its name."""
    temporary = _temporary(previous.parent)
    try:
        os.link(target, temporary)
        temporary.replace(previous)
    except OSError as error:
        if error.errno == errno.EXDEV:  # target is on another disk, by a symbolic link
            write_whole(previous, target.read_bytes())
        elif error.errno in NO_LINKS:
            target.replace(previous)
        else:
            raise
    finally:  # a rename between two links to one file does nothing
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def flush_folder(folder: Path) -> None:
    """Flush the names in a folder to disk."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        flush(handle)
    finally:
        os.close(handle)


def flush(handle: int) -> None:
    """Flush an open file or folder to disk, if it can be: some file systems flush no folders."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


@contextmanager
def writing(path: Path, size: int | None = None) -> Iterator[None]:
    """Replace the message of an OSError in this block by one line: file, reason and fix.

    Parameters
    ----------
    path : Path
        The file that the block writes.
    size : int, optional
        Size of the file in bytes, for the message about a full disk.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        reason, remedy = error.strerror or str(error), REMEDIES.get(error.errno or 0)
        if error.errno in DISK_FULL:
            with suppress(OSError):
                free = shutil.disk_usage(Path(path).absolute().parent).free
                reason += f"; {free:,} bytes are free" + (f", {size:,} are needed" if size else "")
        elif error.errno == errno.EFBIG and size:
            reason += f"; {size:,} bytes are needed{_size_limit()}"
        remedy = remedy or "choose another path"
        raise type(error)(f"{path} cannot be written ({reason}): {remedy}") from error


def _size_limit() -> str:
    """Return this process's limit on the size of a file for a message, or ""."""
    try:
        import resource
    except ImportError:  # Windows
        return ""
    allowed = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return "" if allowed == resource.RLIM_INFINITY else f", {allowed:,} are allowed"

"""Read and write files of named arrays: safetensors with a checksum for each array.

safetensors detects a truncated file, but not a flipped bit; therefore the header holds a CRC-32 of
every array and of every text, one of which repeats the format. Writing is atomic: the content goes
to a temporary file in the same folder, which is flushed to disk and renamed, and then the folder is
flushed.
"""

import errno
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array

NET, CHECKPOINT, GUARD = "minise-net-1", "minise-checkpoint-1", "minise-guard-1"  # formats
READERS = {
    NET: "minise.nn.load reads it into a net",
    CHECKPOINT: "it is a checkpoint, which `minise eval` reads",
    GUARD: "it is a dump, which `minise guard` replays",
}
RUN_FILES = ("last.safetensors", "previous.safetensors", "best.safetensors")  # of a run folder
FORMAT_COPY = "format_copy"  # the text that repeats the format, because texts have checksums
TEMPORARY = ".minise-*.tmp"  # names of temporary files: * is a random number
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)  # of os.link, on some disks
REMEDIES = {
    errno.ENOENT: "create its folder first",
    errno.EROFS: "the disk is read-only, choose another path",
    **dict.fromkeys((errno.EACCES, errno.EPERM), "check the permissions, or choose another path"),
    **dict.fromkeys(DISK_FULL, "free some space, or choose another path"),
    errno.EFBIG: "raise the limit on the size of a file (ulimit -f), or choose another disk",
}


class Damaged(ValueError):
    """A file is truncated or altered; the message names the file and what is damaged.

    Attributes
    ----------
    problem : str
        The message without the remedy.
    """

    def __init__(self, problem: str, path: Path) -> None:
        others = [path.with_name(name) for name in RUN_FILES if name != path.name]
        intact = " or ".join(str(other) for other in others if other.is_file())
        super().__init__(f"{problem}: copy it again, or pass {intact or 'another checkpoint'}")
        self.problem = problem


class File(NamedTuple):
    """The content of a file."""

    format: str
    arrays: dict[str, Array]
    texts: dict[str, Any]  # decoded from JSON


def write(
    path: Path,
    format: str,
    arrays: dict[str, Array],
    texts: dict[str, Any],
    previous: Path | None = None,
) -> None:
    """Write arrays, and texts as JSON, atomically; an existing file becomes `previous`."""
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "c":
            raise TypeError(
                f"save: {name} is {array.dtype}, expected a real dtype, because safetensors has no "
                "complex one: build the net with dtype=np.float64"
            )
    texts = {**texts, FORMAT_COPY: format}
    header = {"format": format, **{key: json.dumps(text) for key, text in texts.items()}}
    header["crc32"] = json.dumps(_checksums(header, arrays))
    write_whole(path, to_bytes(arrays, header), previous)


def read(path: Path, *formats: str) -> File:
    """Read a file of one of these formats, and check every checksum.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    Damaged
        If the file is truncated or altered.
    ValueError
        If the file is of another format, or was written by a newer version of minise.
    """
    if os.path.isdir(path):
        files = ", ".join(str(file) for file in sorted(path.glob("*.safetensors"))) or "none there"
        raise FileNotFoundError(
            f"{path} is a folder, expected a file in it (.safetensors): {files}"
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist, expected a checkpoint (.safetensors)")
    open(path, "rb").close()  # safe_open would report a file without permission as missing
    header, arrays = _content(path)
    _check_format(path, header, formats)
    try:
        written = json.loads(header["crc32"])
        texts = {k: json.loads(v) for k, v in header.items() if k not in ("format", "crc32")}
        if not isinstance(written, dict):
            raise KeyError("crc32")
    except (KeyError, ValueError, RecursionError):
        raise Damaged(f"{path} is altered: its header is not readable", path) from None
    sums = _checksums(header, arrays)
    wrong = sorted(k for k in sums.keys() | written.keys() if sums.get(k) != written.get(k))
    if wrong:
        raise Damaged(f"{path} is altered: {shortened(wrong)} fails its checksum", path)
    texts.pop(FORMAT_COPY, None)
    return File(header["format"], arrays, texts)


def _content(path: Path) -> tuple[dict[str, str], dict[str, Array]]:
    """Return the header and the arrays of a file, not yet checked."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise Damaged(f"{path} is truncated or not a safetensors file ({error})", path) from None


def _check_format(path: Path, header: dict[str, str], formats: tuple[str, ...]) -> None:
    """Raise an error if a file is of none of these formats, or of a newer version of one."""
    format, copy = header.get("format"), header.get(FORMAT_COPY)
    if format in formats:
        return
    if copy not in (None, json.dumps(format)):
        raise Damaged(f"{path} is altered: its format is {format!r}, but {copy} was written", path)
    wanted = " or ".join(map(repr, formats))
    name, _, number = (format or "").rpartition("-")
    if number.isdecimal() and name in {known.rpartition("-")[0] for known in formats}:
        raise ValueError(
            f"{path} has format {format!r}, expected {wanted}: a newer version of minise wrote it, "
            "upgrade minise"
        )
    hint = READERS.get(format or "", "minise did not write it")
    raise ValueError(f"{path} has format {format!r}, expected {wanted}: {hint}")


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
        _flush_folder(folder, path)


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


def _flush_folder(folder: Path, path: Path) -> None:
    """Flush the names in a folder to disk, after the file path was written there."""
    if os.name != "posix":
        return
    try:
        handle = os.open(folder, os.O_RDONLY)
        try:
            flush(handle)
        finally:
            os.close(handle)
    except OSError as error:
        raise type(error)(
            f"{path} is written, but its folder could not be flushed to disk "
            f"({error.strerror or error}): after a power failure the previous state may be there"
        ) from error


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


def _checksums(header: dict[str, str], arrays: dict[str, Array]) -> dict[str, int]:
    """Return a CRC-32 of each text, and of each array with its name and shape."""
    texts = {key: text for key, text in header.items() if key not in ("format", "crc32")}
    sums = {f"header {key}": zlib.crc32(text.encode()) for key, text in texts.items()}
    for name, array in arrays.items():
        title = f"{name} {array.dtype} {array.shape}"
        sums[name] = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(title.encode()))
    return sums


def shortened(names: list[str]) -> str:
    """Return the first three names and the number of the others, for a message."""
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

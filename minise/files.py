"""Read and write files of named arrays: safetensors with a checksum for each array.

safetensors detects a truncated file, but not a flipped bit; therefore the header holds a CRC-32 of
every array and of every text. Writing is atomic: the content goes to a temporary file in the same
folder, which is flushed to disk and renamed, and then the folder is flushed.
"""

import errno
import json
import os
import shutil
import uuid
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array

NET, CHECKPOINT = "minise-net-1", "minise-checkpoint-1"  # names of the formats, in the header
DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
REMEDIES = {
    errno.ENOENT: "create its folder first",
    **dict.fromkeys(DISK_FULL, "free some space, or choose another path"),
}


class File(NamedTuple):
    """The content of a file."""

    format: str
    arrays: dict[str, Array]
    texts: dict[str, Any]  # decoded from JSON


def write(path: Path, format: str, arrays: dict[str, Array], texts: dict[str, Any]) -> None:
    """Write arrays, and texts as JSON, atomically."""
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "c":
            raise TypeError(
                f"save: {name} is {array.dtype}, expected a real dtype, because safetensors has no "
                "complex one: build the net with dtype=np.float64"
            )
    header = {"format": format, **{key: json.dumps(text) for key, text in texts.items()}}
    header["crc32"] = json.dumps(_checksums(header, arrays))
    write_whole(path, to_bytes(arrays, header))


def read(path: Path, *formats: str) -> File:
    """Read a file of one of these formats, and check every checksum.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, altered, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    if os.path.isdir(path):
        files = ", ".join(str(file) for file in sorted(path.glob("*.safetensors"))) or "none there"
        raise FileNotFoundError(
            f"{path} is a folder, expected a file in it (.safetensors): {files}"
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} does not exist, expected a checkpoint (.safetensors)")
    open(path, "rb").close()  # safe_open would report a file without permission as missing
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(
            f"{path} is truncated or not a safetensors file ({error}): copy it again, or pass "
            "another checkpoint"
        ) from None
    if header.get("format") not in formats:
        wanted, format = " or ".join(map(repr, formats)), header.get("format")
        hint = "minise.nn.load reads it into a net" if format == NET else "minise did not write it"
        raise ValueError(f"{path} has format {format!r}, expected {wanted}: {hint}")
    try:
        written = json.loads(header["crc32"])
        texts = {k: json.loads(v) for k, v in header.items() if k not in ("format", "crc32")}
        if not isinstance(written, dict):
            raise KeyError("crc32")
    except (KeyError, json.JSONDecodeError):
        raise ValueError(f"{path} is altered: its header is not readable; copy it again") from None
    sums = _checksums(header, arrays)
    wrong = sorted(k for k in sums.keys() | written.keys() if sums.get(k) != written.get(k))
    if wrong:
        raise ValueError(f"{path} is altered: {shortened(wrong)} fails its checksum; copy it again")
    return File(header["format"], arrays, texts)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file atomically: after a power failure it is complete, or as it was before.

    If path is a symbolic link, its target is written.

    Raises
    ------
    OSError
        If the file cannot be written; then an existing file is unchanged.
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
    temporary = target.with_name(f".{uuid.uuid4().hex}")  # unique, and never too long a name
    with writing(path, len(content)):
        try:
            with temporary.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
        if os.name == "posix":
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)


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
        reason, remedy = error.strerror or error, REMEDIES.get(error.errno or 0)
        if error.errno in DISK_FULL:
            free = f"{shutil.disk_usage(Path(path).absolute().parent).free:,} bytes are free"
            reason = f"{reason}; {free}" + (f", {size:,} are needed" if size else "")
        remedy = remedy or "choose another path"
        raise type(error)(f"{path} cannot be written ({reason}): {remedy}") from error


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

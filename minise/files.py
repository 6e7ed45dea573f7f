"""Files of arrays: safetensors with the arrays' names and a checksum of each.

safetensors notices a truncated file, but not a flipped bit; so the header holds a CRC-32 of every
array and of every text beside them. A file appears whole or not at all: it is written beside its
place, flushed to the disk and renamed, and the folder is flushed.
"""

import json
import os
import uuid
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array

NET, CHECKPOINT = "minise-net-1", "minise-checkpoint-1"  # the formats


class File(NamedTuple):
    """What a file holds."""

    format: str
    arrays: dict[str, Array]
    texts: dict[str, Any]  # decoded from JSON


def write(path: Path, format: str, arrays: dict[str, Array], texts: dict[str, Any]) -> None:
    """Write arrays, and texts as JSON, whole or not at all."""
    from safetensors.numpy import save as to_bytes

    arrays = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.dtype.kind == "c":
            raise TypeError(
                f"save: {name} is {array.dtype}, expected real numbers, as safetensors has no "
                "others: build the net with dtype=np.float64"
            )
    header = {"format": format, **{key: json.dumps(text) for key, text in texts.items()}}
    header["crc32"] = json.dumps(_checksums(header, arrays))
    write_whole(path, to_bytes(arrays, header))


def read(path: Path, *formats: str) -> File:
    """Read a file of one of these formats, and check all of it.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, altered, or of another format.
    """
    from safetensors import SafetensorError, safe_open

    if os.path.isdir(path):
        within = ", ".join(str(file) for file in sorted(path.glob("*.safetensors"))) or "none there"
        raise FileNotFoundError(
            f"{path} is a folder, expected a file of it (.safetensors): {within}"
        )
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{path} is not there, expected a checkpoint (.safetensors)")
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None
    if header.get("format") not in formats:
        wanted, came = " or ".join(map(repr, formats)), header.get("format")
        hint = "minise.nn.load reads it into a net" if came == NET else "minise did not write it"
        raise ValueError(f"{path} has format {came!r}, expected {wanted}: {hint}")
    try:
        written = json.loads(header["crc32"])
        texts = {k: json.loads(v) for k, v in header.items() if k not in ("format", "crc32")}
        if not isinstance(written, dict):
            raise KeyError("crc32")
    except (KeyError, json.JSONDecodeError):
        raise ValueError(f"{path} is altered: its header cannot be read; copy it anew") from None
    sums = _checksums(header, arrays)
    wrong = sorted(k for k in sums.keys() | written.keys() if sums.get(k) != written.get(k))
    if wrong:
        raise ValueError(f"{path} is altered: {some(wrong)} fails its checksum; copy it anew")
    return File(header["format"], arrays, texts)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, also after a power failure.

    Of a symbolic link the target is written.

    Raises
    ------
    OSError
        If it cannot be written; then an older file stays.
    """
    target = Path(os.path.realpath(path))
    if os.path.exists(target) and not os.path.isfile(target):  # which raise nothing
        raise IsADirectoryError(
            f"{path} is a folder or a device, expected a file: pass such as "
            f"{path / 'net.safetensors'}"
        )
    if not os.path.isdir(target.parent):
        raise FileNotFoundError(
            f"{path} cannot be written, its folder is not there: make {target.parent} first"
        )
    beside = target.with_name(f".{uuid.uuid4().hex}")  # of this call alone, and never too long
    try:
        try:
            with beside.open("xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        finally:
            beside.unlink(missing_ok=True)
        if os.name == "posix":
            folder = os.open(target.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
    except OSError as error:
        reason = error.strerror or error
        raise type(error)(f"{path} cannot be written ({reason}): choose another path") from error


def _checksums(header: dict[str, str], arrays: dict[str, Array]) -> dict[str, int]:
    """Return a CRC-32 of each text, and of each array with its name and shape."""
    texts = {key: text for key, text in header.items() if key not in ("format", "crc32")}
    sums = {f"header {key}": zlib.crc32(text.encode()) for key, text in texts.items()}
    for name, array in arrays.items():
        title = f"{name} {array.dtype} {array.shape}"
        sums[name] = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(title.encode()))
    return sums


def some(names: list[str]) -> str:
    """Return the first of several names, for a message."""
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

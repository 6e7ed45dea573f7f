"""Read and write files of named arrays: safetensors with a checksum for each array.

safetensors detects a truncated file, but not a flipped bit; therefore the header holds a CRC-32 of
every array and of every text, one of which repeats the format.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.atomic import write_whole
from minise.checks import Array

NET, CHECKPOINT, GUARD = "minise-net-1", "minise-checkpoint-1", "minise-guard-1"  # formats
READERS = {
    NET: "minise.nn.load reads it into a net",
    CHECKPOINT: "it is a checkpoint, which `minise eval` reads",
    GUARD: "it is a dump, which `minise guard` replays",
}
RUN_FILES = ("last.safetensors", "previous.safetensors", "best.safetensors")  # of a run folder
FORMAT_COPY = "format_copy"  # the text that repeats the format, because texts have checksums


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
        files = " or ".join(str(file) for file in sorted(path.glob("*.safetensors")))
        raise FileNotFoundError(
            f"{path} is a folder, expected a file (.safetensors): pass {files or 'a file'}"
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

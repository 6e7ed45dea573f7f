"""Nets as files: safetensors with the arrays' dotted names and a checksum of each.

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

from minise.nn.layer import Layer, Module
from minise.ops.checks import Array

NET, CHECKPOINT = "minise-net-1", "minise-checkpoint-1"
OPTIMISER = "optimiser/"  # what names of a checkpoint's other arrays begin with


class File(NamedTuple):
    """What a file holds."""

    format: str
    arrays: dict[str, Array]
    texts: dict[str, Any]  # decoded from JSON


def save(net: Layer, path: str | Path) -> None:
    """Write the parameters and the state of a net.

    Parameters
    ----------
    net : Layer
        A net or a layer.
    path : str or Path
        The file, such as net.safetensors; an older one of that name stays until this one is whole.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError, ValueError
        If net is no layer or complex, or path is none.
    """
    write(_path_of("save", net, path), NET, copied(net), {})


def load(net: Layer, path: str | Path) -> None:
    """Read parameters and state into a net, in place, from `save` or from a checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or of another format, or a name is missing or unknown, or a shape or
        kind of number differs; then nothing is written into the net.
    TypeError
        If net is no layer, or path is none.
    """
    file = read(_path_of("load", net, path), NET, CHECKPOINT)
    restore(net, net_arrays(file), str(path))


def net_arrays(file: File) -> dict[str, Array]:
    """Return a file's arrays without those of a checkpoint's optimiser."""
    if file.format == NET:
        return file.arrays
    return {k: array for k, array in file.arrays.items() if not k.startswith(OPTIMISER)}


def _path_of(where: str, net: Any, path: Any) -> Path:
    """Return the path, if net is a net and path is one."""
    call = f"pass nn.{where}(net, 'net.safetensors')"
    if not isinstance(net, Module):
        raise TypeError(f"{where}: net is a {type(net).__name__}, expected a layer: {call}")
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{where}: path is a {type(path).__name__}, expected a path: {call}")
    if not str(path) or "\0" in str(path):
        raise ValueError(f"{where}: path is {str(path)!r}, expected that of a file: {call}")
    return Path(path)


def copied(net: Layer) -> dict[str, Array]:
    """Return copies of a net's parameters and state by name, as NumPy arrays."""
    named = {**net.named_parameters(), **net.named_state()}
    return {name: net.ops.asnumpy(array).copy() for name, array in named.items()}


def restore(net: Layer, arrays: dict[str, Array], source: str = "the checkpoint") -> None:
    """Write arrays into a net's parameters and state, in place.

    Raises
    ------
    ValueError
        If a name is missing or unknown, or a shape or kind of number differs; then nothing is
        written.
    """
    named = {**net.named_parameters(), **net.named_state()}
    missing, unknown = sorted(named.keys() - arrays.keys()), sorted(arrays.keys() - named.keys())
    if missing or unknown:
        raise ValueError(
            f"{source} does not fit the net: it lacks {_some(missing)} and has unknown "
            f"{_some(unknown)}; build the net with the file's own settings"
        )
    for name, array in named.items():
        came = np.asarray(arrays[name])
        if array.shape != came.shape:
            raise ValueError(
                f"{source} does not fit the net: {name} has shape {came.shape}, "
                f"expected {tuple(array.shape)}"
            )
        if array.dtype.kind != came.dtype.kind:
            raise ValueError(
                f"{source} does not fit the net: {name} is {came.dtype}, expected {array.dtype}"
            )
        with np.errstate(over="ignore"):
            exact = array.dtype.kind not in "fc"
            cast = came.astype(array.dtype)
        if (cast != came).any() if exact else (np.isfinite(came) & ~np.isfinite(cast)).any():
            raise ValueError(
                f"{source} does not fit the net: {name} has values that {array.dtype} does not, "
                f"expected none: build the net with dtype=np.{came.dtype}"
            )
    for name, array in named.items():
        array[...] = net.ops.asarray(arrays[name], array.dtype)


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
        raise ValueError(f"{path} is altered: {_some(wrong)} fails its checksum; copy it anew")
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


def _some(names: list[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

"""Checkpoints: one safetensors file with all that a run needs to go on.

Parameters and running statistics stand under their dotted names, as a PyTorch twin has them; what
the optimiser keeps stands under ``optimiser/velocity/NAME``. The header holds, as JSON, the
settings, the progress, the normalisation of images, the classes, and a CRC-32 of every array and
of those words: safetensors notices a truncated file, but not a flipped bit.

A file appears whole or not at all: it is written beside its place, flushed to the disk, renamed,
and the folder is flushed.
"""

import json
import os
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.ops.checks import Array
from minise.train.config import TrainConfig, from_dict, to_dict

FORMAT = "minise-checkpoint-1"
VELOCITY = "optimiser/velocity/"
WORDS = ("config", "progress", "data")  # the header's JSON, besides the checksums


class Checkpoint(NamedTuple):
    """What a file holds."""

    arrays: dict[str, Array]  # parameters and running statistics by dotted name
    velocity: dict[str, Array]  # by the parameter's name; empty if none was saved
    config: TrainConfig
    progress: dict[str, Any]  # epoch and step that are done, accuracies
    data: dict[str, Any]  # mean, std, classes


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint, whole or not at all; an older file of that name stays until then."""
    from safetensors.numpy import save as to_bytes

    velocity = {f"{VELOCITY}{name}": array for name, array in checkpoint.velocity.items()}
    arrays = {
        name: np.ascontiguousarray(array)
        for name, array in {**checkpoint.arrays, **velocity}.items()
    }
    header = {
        "format": FORMAT,
        "config": json.dumps(to_dict(checkpoint.config)),
        "progress": json.dumps(checkpoint.progress),
        "data": json.dumps(checkpoint.data),
    }
    header["crc32"] = json.dumps(_checksums(header, arrays))
    write_whole(path, to_bytes(arrays, header))


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and check every array.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, altered, or not a checkpoint of this format.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there, expected a checkpoint (.safetensors)")
    try:
        with safe_open(path, "np") as file:
            header = file.metadata() or {}
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is truncated or not a safetensors file: {error}") from None
    if header.get("format") != FORMAT:
        raise ValueError(
            f"{path} has format {header.get('format')!r}, expected {FORMAT!r}: it is a safetensors "
            "file that minise did not write"
        )
    try:
        written = json.loads(header["crc32"])
        config, progress, data = (json.loads(header[key]) for key in WORDS)
    except (KeyError, json.JSONDecodeError):
        raise ValueError(f"{path} is altered: its header cannot be read; copy it anew") from None
    found = _checksums(header, arrays)
    wrong = sorted(
        name for name in found.keys() | written.keys() if found.get(name) != written.get(name)
    )
    if wrong:
        raise ValueError(f"{path} is altered: {_some(wrong)} fails its checksum; copy it anew")
    velocity = {
        name.removeprefix(VELOCITY): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(VELOCITY)
    }
    return Checkpoint(arrays, velocity, from_dict(config), progress, data)


def arrays_of(net: Any) -> dict[str, Array]:
    """Return copies of a net's parameters and running statistics, as NumPy arrays."""
    named = {**net.named_parameters(), **net.named_state()}
    return {name: net.ops.asnumpy(array).copy() for name, array in named.items()}


def restore(net: Any, arrays: dict[str, Array]) -> None:
    """Write arrays into a net's parameters and running statistics, in place.

    Raises
    ------
    ValueError
        If a name is missing or unknown, or a shape differs; then nothing is written.
    """
    named = {**net.named_parameters(), **net.named_state()}
    missing, unknown = sorted(named.keys() - arrays.keys()), sorted(arrays.keys() - named.keys())
    if missing or unknown:
        raise ValueError(
            f"the checkpoint does not fit the net: it lacks {_some(missing)} and has unknown "
            f"{_some(unknown)}; build the net with the checkpoint's own settings"
        )
    for name, array in named.items():
        if array.shape != arrays[name].shape:
            raise ValueError(
                f"the checkpoint does not fit the net: {name} has shape {arrays[name].shape}, "
                f"expected {array.shape}"
            )
    for name, array in named.items():
        array[...] = net.ops.asarray(arrays[name], array.dtype)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, also after a power failure."""
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    if os.name == "posix":
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _checksums(header: dict[str, str], arrays: dict[str, Array]) -> dict[str, int]:
    """Return a CRC-32 of each of the header's words, and of each array with its name and shape."""
    sums = {f"header {key}": zlib.crc32(header[key].encode()) for key in WORDS}
    for name, array in arrays.items():
        title = f"{name} {array.dtype} {array.shape}"
        sums[name] = zlib.crc32(np.ascontiguousarray(array).data, zlib.crc32(title.encode()))
    return sums


def _some(names: list[str]) -> str:
    if not names:
        return "nothing"
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

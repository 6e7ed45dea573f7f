"""Nets as files (minise/files.py has the format): arrays by their dotted names."""

import os
from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import Array
from minise.files import CHECKPOINT, NET, File, read, some, write
from minise.nn.layer import Layer, Module

OPTIMISER = "optimiser/"  # what names of a checkpoint's other arrays begin with


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
    return {name: net.ops.asnumpy(a).copy() for name, a in net.named_arrays().items()}


def restore(net: Layer, arrays: dict[str, Array], source: str = "the checkpoint") -> None:
    """Write arrays into a net's parameters and state, in place.

    Raises
    ------
    ValueError
        If a name is missing or unknown, or a shape or kind of number differs; then nothing is
        written.
    """
    named = net.named_arrays()
    missing, unknown = sorted(named.keys() - arrays.keys()), sorted(arrays.keys() - named.keys())
    if missing or unknown:
        raise ValueError(
            f"{source} does not fit the net: it lacks {some(missing)} and has unknown "
            f"{some(unknown)}; build the net with the file's own settings"
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

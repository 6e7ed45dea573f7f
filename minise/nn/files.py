"""Save and load nets: arrays by dotted name, in the file format of minise/files.py."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import Array
from minise.files import CHECKPOINT, NET, File, read, shortened, write
from minise.nn.layer import Layer, Module, dotted_name

OPTIMISER_PREFIX = "optimiser/"  # of the optimiser's arrays in a checkpoint


def save(net: Layer, path: str | Path) -> None:
    """Write the parameters and the state of a net.

    Parameters
    ----------
    net : Layer
        A net or a layer.
    path : str or Path
        The file, such as net.safetensors; an existing file is replaced only by a complete one.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError, ValueError
        If net is not a layer or has complex parameters, or path is not a path.
    """
    write(_path_of("save", net, path), NET, arrays_of(net), {})


def load(net: Layer, path: str | Path) -> None:
    """Read parameters and state into a net, in place, from `save` or from a checkpoint.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is damaged or of another format, or a name is missing or unknown, or a shape or
        kind of dtype differs; then the net is unchanged.
    TypeError
        If net is not a layer, or path is not a path.
    """
    file = read(_path_of("load", net, path), NET, CHECKPOINT)
    restore(net, net_arrays(file), str(path))


def net_arrays(file: File) -> dict[str, Array]:
    """Return a file's arrays without the optimiser's, which a checkpoint has."""
    if file.format == NET:
        return file.arrays
    return {k: array for k, array in file.arrays.items() if not k.startswith(OPTIMISER_PREFIX)}


def _path_of(where: str, net: Any, path: Any) -> Path:
    """Return the path as a Path; check net and path."""
    call = f"pass nn.{where}(net, 'net.safetensors')"
    if not isinstance(net, Module):
        raise TypeError(f"{where}: net is a {type(net).__name__}, expected a layer: {call}")
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{where}: path is a {type(path).__name__}, expected a path: {call}")
    if not str(path) or "\0" in str(path):
        raise ValueError(f"{where}: path is {str(path)!r}, expected the path of a file: {call}")
    return Path(path)


def arrays_of(net: Layer) -> dict[str, Array]:
    """Return copies of a net's parameters and state by name, as NumPy arrays."""
    return {name: net.ops.asnumpy(a).copy() for name, a in net.named_arrays().items()}


def restore(
    net: Layer,
    arrays: Mapping[str, Array],
    source: str = "the checkpoint",
    others: Mapping[str, Array] | None = None,
) -> None:
    """Write arrays into a net's parameters and state, in place.

    Parameters
    ----------
    net : Layer
        The net. It keeps its own value of a missing array that its layer declares in `added_state`.
    arrays : dict of str to ndarray
        An array for each parameter, state and other array.
    source : str
        Origin of the arrays, for messages.
    others : dict of str to ndarray, optional
        Other arrays to write by name, such as the optimiser's.

    Raises
    ------
    ValueError
        If a name is missing or unknown, or a shape or kind of dtype differs; then nothing is
        written.
    """
    added = {dotted_name(path, name) for path, part in net.layers() for name in part.added_state}
    named = {**net.named_arrays(), **(others or {})}
    named = {name: array for name, array in named.items() if name in arrays or name not in added}
    missing, unknown = sorted(named.keys() - arrays.keys()), sorted(arrays.keys() - named.keys())
    if missing or unknown:
        problems = [f"it lacks {shortened(missing)}"] if missing else []
        problems += [f"the net has no {shortened(unknown)}"] if unknown else []
        raise ValueError(
            f"{source} does not fit the net: {', and '.join(problems)}: build the net with the "
            "settings of the file"
        )
    for name, array in named.items():
        stored = np.asarray(arrays[name])
        if array.shape != stored.shape:
            raise ValueError(
                f"{source} does not fit the net: {name} has shape {stored.shape}, "
                f"expected {tuple(array.shape)}"
            )
        if array.dtype.kind != stored.dtype.kind:
            raise ValueError(
                f"{source} does not fit the net: {name} is {stored.dtype}, expected {array.dtype}"
            )
        with np.errstate(over="ignore"):
            exact = array.dtype.kind not in "fc"
            cast = stored.astype(array.dtype)
        if (cast != stored).any() if exact else (np.isfinite(stored) & ~np.isfinite(cast)).any():
            raise ValueError(
                f"{source} does not fit the net: {name} has values that {array.dtype} cannot hold, "
                f"expected none: build the net with dtype=np.{stored.dtype}"
            )
    for name, array in named.items():
        array[...] = net.ops.asarray(arrays[name], array.dtype)

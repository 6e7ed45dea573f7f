"""Read a case from an .npz file with the arrays of an op or net by name."""

from dataclasses import replace
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from minise.contract.case import line
from minise.ops.shapes import parse
from minise.walk.cases import NETS, SETTINGS, Walk


def from_file(path: Path, like: Walk, settings: dict[str, Any]) -> Walk:
    """Return the case that a .npz file contains.

    Parameters
    ----------
    path : path
        File with the op's arrays by name (optional arrays may be missing) and, optionally, "dout"
        and settings such as stride. For a net or a block: x, and parameters by name.
    like : Walk
        A case of the same op or net.
    settings : dict
        Settings that override those in the file.

    Raises
    ------
    ValueError
        If the file does not exist, is not an .npz file, or lacks arrays; the message names them.
    """
    arrays = _load(path)
    if like.name in NETS:
        return _net(path, like, arrays)
    arguments = parse(line(like.name))
    many = arguments[0].many
    names = [argument.name for argument in arguments if not argument.keyword]
    if many:
        names = sorted(name for name in arrays if name.startswith("x") and name[1:].isdigit())
    required = [argument.name for argument in arguments if not argument.optional]
    _check_complete(path, like.name, ["x0"] if many else required, arrays)
    kinds = {argument.name: argument.kind for argument in arguments}
    positional = {
        name: _as_kind(arrays[name], kinds.get(name, "float")) for name in names if name in arrays
    }
    keywords = {entry.name: arrays.pop(entry.name) for entry in arguments if entry.keyword}
    rest = {name: array for name, array in arrays.items() if name not in {*names, "dout"}}
    chosen = {**SETTINGS.get(like.name, {}), **{k: _plain(v) for k, v in rest.items()}}
    return Walk(
        like.name,
        like.name,
        [positional.get(name) for name in names],
        arrays.get("dout"),
        {**chosen, **settings, **keywords},
    )


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise ValueError(f"walk: {path} {fault}, expected a .npz file: write it with np.savez")
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except TypeError:  # np.load returned one array, which is no context manager
        raise ValueError(
            f"walk: {path} is a .npy file with one array, expected a .npz file of arrays by name: "
            "write it with np.savez('inputs.npz', x=x)"
        ) from None
    except (OSError, ValueError, AttributeError, KeyError, EOFError, BadZipFile) as error:
        reason = "not a .npz file, or one of Python objects"
        if isinstance(error, OSError) and error.errno:
            reason = error.strerror or reason
        raise ValueError(
            f"walk: {path} cannot be read ({reason}), expected a .npz file of plain arrays: write "
            "it with np.savez"
        ) from None


def _check_complete(path: Path, name: str, required: list[str], arrays: dict[str, Any]) -> None:
    missing = [required_name for required_name in required if required_name not in arrays]
    if missing:
        raise ValueError(
            f"walk: {path} has {', '.join(arrays) or 'no array'}, expected "
            f"{', '.join(missing)} too for {name}: "
            f"np.savez(file, {', '.join(f'{array}={array}' for array in required)})"
        )


def _as_kind(array: Any, kind: str) -> Any:
    return np.asarray(array, np.float64) if kind == "float" else array


def _plain(array: Any) -> Any:
    """Return a setting as a Python value: a number, a string, a flag, or a pair."""
    value = array.tolist()
    return tuple(value) if isinstance(value, list) else value


def _net(path: Path, like: Walk, arrays: dict[str, Any]) -> Walk:
    _check_complete(path, like.name, ["x"], arrays)
    params = like.subject.named_parameters()
    for name, array in arrays.items():
        if name in ("x", "labels", "dout"):
            continue
        if name not in params or params[name].shape != array.shape:
            known = ", ".join(f"{key} {value.shape}" for key, value in params.items())
            raise ValueError(
                f"walk: {path} has {name} of shape {array.shape}, expected x and any of {known}"
            )
        params[name][...] = array
    target = arrays.get("labels", arrays.get("dout", like.target))
    return replace(like, x=np.asarray(arrays["x"], np.float64), target=target)

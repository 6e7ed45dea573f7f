"""A case of the reader's own, from a file of NumPy's: arrays by the names of the op."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from minise.contract.case import line
from minise.ops.shapes import parse
from minise.walk.cases import NETS, SETTINGS, Walk


def from_file(path: Path, like: Walk, settings: dict[str, Any]) -> Walk:
    """Return the case of a .npz file.

    Parameters
    ----------
    path : path
        Holds the op's arrays by name (those that may be None may be missing), "dout" if it is to
        be given, and settings, such as stride. For a net or a block: x, and parameters by name.
    like : Walk
        The op or net that it is for.
    settings : dict
        Which win over those in the file.

    Raises
    ------
    ValueError
        If the file is not there, is no .npz, or lacks arrays; the message names them.
    """
    arrays = _load(path)
    if like.name in NETS:
        return _net(path, like, arrays)
    arguments = parse(line(like.name))
    many = arguments[0].many
    positional = [one for one in arguments if not one.keyword]
    names = [one.name for one in positional]
    if many:
        names = sorted(name for name in arrays if name.startswith("x") and name[1:].isdigit())
    wanted = [one.name for one in arguments if not one.optional] if not many else ["x0"]
    _refuse_missing(path, like.name, wanted, arrays)
    kinds = {one.name: one.kind for one in arguments}
    kept = {
        name: _as_kind(arrays[name], kinds.get(name, "float")) for name in names if name in arrays
    }
    keywords = {one.name: arrays.pop(one.name) for one in arguments if one.keyword}
    rest = {name: array for name, array in arrays.items() if name not in {*names, "dout"}}
    chosen = {**SETTINGS.get(like.name, {}), **{k: _plain(v) for k, v in rest.items()}}
    return Walk(
        like.name,
        like.name,
        [kept.get(name) for name in names],
        arrays.get("dout"),
        {**chosen, **settings, **keywords},
    )


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ValueError(f"walk: {path} is not there, expected a .npz file, as np.savez writes it")
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except (OSError, ValueError, AttributeError, KeyError) as error:
        raise ValueError(f"walk: {path} is no .npz file of plain arrays ({error})") from None


def _refuse_missing(path: Path, name: str, wanted: list[str], arrays: dict[str, Any]) -> None:
    missing = [one for one in wanted if one not in arrays]
    if missing:
        raise ValueError(
            f"walk: {path} has {', '.join(arrays) or 'no array'}, but {name} needs "
            f"{', '.join(missing)} too: np.savez(file, {', '.join(f'{w}={w}' for w in wanted)})"
        )


def _as_kind(array: Any, kind: str) -> Any:
    return np.asarray(array, np.float64) if kind == "float" else array


def _plain(array: Any) -> Any:
    """Return a setting as Python has it: a number, a word, a flag, or a pair."""
    value = array.tolist()
    return tuple(value) if isinstance(value, list) else value


def _net(path: Path, like: Walk, arrays: dict[str, Any]) -> Walk:
    _refuse_missing(path, like.name, ["x"], arrays)
    params = like.subject.named_parameters()
    for name, array in arrays.items():
        if name in ("x", "labels", "dout"):
            continue
        if name not in params or params[name].shape != array.shape:
            known = ", ".join(f"{key} {value.shape}" for key, value in params.items())
            raise ValueError(
                f"walk: {path} has {name} of shape {array.shape}, expected parameters among {known}"
            )
        params[name][...] = array
    target = arrays.get("labels", arrays.get("dout", like.target))
    return replace(like, x=np.asarray(arrays["x"], np.float64), target=target)

"""Validate the arguments of a check: inputs, their names, and the linear ones."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np

from minise.gradcheck.adapters import parameter_names
from minise.gradcheck.slopes.arrays import host


def as_inputs(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any] | Mapping[str, Any],
    names: Sequence[str] | None,
) -> tuple[list[Any], list[str]]:
    """Return the inputs in the order of forward's parameters, and a name for each input."""
    for name, function in (("forward", forward), ("backward", backward)):
        if not callable(function):
            kind = type(function).__name__
            raise TypeError(
                f"check: {name} is a {kind}, expected a function: pass {name} without calling it"
            )
    if isinstance(inputs, Mapping) and inputs:
        by_name = {str(name): value for name, value in inputs.items()}
        order = parameter_names(forward, len(by_name))[: len(by_name)]
        if set(order) != set(by_name):
            raise ValueError(
                f"check: inputs has the names {', '.join(by_name)}, expected forward's parameters "
                f"{', '.join(order)}: rename them, or pass a list in forward's order"
            )
        inputs, names = [by_name[name] for name in order], names or order
    if not isinstance(inputs, list | tuple) or not inputs:
        is_collection = isinstance(inputs, list | tuple | Mapping)
        received = "empty" if is_collection else f"a {type(inputs).__name__}"
        raise TypeError(f"check: inputs is {received}, expected a list of arrays: pass [x]")
    if names is not None and not (
        isinstance(names, list | tuple) and all(isinstance(name, str) for name in names)
    ):
        raise TypeError(f"check: names is {names!r}, expected a list of strings")
    if names is None:
        names = parameter_names(forward, len(inputs))[: len(inputs)]
    if len(names) != len(inputs):
        raise ValueError(
            f"check: names has {len(names)} names, expected {len(inputs)}, one for each input"
        )
    for name, value in zip(names, inputs, strict=True):
        _check_input(name, value)
    dtypes = {
        name: value.dtype for name, value in zip(names, inputs, strict=True) if value is not None
    }
    if not any(dtype.kind == "f" for dtype in dtypes.values()):
        received = ", ".join(f"{name} is {dtype}" for name, dtype in dtypes.items())
        fix = f": pass {next(iter(dtypes))}.astype(np.float64)" if dtypes else ""
        raise TypeError(
            f"check: no input is float64 ({received or 'all are None'}), expected at least one{fix}"
        )
    return list(inputs), list(names)


def _check_input(name: str, value: Any) -> None:
    """Raise TypeError or ValueError unless a value is None or an array that can be checked."""
    if value is None:
        return
    dtype = getattr(value, "dtype", None)
    if isinstance(value, np.ndarray) and type(value) is not np.ndarray:
        kind = type(value).__name__
        raise TypeError(
            f"check: {name} is a {kind}, expected a plain array: pass np.asarray({name}), or for a "
            f"masked array {name}.filled()"
        )
    if dtype is None or not hasattr(dtype, "kind"):
        kind = type(value).__name__
        raise TypeError(f"check: {name} is a {kind}, expected an array: pass np.asarray({name})")
    if dtype.kind not in "fiub" or (dtype.kind == "f" and dtype != np.float64):
        why = {
            "f": "finite differences need this precision",
            "c": "mode complex_step converts float64 inputs to complex by itself",
            "O": "objects have no derivative",
        }.get(dtype.kind, "inputs without a gradient may be integers or booleans")
        fix = f"{name}.real" if dtype.kind == "c" else f"{name}.astype(np.float64)"
        raise TypeError(f"check: {name} has dtype {dtype}, expected float64: {why}; pass {fix}")
    if not host(value).size:
        raise ValueError(f"check: {name} has shape {value.shape}, expected no axis of size 0")
    if not np.isfinite(host(value)).all():
        raise ValueError(f"check: {name} has NaN or infinity, expected finite numbers")


def linear_indices(linear: str | Collection[str | int], names: Sequence[str]) -> set[int]:
    """Return the indices of the linear inputs, which are listed by name or by index."""
    if not isinstance(linear, str | Collection):
        raise TypeError(f"check: linear is {linear!r}, expected names or indices of inputs")
    known: dict[str | int, int] = {k: k for k in range(len(names))}
    known.update({name: k for k, name in enumerate(names)})
    chosen = [linear] if isinstance(linear, str) else linear
    for key in chosen:
        if key not in known:
            raise ValueError(f"check: linear names {key!r}, expected any of {', '.join(names)}")
    return {known[key] for key in chosen}

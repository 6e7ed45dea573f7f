"""Arrays of any library, and what holds them: taken to NumPy and back, promoted, swayed."""

import sys
from typing import Any

import numpy as np

from minise.ops.checks import Array


def host(array: Any) -> Any:
    """Return an array of any library as NumPy's; None stays None."""
    if array is None or isinstance(array, np.ndarray):
        return array
    return np.asarray(array.get() if hasattr(array, "get") else array)


def like(array: Array, model: Any) -> Any:
    """Return a NumPy array as one of the model's library."""
    if isinstance(model, np.ndarray | np.generic | float):
        return array
    return sys.modules[type(model).__module__.partition(".")[0]].asarray(array)


def outputs_of(out: Any) -> tuple[Array, ...]:
    """Return what forward returned, one array or a tuple of them, as a tuple of NumPy's."""
    return tuple(map(host, out)) if isinstance(out, tuple | list) else (host(out),)


def shaped_as(out: Any, douts: tuple[Array, ...]) -> Any:
    """Return dout as out is: one array, a tuple or a NamedTuple, of its library."""
    if not isinstance(out, tuple | list):
        return like(douts[0], out)
    parts = [like(dout, one) for dout, one in zip(douts, out, strict=True)]
    return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)


def promoted(value: Any) -> Any:
    """Return a float array as complex; anything else stays."""
    floats = getattr(getattr(value, "dtype", None), "kind", "") == "f"
    return value.astype(complex) if floats else value


def copied(value: Any) -> Any:
    """Return an array, or a tuple of them, as a copy that its reader may keep."""
    if isinstance(value, tuple | list):
        parts = [copied(one) for one in value]
        return type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)
    return value.copy() if hasattr(value, "copy") else value


def same(one: Any, other: Any) -> bool:
    """Tell whether two arrays, or tuples of them, hold the same bits."""
    if isinstance(one, tuple | list):
        return all(same(a, b) for a, b in zip(one, other, strict=True))
    if one is None:
        return True
    return bool(np.array_equal(host(one), host(other), equal_nan=True))


def swayed(value: Any, share: float, rng: np.random.Generator) -> Any:
    """Return a cache whose floats are all made larger or smaller, at random, by up to a share."""
    if getattr(getattr(value, "dtype", None), "kind", "") == "f":
        numbers = np.asarray(host(value))
        return like(np.asarray(numbers * (1 + share * rng.uniform(-1, 1, numbers.shape))), value)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(swayed(one, share, rng) for one in value))
    if isinstance(value, tuple | list):
        return type(value)(swayed(one, share, rng) for one in value)
    if isinstance(value, dict):
        return {key: swayed(one, share, rng) for key, one in value.items()}
    return value

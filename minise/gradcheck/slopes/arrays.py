"""Convert, copy, compare and perturb arrays of any library and containers of arrays.

A container is what forward may return as out or as cache: a tuple, a NamedTuple, a list or a dict,
also nested.
"""

import collections
import copy
import dataclasses
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from minise.checks import Array


def host(array: Any) -> Any:
    """Return an array of any library as a NumPy array, and None as None."""
    if array is None or isinstance(array, np.ndarray):
        return array
    return np.asarray(array.get() if hasattr(array, "get") else array)


def like(array: Array, model: Any) -> Any:
    """Return a NumPy array as an array of the model's library."""
    if isinstance(model, np.ndarray | np.generic | float):
        return array
    return sys.modules[type(model).__module__.partition(".")[0]].asarray(array)


def outputs_of(out: Any) -> tuple[Array, ...]:
    """Return forward's out, one array or a tuple of arrays, as a tuple of NumPy arrays."""
    return tuple(map(host, out)) if isinstance(out, tuple | list) else (host(out),)


def shaped_as(out: Any, douts: tuple[Array, ...]) -> Any:
    """Return dout in the form of out: one array, a tuple or a NamedTuple, of the same library."""
    if not isinstance(out, tuple | list):
        return like(douts[0], out)
    return _rebuilt(out, [like(dout, part) for dout, part in zip(douts, out, strict=True)])


def is_float(value: Any) -> bool:
    """Return True if a value is an array of real floating-point numbers, of any library."""
    return getattr(getattr(value, "dtype", None), "kind", "") == "f"


def promoted(value: Any) -> Any:
    """Return a float array as a complex array, and anything else as it is."""
    return value.astype(complex) if is_float(value) else value


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return an array, or a container of arrays, with a function applied to each array."""
    if isinstance(value, tuple | list):
        return _rebuilt(value, [mapped(part, function) for part in value])
    if isinstance(value, dict):
        return {key: mapped(part, function) for key, part in value.items()}
    return function(value)


def copied(value: Any) -> Any:
    """Return a copy of an array, or of a container and all arrays in it."""
    return mapped(value, lambda part: part.copy() if hasattr(part, "copy") else part)


def with_own_containers(cache: Any) -> Any:
    """Return a copy of a cache's containers with the same array objects in them.

    A backward may then empty the lists of its cache without changing the original; writing into an
    array does change it. Sets, deques, dataclasses and simple namespaces are copied too.
    """
    if type(cache) is tuple or _is_named_tuple(cache):
        return _rebuilt(cache, [with_own_containers(part) for part in cache])
    if isinstance(cache, dict | list | set | collections.deque):
        container: Any = copy.copy(cache)
        keys = cache if isinstance(cache, dict) else range(len(cache))
        for key in () if isinstance(cache, set) else keys:
            container[key] = with_own_containers(container[key])
        return container
    if isinstance(cache, types.SimpleNamespace) or _is_dataclass(cache):
        container = copy.copy(cache)
        for name, part in getattr(cache, "__dict__", {}).items():
            container.__dict__[name] = with_own_containers(part)
        return container
    return cache


def _is_named_tuple(value: Any) -> bool:
    """Return True if a value is a NamedTuple."""
    return isinstance(value, tuple) and hasattr(type(value), "_fields")


def _is_dataclass(value: Any) -> bool:
    """Return True if a value is an instance of a dataclass."""
    return dataclasses.is_dataclass(value) and not isinstance(value, type)


def arrays_in(cache: Any, path: str = "cache") -> Iterator[tuple[str, Any]]:
    """Yield (path, array) for each array in a cache, with a path such as "cache[0]".

    Containers and dataclasses are searched.
    """
    names = type(cache)._fields if _is_named_tuple(cache) else None
    if isinstance(cache, dict):
        for key, part in cache.items():
            yield from arrays_in(part, f"{path}[{key!r}]")
    elif isinstance(cache, tuple | list | collections.deque):
        for i, part in enumerate(cache):
            yield from arrays_in(part, f"{path}.{names[i]}" if names else f"{path}[{i}]")
    elif _is_dataclass(cache):
        for field in dataclasses.fields(cache):
            yield from arrays_in(getattr(cache, field.name, None), f"{path}.{field.name}")
    elif hasattr(cache, "dtype") and hasattr(cache, "shape"):
        yield path, cache


def _rebuilt(container: Any, parts: list[Any]) -> Any:
    """Return a tuple, NamedTuple or list of the container's type with other elements."""
    return type(container)(*parts) if _is_named_tuple(container) else type(container)(parts)


def same(first: Any, second: Any) -> bool:
    """Return True if two arrays, or tuples of arrays, are equal; NaN equals NaN."""
    if isinstance(first, tuple | list):
        return all(same(a, b) for a, b in zip(first, second, strict=True))
    if first is None:
        return True
    first, second = host(first), host(second)
    return bool(np.array_equal(first, second, equal_nan=first.dtype.kind in "fc"))


def perturbed(value: Any, scale: float, rng: np.random.Generator) -> Any:
    """Return a cache with every float perturbed at random, relatively by up to scale."""
    if is_float(value):
        numbers = np.asarray(host(value))
        return like(np.asarray(numbers * (1 + scale * rng.uniform(-1, 1, numbers.shape))), value)
    if type(value) in (tuple, list) or _is_named_tuple(value):
        return _rebuilt(value, [perturbed(part, scale, rng) for part in value])
    if type(value) is dict:
        return {key: perturbed(part, scale, rng) for key, part in value.items()}
    return value

"""Count the bytes that a recorded call moves: each array that it reads or writes, once."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from minise.ops.cost.array import ShapeArray
from minise.ops.user.pair import cache_of
from minise.ops.wrapper import FORWARD, Call


def bytes_moved(call: Call) -> int:
    """Return the bytes of the arrays that a call reads and writes, each array counted once.

    Forward reads its arrays, also those in settings such as running statistics, and writes out and
    the arrays that it adds to the cache. Backward reads dout, plus and the arrays of its cache, and
    writes the gradients. Results that are views of inputs are not counted; a call all of whose
    results are views moves 0 bytes.
    """
    read = [*_arrays(call.arrays), *_arrays(call.settings.values())]
    results, cached = list(_arrays(call.results)), list(_arrays([_contents_of(call.cache)]))
    if call.direction == FORWARD:
        results += cached
    else:
        read += cached
    written = _new(results, read)
    return _total([*read, *written]) if _new(_arrays(call.results), read) else 0


def tail_bytes(call: Call) -> tuple[int, int]:
    """Return the bytes that the SE block in a call of se_block_tail moves, and those it keeps.

    They are those of weights, biases and their gradients, squeezed values, hidden units and gates:
    without the SE block, batch_norm2d_add_relu reads and writes all other arrays as well.
    """
    own = list(_arrays([call.cache.gates, call.cache.zhat]))
    if call.direction == FORWARD:
        return _total(own), _total(_new(own, _arrays(call.arrays)))
    return _total([*own, *_arrays(call.results[3:7])]), 0


def _new(arrays: Iterable[np.ndarray], inputs: Iterable[np.ndarray]) -> list[np.ndarray]:
    """Return the arrays that share no memory with the inputs."""
    inputs = list(inputs)
    return [a for a in arrays if not any(_share_memory(a, b) for b in inputs)]


def _share_memory(a: np.ndarray, b: np.ndarray) -> bool:
    if isinstance(a, ShapeArray) and isinstance(b, ShapeArray):
        return a.memory is b.memory
    return np.may_share_memory(a, b)


def _total(arrays: Iterable[np.ndarray]) -> int:
    return sum({_identity(array): array.nbytes for array in arrays}.values())


def _identity(array: np.ndarray) -> Any:
    """Return a key that is equal for an array and for a view of all its elements."""
    return (id(array.memory), array.shape) if isinstance(array, ShapeArray) else id(array)


def _contents_of(cache: Any) -> Any:
    """Return the contents of a cache as a tuple; a user's cache may be a dict or an object."""
    cache = cache_of(cache)
    if isinstance(cache, dict):
        return tuple(cache.values())
    attributes = getattr(cache, "__dict__", None)
    return tuple(attributes.values()) if attributes else cache


def _arrays(values: Iterable[Any]) -> Iterator[np.ndarray]:
    """Yield the arrays among values, and in nested tuples and lists."""
    for value in values:
        if isinstance(value, np.ndarray):
            yield value
        elif isinstance(value, tuple | list):
            yield from _arrays(value)

"""NumPy's functions on arrays of shapes: those that would make an array, and count its bytes."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minise.ops.cost import layout
from minise.ops.cost.array import RULES, ShapeArray, broadcast, computed, new, order_of, wrapped
from minise.ops.cost.ledger import Ledger


def _where(ledger: Ledger, condition: Any, *values: Any) -> Any:
    if not values:
        return computed(np.where, (condition,), {})
    inputs = condition, *values
    shape = broadcast(*(np.shape(value) for value in inputs))
    if shape == ():
        return computed(np.where, inputs, {})
    dtype = np.result_type(*(getattr(v, "dtype", v) for v in values))
    return new(shape, dtype, ledger, order_of(shape, inputs))


def _concatenate(ledger: Ledger, arrays: Sequence[Any], axis: int = 0, **_: Any) -> ShapeArray:
    shape = list(arrays[0].shape)
    shape[axis] = sum(array.shape[axis] for array in arrays)
    dtype = np.result_type(*(array.dtype for array in arrays))
    first = next((array.steps for array in arrays if isinstance(array, ShapeArray)), None)
    steps = None if first is None else layout.like(tuple(shape), first)
    return new(tuple(shape), dtype, ledger, steps)


def _einsum(ledger: Ledger, subscripts: str, *arrays: Any, dtype: Any = None, **__: Any) -> Any:
    names_of_inputs, _, output = subscripts.replace(" ", "").partition("->")
    sizes: dict[str, int] = {}
    for names, array in zip(names_of_inputs.split(","), arrays, strict=True):
        sizes |= zip(names, array.shape, strict=True)
    kind = np.result_type(*(array.dtype for array in arrays)) if dtype is None else dtype
    return new(tuple(sizes[name] for name in output), kind, ledger)


def _pad(ledger: Ledger, array: Any, widths: Any, *_: Any, **__: Any) -> ShapeArray:
    pairs = np.broadcast_to(np.asarray(widths), (array.ndim, 2)).tolist()
    shape = tuple(size + sum(pair) for size, pair in zip(array.shape, pairs, strict=True))
    return new(shape, array.dtype, ledger)


def _broadcast_to(ledger: Ledger, array: Any, shape: Any, **_: Any) -> Any:
    base = array.view(np.ndarray)
    view = np.broadcast_to(base, shape).view(ShapeArray)
    rest = len(view.shape) - array.ndim
    old = zip(array.shape, array.steps, strict=True)
    view.memory = array.memory
    view.steps = (*[0] * rest, *(0 if size == 1 else step for size, step in old))
    return view


def _filled_like(ledger: Ledger, array: Any, *_: Any, dtype: Any = None, **__: Any) -> Any:
    steps = array.steps if isinstance(array, ShapeArray) else array.strides
    kind = array.dtype if dtype is None else dtype
    return new(array.shape, kind, ledger, layout.like(array.shape, steps))


def _like(ledger: Ledger, array: Any, dtype: Any = None, *_: Any, **__: Any) -> Any:
    return _filled_like(ledger, array, dtype=dtype)


RULES |= {
    np.where: _where,
    np.concatenate: _concatenate,
    np.einsum: _einsum,
    np.pad: _pad,
    np.broadcast_to: _broadcast_to,
    np.empty_like: _like,
    np.zeros_like: _like,
    np.ones_like: _like,
    np.full_like: _filled_like,
}


class Numpy:
    """NumPy for the reference's code, whose new arrays are arrays of shapes."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def zeros(self, shape: Any, dtype: Any = float) -> ShapeArray:
        """Return a new array of a shape."""
        return new(shape if isinstance(shape, tuple) else (shape,), dtype, self._ledger)

    ones = empty = zeros

    def arange(self, *numbers: int, like: Any = None) -> ShapeArray:
        """Return a new array of the shape of a range."""
        return new((len(range(*numbers)),), np.intp, self._ledger)

    def indices(self, sizes: Any, **settings: Any) -> Any:
        """Return the arrays of numpy.indices."""
        return wrapped(np.indices(sizes, **settings), self._ledger)

    def asarray(self, values: Any, dtype: Any = None) -> Any:
        """Return an array of shapes: the same, or with another dtype a new one."""
        if not isinstance(values, ShapeArray):
            array = np.asarray(values)
            number = array if array.shape == () else None
            return new(array.shape, dtype or array.dtype, self._ledger, value=number)
        return values if dtype is None else values.astype(dtype, copy=False)

    def ascontiguousarray(self, array: Any) -> Any:
        """Return the array, or a copy if its layout is another one."""
        shape, steps = array.shape, array.steps
        plain = layout.contiguous(shape)
        same = all(size == 1 or a == b for size, a, b in zip(shape, steps, plain, strict=True))
        return array if same else new(shape, array.dtype, self._ledger)

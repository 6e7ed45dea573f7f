"""Arrays of shapes: NumPy arrays whose elements are one number in memory, all strides 0.

NumPy's functions dispatch to rules that make arrays of the shape and dtype of the result, without
computing it (NEP 13 and 18), and count its bytes. So the reference's own lines make the arrays
that they would make, with all temporaries. Only numbers, arrays of shape (), have a value.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from math import prod
from types import FunctionType
from typing import Any, Self

import numpy as np

from minise.ops.cost import layout
from minise.ops.cost.layout import Shape
from minise.ops.cost.ledger import Ledger, Memory

# by function of NumPy: a function of a ledger and the arguments; rules.py has them
RULES: dict[Callable[..., Any], Callable[..., Any]] = {}


class ShapeArray(np.ndarray):
    """An array of a shape and a dtype, without elements.

    Attributes
    ----------
    memory : Memory
        Shared with the views of the array.
    steps : tuple of int
        The strides, in elements, that NumPy would choose.
    """

    memory: Memory
    steps: Shape

    def __array_finalize__(self, source: Any) -> None:
        """Share the memory of the array of which this one is a view."""
        if isinstance(source, ShapeArray):
            self.memory, self.steps = source.memory, source.steps
            if len(self.steps) != self.ndim:
                self.steps = layout.contiguous(self.shape)
            if self.flags.owndata:  # made by a method without a rule
                self.memory = Memory(source.memory.ledger, self.nbytes)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **settings: Any) -> Any:
        """Return the result's shape; a number is computed."""
        out = settings.pop("out", None)
        if out is not None:
            return out[0] if len(out) == 1 else out
        if method == "reduce":
            return _reduced(ufunc, self.memory.ledger, *inputs, **settings)
        if method != "__call__" or (ufunc.signature and ufunc is not np.matmul):
            return computed(getattr(ufunc, method), inputs, settings)
        if ufunc is np.matmul:
            shape = matmul_shape(*(entry.shape for entry in inputs))
        else:
            shape = broadcast(*(getattr(entry, "shape", ()) for entry in inputs))
        if shape == ():
            return computed(ufunc, inputs, settings)
        dtypes = _result_dtypes(ufunc, *map(_kind, inputs))
        wanted = settings.get("dtype")
        order = None if ufunc is np.matmul else order_of(shape, inputs)
        results = [
            new(shape, wanted or dtype, self.memory.ledger, order) for dtype in dtypes[ufunc.nin :]
        ]
        return results[0] if len(results) == 1 else tuple(results)

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """Apply the rule of a function; without one, run NumPy's Python code, or compute."""
        if func in RULES:
            return RULES[func](self.memory.ledger, *args, **kwargs)
        if not isinstance(getattr(func, "_implementation", None), FunctionType):
            return computed(func, args, kwargs)
        result = super().__array_function__(func, types, args, kwargs)
        return wrapped(result, self.memory.ledger)

    def __getitem__(self, key: Any) -> Any:
        """Return a view, or for an index with arrays a new array."""
        keys = layout.full_key(key, self.ndim)
        if any(isinstance(entry, np.ndarray | list) for entry in keys):
            return self._gathered([np.asanyarray(e) if isinstance(e, list) else e for e in keys])
        if self.ndim and not all(e is None or isinstance(e, slice) for e in keys):
            super().__getitem__(key)  # raises IndexError
        return view_of(self, *layout.viewed(keys, self.shape, self.steps))

    def _gathered(self, keys: list[Any]) -> "ShapeArray":
        arrays = [k for k, entry in enumerate(keys) if isinstance(entry, np.ndarray)]
        if any(keys[k].dtype == bool for k in arrays):
            return computed(np.ndarray.__getitem__, (self, tuple(keys)), {})
        plain = [0 if isinstance(entry, np.ndarray) else entry for entry in keys]
        rest, _ = layout.viewed(plain, self.shape, self.steps)
        together = arrays[-1] - arrays[0] == len(arrays) - 1
        leading = keys[: arrays[0]] if together else []
        first = sum(entry is None or isinstance(entry, slice) for entry in leading)
        picked = broadcast(*(keys[k].shape for k in arrays))
        return new((*rest[:first], *picked, *rest[first:]), self.dtype, self.memory.ledger)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Do nothing, unless the array is a number."""
        if self.ndim == 0:
            self.view(np.ndarray)[...] = value

    def transpose(self, *axes: Any) -> Any:
        """Return a view with permuted axes."""
        order = axes[0] if len(axes) == 1 and not hasattr(axes[0], "__index__") else axes
        order = tuple(range(self.ndim))[::-1] if not axes or order is None else order
        order = tuple(axis % self.ndim for axis in order)
        view = super().transpose(order)
        view.steps = tuple(self.steps[axis] for axis in order)
        return view

    @property
    def T(self) -> Any:
        """The transpose."""
        return self.transpose()

    def swapaxes(self, first: Any, second: Any) -> Any:
        """Return a view with two axes exchanged."""
        order = list(range(self.ndim))
        order[first], order[second] = order[second], order[first]
        return self.transpose(order)

    def reshape(self, *shape: Any, **settings: Any) -> Any:
        """Return a view, or a copy where NumPy would need one."""
        view = super().reshape(*shape)
        steps = layout.reshaped(self.shape, self.steps, view.shape)
        if steps is None:
            return new(view.shape, self.dtype, self.memory.ledger)
        view.steps = steps
        return view

    def ravel(self, order: Any = "C") -> Any:
        """Return the array with one axis, as reshape does."""
        return self.reshape(-1)

    def astype(self, dtype: Any, *_: Any, copy: Any = True, **__: Any) -> Any:
        """Return a copy with another dtype, or with copy=False the array itself if it has it."""
        if not copy and self.dtype == dtype:
            return self
        if self.ndim == 0:
            return computed(np.ndarray.astype, (self, dtype), {})
        return new(self.shape, dtype, self.memory.ledger, layout.like(self.shape, self.steps))

    def copy(self, order: Any = "C") -> Any:
        """Return a copy in C order."""
        if self.ndim == 0:
            return computed(np.ndarray.copy, (self,), {})
        return new(self.shape, self.dtype, self.memory.ledger)

    __copy__ = copy

    def __deepcopy__(self, memo: Any) -> Self:
        """Return a copy."""
        return self.copy()

    def argmax(self, axis: Any = None, out: Any = None, *, keepdims: bool = False) -> Any:
        """Return the shape of the indices of maxima."""
        shape = _reduced_shape(self.shape, axis, keepdims)
        return new(shape, np.intp, self.memory.ledger)

    argmin = argmax


_ZEROS: dict[np.dtype[Any], Any] = {}


def _array(shape: Shape, dtype: np.dtype[Any], value: Any = None) -> ShapeArray:
    if value is None and (value := _ZEROS.get(dtype)) is None:
        value = _ZEROS.setdefault(dtype, np.zeros((), dtype))
    return ShapeArray.__new__(ShapeArray, shape, dtype, value, 0, (0,) * len(shape))


def new(
    shape: Shape, dtype: Any, ledger: Ledger, steps: Shape | None = None, value: Any = None
) -> ShapeArray:
    """Return a new array, counted in a ledger; steps are C order by default.

    An array of shape () has a value of its own, by default 0.
    """
    dtype = np.dtype(dtype)
    number = None if shape else np.array(0 if value is None else value, dtype)
    array = _array(shape, dtype, number)
    array.memory = Memory(ledger, prod(shape) * dtype.itemsize)
    array.steps = layout.contiguous(shape) if steps is None else steps
    return array


def view_of(array: ShapeArray, shape: Shape, steps: Shape) -> ShapeArray:
    """Return an array in the memory of another one."""
    value = array.view(np.ndarray) if array.ndim == 0 else None
    view = _array(shape, array.dtype, value)
    view.memory, view.steps = array.memory, steps
    return view


def wrapped(result: Any, ledger: Ledger) -> Any:
    """Return a result of NumPy with arrays of shapes in place of its arrays."""
    if isinstance(result, tuple | list):
        return type(result)(wrapped(entry, ledger) for entry in result)
    if isinstance(result, np.ndarray | np.generic) and not isinstance(result, ShapeArray):
        value = result if result.shape == () else None
        return new(result.shape, result.dtype, ledger, value=value)
    return result


def computed(function: Callable[..., Any], arguments: Any, settings: dict[str, Any]) -> Any:
    """Return the result of a function of arrays that has no rule, by computing it on zeros."""
    ledgers: list[Ledger] = []

    def bare(value: Any) -> Any:
        if isinstance(value, ShapeArray):
            ledgers.append(value.memory.ledger)
            return value.view(np.ndarray)
        if isinstance(value, tuple | list) and not hasattr(value, "_fields"):
            return type(value)(map(bare, value))
        return value

    arguments = bare(tuple(arguments))
    settings = {name: bare(value) for name, value in settings.items()}
    return wrapped(function(*arguments, **settings), ledgers[0])


@lru_cache(4096)
def broadcast(*shapes: Shape) -> Shape:
    """Return the shape to which shapes broadcast."""
    return np.broadcast_shapes(*shapes)


@lru_cache(4096)
def matmul_shape(a: Shape, b: Shape) -> Shape:
    """Return the shape of a product of matrices, or raise ValueError as NumPy does."""
    if len(a) < 2 or len(b) < 2 or a[-1] != b[-2]:
        zero = np.zeros((), bool)
        return np.matmul(np.broadcast_to(zero, a), np.broadcast_to(zero, b)).shape
    return (*broadcast(a[:-2], b[:-2]), a[-2], b[-1])


def order_of(shape: Shape, inputs: Sequence[Any]) -> Shape | None:
    """Return the steps of an elementwise result: the order of axes of the first input it fits."""
    for entry in inputs:
        if isinstance(entry, ShapeArray) and entry.shape == shape and 0 not in entry.steps:
            return layout.like(shape, entry.steps)
    return None


def _kind(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.dtype
    return type(value) if type(value) in (int, float, complex) else np.asarray(value).dtype


@lru_cache(4096)
def _result_dtypes(ufunc: Any, *kinds: Any) -> tuple[Any, ...]:
    return tuple(ufunc.resolve_dtypes((*kinds, *[None] * ufunc.nout)))


@lru_cache(1024)
def _reduced_dtype(ufunc: Any, dtype: Any, wanted: Any) -> Any:
    return ufunc.reduce(np.zeros(1, dtype), dtype=wanted).dtype


def _reduced(
    ufunc: Any,
    ledger: Ledger,
    array: Any,
    axis: Any = 0,
    dtype: Any = None,
    keepdims: bool = False,
    **_: Any,
) -> ShapeArray:
    shape = _reduced_shape(array.shape, axis, keepdims)
    return new(shape, _reduced_dtype(ufunc, array.dtype, dtype), ledger)


@lru_cache(1024)
def _reduced_shape(shape: Shape, axis: Any, keepdims: bool) -> Shape:
    axes = range(len(shape)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    gone = {range(len(shape))[a] for a in axes}
    if keepdims:
        return tuple(1 if k in gone else size for k, size in enumerate(shape))
    return tuple(size for k, size in enumerate(shape) if k not in gone)

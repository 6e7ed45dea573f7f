"""Arrays that record the operations on them on a tape.

A `TapedArray` is an ndarray that knows its node. NumPy hands its ufuncs and functions to the array
(``__array_ufunc__``, ``__array_function__``), which computes the value and appends a node. A view
knows the array that it is a view of: writing into the view (``window(dx, i, j)[...] += dy``)
appends a node for a new value of both.

Module `taped_functions` has the functions of NumPy that can be recorded, and `namespaces` lets the
traced code see a NumPy whose new arrays are taped.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from minise.checks import Array
from minise.tracing.tape import ELEMENTWISE, INPUT, OPS, REDUCTIONS, SAME, UNKNOWN, Guard, Tape

UFUNCS = {name: name for name in (*ELEMENTWISE, "matmul")} | {
    "bitwise_and": "logical_and", "bitwise_or": "logical_or", "invert": "logical_not",
    "conjugate": SAME,
}  # fmt: skip
REDUCED = {"add": "sum", "multiply": "prod", "maximum": "max", "minimum": "min"}  # by ufunc
SHAPE_ONLY = {"shape", "ndim", "size", "iscomplexobj", "isrealobj", "result_type", "can_cast",
              "shares_memory", "may_share_memory", "common_type", "min_scalar_type"}  # fmt: skip


# functions of NumPy by name, called with the tape and the arguments: see taped_functions
HANDLERS: dict[str, Callable[..., Any]] = {}


class TapedArray(np.ndarray[Any, Any]):
    """An array whose operations are recorded on a tape."""

    means_ndarray = True  # unlike np.matrix: minise.ops.user keeps it as it is
    tape: Tape
    _node: int | None = None
    _base: "TapedArray | None" = None  # the array that this array is a view of
    _base_node: int = -1  # the node of the base when _node was recorded
    _view: tuple[str, tuple[int, ...], dict[str, Any]] = (SAME, (), {})  # from the base

    def __array_finalize__(self, other: Any) -> None:
        """Keep the tape; an array from a method that is not recorded has no node."""
        if isinstance(other, TapedArray):
            self.tape = other.tape

    @property
    def node(self) -> int:
        """The node of the array's present value."""
        base = self._base
        if base is not None and base.node != self._base_node:  # the base was written to
            op, indices, constants = self._view
            self._base_node = base.node
            self._node = self.tape.add(op, (base.node, *indices), raw(self), **constants)
        if self._node is None:
            self._node = self.tape.add(UNKNOWN, (), raw(self), name="view")
        return self._node

    def write(self, node: int) -> None:
        """Record a new value of the array, and of the arrays that it is a view of."""
        base = self._base
        if base is not None:
            base.write(self._base_after(base, node))
            self._base_node = base.node
        self._node = node

    def _base_after(self, base: "TapedArray", node: int) -> int:
        """Return the node of the base after its view has got the value of a node."""
        op, indices, constants = self._view
        if op == "getitem":
            return self.tape.add("setitem", (base.node, node, *indices), raw(base), **constants)
        if op == "reshape":
            return self.tape.add(op, (node,), raw(base), shape=list(base.shape))
        if op == "transpose":
            axes = [int(axis) for axis in np.argsort(constants["axes"])]
            return self.tape.add(op, (node,), raw(base), axes=axes)
        return node

    def __array_ufunc__(
        self, ufunc: np.ufunc, method: str, *inputs: Any, out: Any = None, **options: Any
    ) -> Any:
        """Record a ufunc; with out, in place."""
        values = [raw(array) for array in inputs]
        targets = {"out": tuple(raw(array) for array in out)} if out else {}
        result = getattr(ufunc, method)(*values, **targets, **options)
        options.pop("dtype", None)
        if result is None:  # ufunc.at writes into its first argument
            inputs[0].write(self.tape.add(UNKNOWN, (), values[0], name=ufunc.__name__))
            return None
        if method == "reduce" and ufunc.__name__ in REDUCED and not out:
            return HANDLERS[REDUCED[ufunc.__name__]](self.tape, *inputs, **options)
        known = method == "__call__" and ufunc.__name__ in UFUNCS and not options
        if not known or isinstance(result, tuple):
            return unknown(self.tape, ufunc.__name__, inputs, result)
        nodes = tuple(node_of(self.tape, array) for array in inputs)
        node = self.tape.add(UFUNCS[ufunc.__name__], nodes, result)
        if not out:
            return wrap(self.tape, result, node)
        if not isinstance(out[0], TapedArray):
            return wrap(self.tape, targets["out"][0], node)
        out[0].write(node)
        return out[0]

    def __array_function__(
        self, function: Any, types: Any, arguments: Any, options: Mapping[str, Any]
    ) -> Any:
        """Record a function of NumPy."""
        name = function.__name__
        if name in HANDLERS:
            try:
                return HANDLERS[name](self.tape, *arguments, **options)
            except TypeError:  # an option that the handler does not know
                pass
        result = function(*plain(arguments), **plain(options))
        if name in SHAPE_ONLY:
            return result
        return unknown(self.tape, name, (arguments, options), result)

    def __getitem__(self, key: Any) -> Any:
        """Record an element, a slice or a selection."""
        index, arrays = _index(self, key)
        if index is None:
            return unknown(self.tape, "getitem", (self, key), raw(self)[plain(key)])
        if [[0, 1, size] for size in self.shape] == index:
            return apply(self.tape, SAME, self)
        return apply(self.tape, "getitem", self, *arrays, index=index)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Record a write into some elements."""
        index, arrays = _index(self, key)
        indices = tuple(node_of(self.tape, array) for array in arrays)
        before, new = self.node, node_of(self.tape, value)
        raw(self)[plain(key)] = raw(value)
        if index is None:
            self.write(self.tape.add(UNKNOWN, (before, new), raw(self), name="setitem"))
        elif isinstance(value, TapedArray) and value._base is self and value.node == new:
            self.write(self.node)  # v[key] += …, which has already written into this array
        else:
            self.write(self.tape.add("setitem", (before, new, *indices), raw(self), index=index))

    def __iter__(self) -> Iterator[Any]:
        """Yield the elements along the first axis."""
        return (self[k] for k in range(len(self)))

    @property  # type: ignore[misc]
    def real(self) -> "TapedArray":  # type: ignore[override]
        """The array itself: it is real."""
        return self

    @property
    def T(self) -> Any:
        """The transpose."""
        return np.transpose(self)

    def reshape(self, *shape: Any, order: str = "C") -> Any:  # type: ignore[override]
        """Return the array in another shape."""
        sizes = shape[0] if len(shape) == 1 and not hasattr(shape[0], "__index__") else shape
        return np.reshape(self, tuple(sizes), order=order)  # type: ignore[call-overload]

    def transpose(self, *axes: Any) -> Any:
        """Return the array with its axes in another order."""
        axes = axes[0] if len(axes) == 1 and not hasattr(axes[0], "__index__") else axes
        return np.transpose(self, axes or None)

    def astype(self, dtype: Any, *arguments: Any, **options: Any) -> Any:
        """Return the array in another dtype; a float becomes an integer by truncation."""
        result = raw(self).astype(dtype, *arguments, **options)
        cuts = self.dtype.kind == "f" and result.dtype.kind in "iub"
        op = ("trunc" if result.dtype.kind != "b" else UNKNOWN) if cuts else SAME
        return wrap(self.tape, result, self.tape.add(op, (self.node,), result))

    def _read(self, value: Any) -> Any:
        """Return a value that Python code reads, and record the guard."""
        if self.node not in self.tape.constants:
            entries = raw(self).tolist()
            self.tape.guards.append(Guard(self.node, entries, len(self.tape.nodes)))
        return value

    def __bool__(self) -> bool:
        """Return the truth value of the only element."""
        return bool(self._read(bool(raw(self))))

    def __float__(self) -> float:
        """Return the only element as a float."""
        return float(self._read(float(raw(self))))

    def __int__(self) -> int:
        """Return the only element as an integer."""
        return int(self._read(int(raw(self))))

    def __index__(self) -> int:
        """Return the only element as an index."""
        return int(self._read(raw(self).__index__()))

    def item(self, *index: Any) -> Any:
        """Return one element as a Python number."""
        return self._read(raw(self).item(*index))

    def tolist(self) -> Any:
        """Return the elements as nested lists."""
        return self._read(raw(self).tolist())


def _method(name: str) -> Callable[..., Any]:
    def method(self: TapedArray, *arguments: Any, **options: Any) -> Any:
        return getattr(np, name)(self, *arguments, **options)

    method.__name__ = name
    return method


for _name in (*REDUCTIONS, "argmax", "argmin", "swapaxes", "squeeze", "ravel", "copy", "var",
              "std", "clip", "dot", "take", "repeat"):  # fmt: skip
    setattr(TapedArray, _name, _method(_name))
TapedArray.flatten = _method("ravel")  # type: ignore[method-assign]


def raw(array: Any) -> Any:
    """Return a taped array as a plain one of the same memory, and anything else as it is."""
    return np.ndarray.view(array, np.ndarray) if isinstance(array, TapedArray) else array


def plain(value: Any) -> Any:
    """Return a container with all taped arrays as plain ones."""
    if isinstance(value, tuple | list):
        return type(value)(plain(part) for part in value)
    if isinstance(value, dict):
        return {key: plain(part) for key, part in value.items()}
    return raw(value)


def wrap(tape: Tape, value: Any, node: int) -> TapedArray:
    """Return a value as a taped array with a node."""
    array: TapedArray = np.asarray(value).view(TapedArray)
    array.tape, array._node, array._base = tape, node, None
    return array


def node_of(tape: Tape, value: Any) -> int:
    """Return the node of a value; a number or plain array is a constant."""
    return value.node if isinstance(value, TapedArray) else tape.constant(value)


def input_array(tape: Tape, name: str, value: Array) -> TapedArray:
    """Return an input of the tape by name."""
    if name not in tape.inputs:
        tape.inputs[name] = tape.add(INPUT, (), value)
    return wrap(tape, np.asarray(value), tape.inputs[name])


def alias(array: TapedArray) -> TapedArray:
    """Return a view of a whole array with a node of its own: another name of it."""
    node = array.node
    other = wrap(array.tape, raw(array), array.tape.named(node))
    other._base, other._base_node, other._view = array, node, (SAME, (), {})
    return other


def apply(tape: Tape, op: str, *arrays: Any, **constants: Any) -> TapedArray:
    """Compute an operation, record it, and link a view with its base."""
    nodes = tuple(node_of(tape, array) for array in arrays)
    result = np.asarray(OPS[op](*map(raw, arrays), **constants))
    array = wrap(tape, result, tape.add(op, nodes, result, **constants))
    first = arrays[0]
    may_be_view = op in ("getitem", "reshape", "transpose", SAME) and isinstance(first, TapedArray)
    if may_be_view and np.may_share_memory(result, raw(first)):
        array._base, array._base_node = first, first.node
        array._view = (op, nodes[1:], constants)
    return array


def unknown(tape: Tape, name: str, sources: Any, result: Any) -> Any:
    """Record the result of a call that the tape cannot repeat.

    If the result is no array, nothing after it can be repeated.
    """
    nodes = tuple(array.node for array in taped_in(sources))
    if all(node in tape.constants for node in nodes):
        return wrap(tape, result, tape.constant(result)) if _is_array(result) else result
    if isinstance(result, tuple | list):
        return type(result)(unknown(tape, name, sources, part) for part in result)
    node = tape.add(UNKNOWN, nodes, np.asarray(result if _is_array(result) else 0), name=name)
    if not _is_array(result):
        tape.guards.append(Guard(node, 0, len(tape.nodes)))
        return result
    return wrap(tape, result, node)


def _is_array(value: Any) -> bool:
    return isinstance(value, np.ndarray | np.generic)


def taped_in(value: Any) -> Iterator[TapedArray]:
    """Yield the taped arrays in a container."""
    if isinstance(value, TapedArray):
        yield value
    elif isinstance(value, dict):
        yield from taped_in(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from taped_in(part)


def _index(array: TapedArray, key: Any) -> tuple[list[Any] | None, list[Any]]:
    """Return an index as constants of a node, and its index arrays; None for a mask of values."""
    parts = list(key) if isinstance(key, tuple) else [key]
    taken = sum(part is not None and part is not Ellipsis for part in parts)
    rest = [slice(None)] * (array.ndim - taken)
    at = next((k for k, part in enumerate(parts) if part is Ellipsis), None)
    parts = [*parts, *rest] if at is None else [*parts[:at], *rest, *parts[at + 1 :]]
    index: list[Any] = []
    arrays: list[Any] = []
    axis = 0
    for part in parts:
        if part is None:
            index.append(None)
            continue
        size = array.shape[axis]
        axis += 1
        if isinstance(part, slice):
            start, stop, step = part.indices(size)
            index.append([start, step, len(range(start, stop, step))])
        elif isinstance(part, int | np.integer):
            index.append(int(part) % size)
        else:
            values = part if isinstance(part, TapedArray) else np.asarray(part)
            if values.dtype.kind not in "iu":
                return None, []
            _record_range(values, size)
            index.append({"array": len(arrays)})
            arrays.append(values)
    return index, arrays


def _record_range(values: Any, size: int) -> None:
    """Record that the integers of an input index an axis of some size."""
    if isinstance(values, TapedArray):
        tape, node = values.tape, values.node
        while tape.nodes[node].op == SAME:
            node = tape.nodes[node].arguments[0]
        tape.limits[node] = min(size, tape.limits.get(node, size))

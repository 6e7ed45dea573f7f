"""A tape: the NumPy calls of a run as a list of nodes that can be evaluated again.

A node is an operation on earlier nodes, such as ``multiply`` of nodes 3 and 5. The tape of a run
records every operation between its inputs and its results, whatever function made the call, so
that the run can be repeated with other inputs without running its Python code: here with NumPy, and
in a page with JavaScript. Module `taped` records a tape.

A tape is valid for every input for which the Python code takes the same branches. A branch that
depended on a value is recorded as a guard.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array

INPUT, CONSTANT, SAME, UNKNOWN = "input", "constant", "same", "unknown"


class Node(NamedTuple):
    """One operation of a tape.

    Its arguments are the numbers of earlier nodes; its constants are plain values by name.
    """

    op: str
    arguments: tuple[int, ...]
    constants: dict[str, Any]
    shape: tuple[int, ...]


class Guard(NamedTuple):
    """A value that Python code has read: with another value, it may run other operations."""

    node: int
    value: Any  # a number, a flag or a nested list
    position: int  # the number of nodes that were recorded before


@dataclass
class Tape:
    """The recorded operations of one run.

    Attributes
    ----------
    nodes : list of Node
        The operations, each after its arguments.
    inputs : dict of str to int
        The node of each input by name.
    constants : dict of int to ndarray
        The values of the nodes that depend on no input.
    guards : list of Guard
        The values that the Python code has read.
    limits : dict of int to int
        By node of integers: the size of the axis that they index.
    """

    nodes: list[Node] = field(default_factory=list)
    inputs: dict[str, int] = field(default_factory=dict)
    constants: dict[int, Array] = field(default_factory=dict)
    guards: list[Guard] = field(default_factory=list)
    limits: dict[int, int] = field(default_factory=dict)
    _known: dict[tuple[Any, ...], int] = field(default_factory=dict)  # constants by their bits

    def add(self, op: str, arguments: tuple[int, ...], value: Array, **constants: Any) -> int:
        """Append a node with a value and return its number.

        An operation on constants is a constant.
        """
        is_constant = all(argument in self.constants for argument in arguments)
        if op not in (INPUT, UNKNOWN) and is_constant:
            return self.constant(value)
        self.nodes.append(Node(op, arguments, constants, np.shape(value)))
        return len(self.nodes) - 1

    def named(self, node: int) -> int:
        """Append another name of a node; unlike an operation on constants, never a constant.

        So a line that reads a constant by its name has a derivative with respect to that name.
        """
        self.nodes.append(Node(SAME, (node,), {}, self.nodes[node].shape))
        return len(self.nodes) - 1

    def constant(self, value: Any) -> int:
        """Return the node of a constant, a new one unless an equal constant has one."""
        array = np.array(value)
        key = array.shape, array.strides, array.dtype.str, array.tobytes()
        if key not in self._known:
            self.nodes.append(Node(CONSTANT, (), {}, array.shape))
            self._known[key] = len(self.nodes) - 1
            self.constants[len(self.nodes) - 1] = array
        return self._known[key]

    def evaluate(self, inputs: Mapping[str, Array]) -> list[Array | None]:
        """Return the value of every node for other inputs, in the shapes of the recorded ones.

        A node is None if its operation is unknown, if it depends on such a node, or if a guard
        before it does not hold.
        """
        values: list[Array | None] = []
        names = {number: name for name, number in self.inputs.items()}
        for number, node in enumerate(self.nodes):
            if not all(self._holds(guard, values) for guard in self.guards_at(number)):
                return values + [None] * (len(self.nodes) - number)
            arguments = [values[argument] for argument in node.arguments]
            if node.op == INPUT:
                values.append(np.asarray(inputs[names[number]]))
            elif node.op == CONSTANT:
                values.append(self.constants[number])
            elif node.op == UNKNOWN or any(argument is None for argument in arguments):
                values.append(None)
            else:
                values.append(np.asarray(OPS[node.op](*arguments, **node.constants)))
        return values

    def guards_at(self, position: int) -> list[Guard]:
        """Return the guards that were recorded just before a node."""
        return [guard for guard in self.guards if guard.position == position]

    def _holds(self, guard: Guard, values: list[Array | None]) -> bool:
        value = values[guard.node]
        return value is not None and bool(np.array_equal(value, guard.value))

    def pruned(self, needed: set[int]) -> tuple["Tape", dict[int, int]]:
        """Return a tape of the nodes that some nodes depend on, and the new number of each.

        Other names of an array are left out, unless they are needed themselves.
        """
        last = max(needed, default=-1)
        guards = [guard for guard in self.guards if guard.position <= last]
        live = {*needed, *self.inputs.values(), *(guard.node for guard in guards)}
        nodes = self._without_names(live)
        for number in range(len(nodes) - 1, -1, -1):
            if number in live:
                live.update(nodes[number].arguments)
        order = sorted(live)
        new = {old: number for number, old in enumerate(order)}
        positions = np.searchsorted(order, [guard.position for guard in guards])
        tape = Tape(
            [
                node._replace(arguments=tuple(new[argument] for argument in node.arguments))
                for node in (nodes[number] for number in order)
            ],
            {name: new[number] for name, number in self.inputs.items()},
            {new[number]: self.constants[number] for number in order if number in self.constants},
            [
                Guard(new[guard.node], guard.value, int(position))
                for guard, position in zip(guards, positions, strict=True)
            ],
            {new[number]: size for number, size in self.limits.items() if number in new},
        )
        return tape, new

    def _without_names(self, needed: set[int]) -> list[Node]:
        """Return the nodes with arguments that skip the other names of an array."""
        nodes: list[Node] = []
        origin: list[int] = []
        for number, node in enumerate(self.nodes):
            arguments = tuple(origin[argument] for argument in node.arguments)
            nodes.append(node._replace(arguments=arguments))
            skip = node.op == SAME and number not in needed
            origin.append(arguments[0] if skip else number)
        return nodes


def key_of(index: list[Any], arrays: tuple[Array, ...]) -> tuple[Any, ...]:
    """Return NumPy's key of an index in a node's constants.

    Each element is an integer, None for a new axis, ``[start, step, count]`` for a slice, or
    ``{"array": k}`` for the k-th index array.
    """
    key: list[Any] = []
    for part in index:
        if isinstance(part, dict):
            key.append(arrays[part["array"]])
        elif isinstance(part, list):
            start, step, count = part
            stop = start + step * count
            key.append(slice(start, stop if stop >= 0 else None, step))
        else:
            key.append(part)
    return tuple(key)


def _setitem(x: Array, value: Array, *arrays: Array, index: list[Any]) -> Array:
    changed = np.array(x)  # in the memory layout of x
    changed[key_of(index, arrays)] = value
    return changed


def _reduction(name: str) -> Callable[..., Array]:
    def reduce(x: Array, axis: list[int], keepdims: bool) -> Any:
        return getattr(x, name)(axis=tuple(axis), keepdims=keepdims)

    return reduce


NAMES = """
add subtract multiply divide negative positive power square sqrt reciprocal exp expm1 log log1p tanh
sin cos absolute sign maximum minimum less less_equal greater greater_equal equal not_equal
logical_and logical_or logical_not isnan isfinite trunc floor
"""
ELEMENTWISE = tuple(NAMES.split())
REDUCTIONS = ("sum", "mean", "max", "min", "prod", "any", "all")

# each operation of a node by name: what NumPy computes
OPS: dict[str, Callable[..., Any]] = {
    **{name: getattr(np, name) for name in ELEMENTWISE},
    **{name: _reduction(name) for name in REDUCTIONS},
    SAME: lambda x: x,
    "copy": lambda x: x.copy(),
    "contiguous": np.ascontiguousarray,
    "argmax": lambda x, axis, keepdims: x.argmax(axis=axis, keepdims=keepdims),
    "argmin": lambda x, axis, keepdims: x.argmin(axis=axis, keepdims=keepdims),
    "where": np.where,
    "matmul": np.matmul,
    "einsum": lambda *arrays, subscripts: np.einsum(subscripts, *arrays),
    "reshape": lambda x, shape: x.reshape(shape),
    "transpose": lambda x, axes: x.transpose(axes),
    "broadcast_to": lambda x, shape: np.broadcast_to(x, shape),
    "getitem": lambda x, *arrays, index: x[key_of(index, arrays)],
    "setitem": _setitem,
    "concatenate": lambda *arrays, axis: np.concatenate(arrays, axis=axis),
    "stack": lambda *arrays, axis: np.stack(arrays, axis=axis),
    "pad": lambda x, widths, fill: np.pad(x, widths, constant_values=fill),
    "take_along_axis": lambda x, places, axis: np.take_along_axis(x, places, axis),
}

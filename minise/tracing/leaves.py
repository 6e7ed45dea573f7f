"""Find the arrays and settings that one line reads, from its text and its scope.

A line names an array directly (``dout``), as a field (``cache.gates.s``), as an item (``xs[0]``),
or through a container of arrays (``cache``, passed to a helper). Each such array is a leaf.
"""

import ast
import copy
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from minise.checks import Array
from minise.tracing.instrument import Line, Scope

Path = tuple[Any, ...]  # fields, keys and indices that lead from a container to one value


@dataclass(frozen=True, eq=False)
class Leaf:
    """An array that a line reads."""

    text: str  # as in the source: "z" or "cache.gates.s"
    name: str  # the last field of the text, such as "s", else the text
    base: str  # the variable that is or contains the array
    path: Path  # from that variable to the array
    value: Array


def leaves_of(line: Line, scope: Mapping[str, Any]) -> Iterator[Leaf]:
    """Yield the arrays that a line reads, in the order of its text."""
    seen = set()
    for node in _names_read(line):
        base = node.id
        if base not in scope:
            continue
        path, value = _followed(node, scope[base])
        for leaf in _arrays_in(base, path, value):
            if (leaf.base, leaf.path) not in seen:
                seen.add((leaf.base, leaf.path))
                yield leaf


def scalars_of(line: Line, scope: Mapping[str, Any]) -> dict[str, Any]:
    """Return the numbers, strings and booleans that a line reads, by name."""
    scalars = {}
    for node in _names_read(line):
        path, value = _followed(node, scope.get(node.id))
        plain = isinstance(value, bool | int | float | str | np.integer) and not is_array(value)
        if plain and all(isinstance(key, str) for key in path):
            scalars[_name(node.id, path)] = value
    return scalars


def element_of(value: Any, index: int | None) -> Any:
    """Return an item of a tuple or a list, or the value itself if the index is None."""
    return value if index is None else value[index]


def array_at(scope: Mapping[str, Any], leaf: Leaf) -> Any:
    """Return the array of a leaf in a scope: the object itself, not a copy."""
    return _value_at(scope[leaf.base], leaf.path)


def with_array(scope: Mapping[str, Any], leaf: Leaf, value: Any) -> Scope:
    """Return a copy of the scope in which a leaf has another value."""
    return {**scope, leaf.base: _with_value(scope[leaf.base], leaf.path, value)}


def target_index(text: str, name: str) -> int:
    """Return the index of a name on the left side of ``a, b = …``; 0 for a single target."""
    target: Any = getattr(ast.parse(text).body[0], "targets", [None])[0]
    names = [getattr(part, "id", "") for part in getattr(target, "elts", [])]
    return names.index(name) if name in names else 0


def is_array(value: Any) -> bool:
    """Return True if a value is an array or a NumPy float."""
    return isinstance(value, np.ndarray | np.floating)


def is_float(value: Any) -> bool:
    """Return True if a value is an array of real floats, which may have a gradient."""
    return is_array(value) and value.dtype.kind == "f"


def _names_read(line: Line) -> list[Any]:
    """Return the Name nodes that a line reads, each with an attribute `parent`."""
    statement: Any = ast.parse(line.text).body[0]
    nodes = list(ast.walk(statement.value))
    for node in [statement, *nodes]:
        for operand in ast.iter_child_nodes(node):
            operand.parent = node  # type: ignore[attr-defined]
    read: list[Any] = [node for node in nodes if isinstance(node, ast.Name)]
    if isinstance(statement, ast.AugAssign):
        read.append(statement.target)
    return sorted(read, key=lambda node: (node.lineno, node.col_offset))


def _followed(node: Any, value: Any) -> tuple[Path, Any]:
    """Return the fields and indices after a name in a line, and the value that they select."""
    path: Path = ()
    parent = getattr(node, "parent", None)
    while not is_array(value):
        key: Any = None
        if isinstance(parent, ast.Attribute) and not isinstance(value, dict):
            key = parent.attr
        elif isinstance(parent, ast.Subscript) and isinstance(value, dict | tuple | list):
            key = parent.slice.value if isinstance(parent.slice, ast.Constant) else None
        if key is None:
            break
        path, value = (*path, key), _value_at(value, (key,))
        parent = getattr(parent, "parent", None)
    return path, value


def _arrays_in(base: str, path: Path, value: Any) -> Iterator[Leaf]:
    if is_array(value):
        yield Leaf(_text(base, path), _name(base, path), base, path, np.asarray(value))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name in value._fields:
            yield from _arrays_in(base, (*path, name), getattr(value, name))
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _arrays_in(base, (*path, key), item)
    elif isinstance(value, tuple | list):
        for index, item in enumerate(value):
            yield from _arrays_in(base, (*path, index), item)


def _value_at(value: Any, path: Path) -> Any:
    for key in path:
        is_field = isinstance(key, str) and not isinstance(value, dict)
        value = getattr(value, key, None) if is_field else value[key]
    return value


def _with_value(value: Any, path: Path, new: Any) -> Any:
    """Return a copy of a container with another value at the end of a path."""
    if not path:
        return new
    key, rest = path[0], path[1:]
    inner = _with_value(_value_at(value, (key,)), rest, new)
    if isinstance(value, dict):
        return {**value, key: inner}
    if hasattr(value, "_replace"):
        return value._replace(**{key: inner})
    if isinstance(key, str):
        other = copy.copy(value)
        setattr(other, key, inner)
        return other
    return type(value)(inner if index == key else item for index, item in enumerate(value))


def _text(base: str, path: Path) -> str:
    return base + "".join(f".{key}" if isinstance(key, str) else f"[{key}]" for key in path)


def _name(base: str, path: Path) -> str:
    if path and isinstance(path[-1], str):
        return path[-1]
    return _text(base, path)

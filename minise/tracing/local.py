"""One line alone: which arrays it reads, and how fast each entry it gives changes with theirs.

The derivative of a line is taken from the line itself: it is run again with one entry of one array
moved by a complex step. Lines that complex numbers break (of a student's file, say) show it by a
difference along a random direction, and are then taken by central differences.
"""

import ast
import copy
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from minise.gradcheck.slopes.arrays import promoted
from minise.gradcheck.slopes.differences import TINY
from minise.gradcheck.slopes.rounding import EPS
from minise.ops.checks import Array
from minise.tracing.instrument import Instrumented, Line, Scope

STEP = EPS ** (1 / 3)  # of a central difference, relative to the size of what is moved
AGREES = EPS ** (1 / 3)  # a difference has up to two thirds of all digits, a wrong one none
DRAWS = 4  # of other numbers, of which some change a sign
NEAR = 0.1  # of a value: where it is looked whether complex steps are right
MOST_TERMS = 4  # arrays that one sum is looked for in


@dataclass(frozen=True, eq=False)
class Leaf:
    """An array that a line reads."""

    text: str  # as the line has it, "z" or "cache.gates.s"
    name: str  # the same, but of a cache the field alone
    base: str  # the name in the scope that holds it
    path: tuple[Any, ...]  # from there: () or a field, a key, a place
    value: Array


def leaves_of(line: Line, scope: Mapping[str, Any]) -> Iterator[Leaf]:
    """Yield the arrays that a line reads, in the order in which it names them."""
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
    """Return the plain numbers, words and flags that a line reads, by name."""
    found = {}
    for node in _names_read(line):
        path, value = _followed(node, scope.get(node.id))
        plain = isinstance(value, bool | int | float | str | np.integer) and not is_array(value)
        if plain and all(isinstance(step, str) for step in path):
            found[_name(node.id, path)] = value
    return found


def derivative(
    source: Instrumented, line: Line, scope: Scope, leaf: Leaf, pick: Any
) -> tuple[Array, bool]:
    """Return d(what the line gives) / d(leaf), of shape (entries given, entries read).

    And whether it is exact but for rounding; a difference is so to two thirds of all digits.
    `pick` takes from what the line gives the array that is meant.
    """

    def at(moved: Array) -> Array:
        return np.ravel(pick(source.again(line, changed(scope, leaf, moved))))

    def slopes(place: Array, directions: Sequence[Array]) -> Array:
        there = changed(lifted, leaf, place)
        moved = [changed(there, leaf, place + 1j * TINY * u) for u in directions]
        outs = [np.ravel(pick(source.again(line, one))) for one in moved]
        return np.stack([np.imag(out) / TINY for out in outs], axis=1)

    lifted = {name: mapped(value, promoted) for name, value in scope.items()}
    units = list(np.eye(leaf.value.size).reshape(-1, *leaf.value.shape))
    try:
        exact = slopes(leaf.value, units)
        if not np.any(leaf.value) or _analytic(at, slopes, leaf.value):
            return exact, True
    except (TypeError, ValueError):
        pass
    h = STEP * max(1.0, float(np.max(abs(leaf.value))))
    columns = [_difference(at, leaf.value, h * u, h) for u in units]
    return np.stack(columns, axis=1), False


def _difference(at: Callable[[Array], Array], value: Array, way: Array, h: float) -> Array:
    """Return a central difference; across a jump, as of a condition, that of the side without."""
    here, after, before = at(value), at(value + way), at(value - way)
    sides = np.stack([after - here, here - before])
    nearer = np.stack([at(value + way / 2) - here, here - at(value - way / 2)])
    jumps = 4 * abs(nearer) > 3 * abs(sides)  # half as far, but no smaller by half
    jumps &= abs(sides) > AGREES
    smooth = np.where(jumps[0], sides[1], sides[0])
    mean = np.where(jumps.any(axis=0), smooth, (after - before) / 2)
    return np.asarray(np.where(jumps.all(axis=0), 0, mean) / h)


def _analytic(
    at: Callable[[Array], Array],
    slopes: Callable[[Array, Sequence[Array]], Array],
    value: Array,
) -> bool:
    """Tell whether complex steps say what differences say, at some place near to a value.

    Not at the value itself: that may lie at a kink, or a zero at the edge of a condition, which a
    difference would step across.
    """
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        place = value * (1 + rng.uniform(-NEAR, NEAR, value.shape))
        place = np.where(value == 0, rng.uniform(-NEAR, NEAR, value.shape), place)
        u = rng.standard_normal(value.shape)
        h = STEP * max(1.0, float(np.max(abs(place))))
        with np.errstate(all="ignore"):
            difference = (at(place + h * u) - at(place - h * u)) / (2 * h)
            exact = slopes(place, [u])[:, 0]
        size = 1 + float(np.max(abs(exact), initial=0.0))
        if np.all(abs(exact - difference) <= AGREES * size):
            return True
    return False


def matters(
    source: Instrumented, line: Line, scope: Scope, leaf: Leaf, value: Array, pick: Any
) -> bool:
    """Tell whether the numbers of a leaf change what the line gives; its shape alone does not.

    Of a condition (where h <= 0) they do, though every derivative in them is zero.
    """
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        other = rng.standard_normal(leaf.value.shape) * (1 + abs(leaf.value))
        with np.errstate(all="ignore"):
            came = np.asarray(pick(source.again(line, changed(scope, leaf, other))))
        if not np.array_equal(came, value, equal_nan=True):
            return True
    return False


def summed(
    source: Instrumented, line: Line, scope: Scope, leaves: Sequence[Leaf], value: Array, pick: Any
) -> tuple[Leaf, ...]:
    """Return the leaves over which the line is one sum of entry times derivative, or none.

    A line that doubles when some of its arrays are doubled is, by Euler's theorem, the sum of
    each entry of those times the derivative in it. The first such arrays are taken, in the order
    of `leaves`, one alone before two.
    """
    for count in range(1, min(len(leaves), MOST_TERMS) + 1):
        for some in itertools.combinations(leaves, count):
            twice = dict(scope)
            for leaf in some:
                twice = changed(twice, leaf, 2 * leaf.value)
            doubled = np.asarray(pick(source.again(line, twice)))
            rounding = 4 * EPS * (float(np.max(abs(value), initial=0.0)) + np.finfo(float).tiny)
            if doubled.shape == value.shape and np.all(abs(doubled - 2 * value) <= rounding):
                return some
    return ()


def changed(scope: Mapping[str, Any], leaf: Leaf, value: Array) -> Scope:
    """Return the scope with another array in the place of a leaf."""
    return {**scope, leaf.base: _put(scope[leaf.base], leaf.path, value)}


def target_place(text: str, name: str) -> int:
    """Return the place of a name on the left side of ``a, b = …``; 0 of one alone."""
    target: Any = getattr(ast.parse(text).body[0], "targets", [None])[0]
    names = [getattr(part, "id", "") for part in getattr(target, "elts", [])]
    return names.index(name) if name in names else 0


def is_array(value: Any) -> bool:
    """Tell whether a value is an array, or a number of NumPy's."""
    return isinstance(value, np.ndarray | np.floating)


def is_float(value: Any) -> bool:
    """Tell whether a value is an array of real numbers, which may have a gradient."""
    return is_array(value) and value.dtype.kind == "f"


def mapped(value: Any, function: Callable[[Any], Any]) -> Any:
    """Return a value with the function applied to each array in it."""
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(mapped(one, function) for one in value))
    if isinstance(value, tuple | list):
        return type(value)(mapped(one, function) for one in value)
    if isinstance(value, dict):
        return {key: mapped(one, function) for key, one in value.items()}
    return function(value)


def _names_read(line: Line) -> list[Any]:
    """Return the nodes of the names that a line reads, each with its parent."""
    statement: Any = ast.parse(line.text).body[0]
    nodes = list(ast.walk(statement.value))
    for node in [statement, *nodes]:
        for child in ast.iter_child_nodes(node):
            child.parent = node  # type: ignore[attr-defined]
    read: list[Any] = [node for node in nodes if isinstance(node, ast.Name)]
    if isinstance(statement, ast.AugAssign):
        read.append(statement.target)
    return sorted(read, key=lambda node: (node.lineno, node.col_offset))


def _followed(node: Any, value: Any) -> tuple[tuple[Any, ...], Any]:
    """Return the fields and places that a line names behind a name, and what stands there."""
    path: tuple[Any, ...] = ()
    parent = getattr(node, "parent", None)
    while not is_array(value):
        step: Any = None
        if isinstance(parent, ast.Attribute) and not isinstance(value, dict):
            step = parent.attr
        elif isinstance(parent, ast.Subscript) and isinstance(value, dict | tuple | list):
            step = parent.slice.value if isinstance(parent.slice, ast.Constant) else None
        if step is None:
            break
        path, value = (*path, step), value_at(value, (step,))
        parent = getattr(parent, "parent", None)
    return path, value


def _arrays_in(base: str, path: tuple[Any, ...], value: Any) -> Iterator[Leaf]:
    if is_array(value):
        yield Leaf(_text(base, path), _name(base, path), base, path, np.asarray(value))
    elif isinstance(value, tuple) and hasattr(value, "_fields"):
        for name in value._fields:
            yield from _arrays_in(base, (*path, name), getattr(value, name))
    elif isinstance(value, dict):
        for key, one in value.items():
            yield from _arrays_in(base, (*path, key), one)
    elif isinstance(value, tuple | list):
        for place, one in enumerate(value):
            yield from _arrays_in(base, (*path, place), one)


def held(scope: Mapping[str, Any], leaf: Leaf) -> Any:
    """Return the very object that a leaf is in a scope."""
    return value_at(scope[leaf.base], leaf.path)


def value_at(value: Any, path: tuple[Any, ...]) -> Any:
    """Return what stands in a container at the end of a path of fields, keys and places."""
    for step in path:
        named = isinstance(step, str) and not isinstance(value, dict)
        value = getattr(value, step, None) if named else value[step]
    return value


def _put(value: Any, path: tuple[Any, ...], new: Any) -> Any:
    if not path:
        return new
    step, rest = path[0], path[1:]
    inner = _put(value_at(value, (step,)), rest, new)
    if isinstance(value, dict):
        return {**value, step: inner}
    if hasattr(value, "_replace"):
        return value._replace(**{step: inner})
    if isinstance(step, str):
        other = copy.copy(value)
        setattr(other, step, inner)
        return other
    return type(value)(inner if place == step else one for place, one in enumerate(value))


def _text(base: str, path: tuple[Any, ...]) -> str:
    return base + "".join(f".{step}" if isinstance(step, str) else f"[{step}]" for step in path)


def _name(base: str, path: tuple[Any, ...]) -> str:
    if path and isinstance(path[-1], str):
        return path[-1]
    return _text(base, path)

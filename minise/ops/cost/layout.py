"""Strides of arrays that have no memory: which views need a copy, and the layout of results.

`steps` are an array's strides in elements, as NumPy would choose them.
"""

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

Shape = tuple[int, ...]


def contiguous(shape: Shape) -> Shape:
    """Return the steps of an array in C order."""
    return dense(shape, range(len(shape)))


def dense(shape: Shape, order: Iterable[int]) -> Shape:
    """Return the steps of a new array whose axes are in this order, the outermost first."""
    steps, step = [0] * len(shape), 1
    for axis in reversed(tuple(order)):
        steps[axis] = step
        step *= shape[axis]
    return tuple(steps)


def like(shape: Shape, steps: Shape) -> Shape:
    """Return the steps of a new array of this shape with the order of axes of another one."""
    return dense(shape, sorted(range(len(shape)), key=lambda axis: -abs(steps[axis])))


def reshaped(shape: Shape, steps: Shape, to: Shape) -> Shape | None:
    """Return the steps of a view of another shape, or None if reshaping needs a copy."""
    old = [(size, step) for size, step in zip(shape, steps, strict=True) if size != 1]
    result: list[int] = []
    sizes = list(to)
    while sizes:
        size = sizes.pop(0)
        group = [size]
        if size != 1:
            if not old:
                return None
            merged, step = old.pop(0)
            while merged != prod(group):
                if merged < prod(group):
                    following, inner = old.pop(0)
                    if step != inner * following:
                        return None
                    merged, step = merged * following, inner
                else:
                    group.append(sizes.pop(0))
            result += [step * inner for inner in contiguous(tuple(group))]
        else:
            result.append(0)
    return tuple(result)


def full_key(key: Any, ndim: int) -> list[Any]:
    """Return an index as a list of one entry per axis, besides None, without an ellipsis."""
    keys = list(key) if isinstance(key, tuple) else [key]
    used = sum(entry is not None and entry is not Ellipsis for entry in keys)
    rest = [slice(None)] * (ndim - used)
    for k, entry in enumerate(keys):
        if entry is Ellipsis:
            return [*keys[:k], *rest, *keys[k + 1 :]]
    return keys + rest


def viewed(keys: Sequence[Any], shape: Shape, steps: Shape) -> tuple[Shape, Shape]:
    """Return shape and steps of the view that an index of integers, slices and None selects."""
    new_shape, new_steps = [], []
    for size, step, entry in _by_axis(keys, shape, steps):
        if entry is None:
            new_shape.append(1)
            new_steps.append(0)
        elif isinstance(entry, slice):
            part = range(size)[entry]
            new_shape.append(len(part))
            new_steps.append(step * part.step)
    return tuple(new_shape), tuple(new_steps)


def _by_axis(keys: Sequence[Any], shape: Shape, steps: Shape) -> Iterator[tuple[int, int, Any]]:
    axes = iter(zip(shape, steps, strict=True))
    for entry in keys:
        yield (*((0, 0) if entry is None else next(axes)), entry)

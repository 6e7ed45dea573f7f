"""Repeat a call of an op for arrays of the same shapes: make results like those of the first call.

A net calls its ops again and again for few shapes, and a call of the reference runs some ten lines
of NumPy. The second call with the same shapes, dtypes, layouts and settings only makes the results.
"""

from typing import Any, NamedTuple

import numpy as np

from minise.ops.cost.array import ShapeArray, new, view_of
from minise.ops.cost.ledger import Ledger


class Unknown(Exception):
    """The arguments have a value whose results may differ from call to call."""


class Same(NamedTuple):
    """A result that is one of the input arrays."""

    source: int


class View(NamedTuple):
    """A result that is a view of an input array, or of an earlier result if source is negative."""

    source: int
    shape: tuple[int, ...]
    steps: tuple[int, ...]


class New(NamedTuple):
    """A result in memory of its own."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    steps: tuple[int, ...]


def key_of(value: Any, inputs: list[ShapeArray]) -> Any:
    """Return a key for the arguments of a call, and append its arrays to inputs.

    Raises
    ------
    Unknown
        If an argument is neither an array of shapes, nor a setting, nor a tuple or dict of them.
    """
    if isinstance(value, ShapeArray):
        inputs.append(value)
        first = next(k for k, array in enumerate(inputs) if array.memory is value.memory)
        return value.shape, value.dtype, value.steps, first
    if isinstance(value, tuple):
        return tuple([key_of(entry, inputs) for entry in value])
    if isinstance(value, dict):
        return tuple([(name, key_of(entry, inputs)) for name, entry in value.items()])
    if value is None or isinstance(value, str | bool | int | float | np.generic):
        return type(value), value
    raise Unknown


def recipe_of(value: Any, inputs: list[ShapeArray], made: list[ShapeArray]) -> Any:
    """Return the results of a call with descriptions in place of their arrays."""
    if isinstance(value, ShapeArray):
        for k, array in enumerate(inputs):
            if array is value:
                return Same(k)
        for offset, arrays in ((0, inputs), (-len(made), made)):
            for k, array in enumerate(arrays):
                if array.memory is value.memory:
                    return View(k + offset, value.shape, value.steps)
        made.append(value)
        return New(value.shape, value.dtype, value.steps)
    if isinstance(value, tuple):
        return _like(value, [recipe_of(entry, inputs, made) for entry in value])
    return value


def follow(recipe: Any, inputs: list[ShapeArray], ledger: Ledger, made: list[ShapeArray]) -> Any:
    """Return the results that a recipe describes, for the inputs of another call."""
    if isinstance(recipe, Same):
        return inputs[recipe.source]
    if isinstance(recipe, View):
        arrays = inputs if recipe.source >= 0 else made
        return view_of(arrays[recipe.source], recipe.shape, recipe.steps)
    if isinstance(recipe, New):
        made.append(new(recipe.shape, recipe.dtype, ledger, recipe.steps))
        return made[-1]
    if isinstance(recipe, tuple):
        return _like(recipe, [follow(entry, inputs, ledger, made) for entry in recipe])
    return recipe


def _like(value: tuple[Any, ...], entries: list[Any]) -> tuple[Any, ...]:
    return type(value)(*entries) if hasattr(value, "_fields") else tuple(entries)

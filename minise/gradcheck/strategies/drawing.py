"""Draw the arrays that a line of shapes describes, in several memory layouts."""

from collections.abc import Collection
from typing import Any

import numpy as np

from minise.checks import Array
from minise.ops.shapes import Argument, parse


def draw_arrays(
    line: str,
    sizes: dict[str, Any],
    rng: np.random.Generator,
    dtype: Any = np.float64,
    *,
    integers: bool = False,
    without: Collection[str] = (),
    **settings: Any,
) -> tuple[list[Array | None], dict[str, Array]]:
    """Return random arrays: a list of those passed by position, a dict of those by keyword.

    sizes has the size of every named axis, a whole shape for "...", and for "_" a list with one
    size for each of *xs; settings has the divisors. Arrays named in without are None. Integers are
    column indices of the first array (0 or 1 if it has no axis), and variances are positive.
    """
    positional: list[Any] = []
    keyword: dict[str, Array] = {}
    for argument in parse(line):
        for number in range(len(sizes["_"]) if argument.many else 1):
            shape = shape_of(argument, sizes, settings, number)
            if argument.name in without:
                array: Any = None
            elif argument.kind == "int":
                first = next((array.shape for array in positional if array is not None), ())
                array = rng.integers(0, first[-1] if first else 2, shape)
            elif argument.kind == "bool":
                array = np.asarray(rng.random(shape) < 0.5)
            else:
                array = _floats(rng, shape, integers, argument.name.endswith("_var")).astype(dtype)
            if argument.keyword:
                keyword[argument.name] = array
            else:
                positional.append(array)
    return positional, keyword


def shape_of(
    argument: Argument, sizes: dict[str, Any], settings: dict[str, Any], number: int = 0
) -> tuple[int, ...]:
    """Return the shape of one array; number is its index among *xs."""
    shape = []
    for axis, divisor in argument.axes:
        if axis == "...":
            return tuple(sizes["..."])
        size = sizes["_"][number] if axis == "_" else sizes[axis]
        shape.append(size // settings.get(divisor, 1) if divisor else size)
    return tuple(shape)


def _floats(
    rng: np.random.Generator, shape: tuple[int, ...], integers: bool, positive: bool
) -> Array:
    """Return standard normal numbers or small integers, all at least 0.5 if positive."""
    draw = rng.integers(-3, 4, shape) if integers else rng.standard_normal(shape)
    return np.asarray(abs(draw) + 0.5 if positive else draw)


def backwards(array: Array) -> Array:
    """Return an equal array with negative strides: every other entry of a larger array, reversed.

    All other entries of the larger array are poison values.
    """
    poison = {"f": np.nan, "c": np.nan, "b": True}.get(array.dtype.kind, 99)
    larger = np.full([2 * size for size in array.shape], poison, array.dtype)
    every_other: Any = (*(slice(None, None, -2) for _ in array.shape), ...)
    view = larger[every_other]
    view[...] = array
    return view


def channels_last(array: Array) -> Array:
    """Return an equal array with the second axis innermost in memory."""
    if array.ndim < 2:
        return array.copy()
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def first_axis_innermost(array: Array) -> Array:
    """Return an equal array in Fortran order."""
    return np.array(array, order="F")


def read_only(array: Array) -> Array:
    """Return an equal array with equal strides that raises an error when written to."""
    copy = array.copy(order="K")
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "backwards": backwards,
    "channels_last": channels_last,
    "first_axis_innermost": first_axis_innermost,
    "read_only": read_only,
}

"""Draw the arrays that an op's line in SHAPES names, and lay them out in memory."""

from collections.abc import Collection
from typing import Any

import numpy as np

from minise.ops.checks import Argument, Array, parse


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
    """Return the arrays that go by position, as a list, and those that go by keyword, as a dict.

    sizes holds every axis that is named, a whole shape for "...", and for "_" one size for each of
    *xs; settings hold the divisors. The names in without become None. Labels are columns of the
    first array (0 or 1 where it has none), and what is called a variance is positive.
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
    """Return the shape of one array; number counts *xs."""
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
    draw = rng.integers(-3, 4, shape) if integers else rng.standard_normal(shape)
    return np.asarray(abs(draw) + 0.5 if positive else draw)


def backwards(array: Array) -> Array:
    """Return equal numbers, every other place of a larger array, last to first."""
    poison = {"f": np.nan, "c": np.nan, "b": True}.get(array.dtype.kind, 99)
    larger = np.full([2 * size for size in array.shape], poison, array.dtype)
    every_other: Any = (*(slice(None, None, -2) for _ in array.shape), ...)
    view = larger[every_other]
    view[...] = array
    return view


def channels_last(array: Array) -> Array:
    """Return equal numbers, with the second axis innermost in memory."""
    if array.ndim < 2:
        return array.copy()
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(array, 1, -1)), -1, 1)


def first_axis_innermost(array: Array) -> Array:
    """Return equal numbers, in Fortran's order."""
    return np.array(array, order="F")


def read_only(array: Array) -> Array:
    """Return equal numbers of equal strides that raise where they are written to."""
    copy = array.copy(order="K")
    copy.flags.writeable = False
    return copy


LAYOUTS = {
    "backwards": backwards,
    "channels_last": channels_last,
    "first_axis_innermost": first_axis_innermost,
    "read_only": read_only,
}

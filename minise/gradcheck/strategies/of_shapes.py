"""Hypothesis strategies for testing an op of your own: one line of shapes, one call.

    from hypothesis import given
    from minise.gradcheck.strategies import cases
    from my_ops import scale_backward, scale_forward

    @given(case=cases("x: N C H W, s: N C"))
    def test_scale(case):
        case.assert_gradients(scale_forward, scale_backward)

The line has the syntax of minise's own ops (minise/ops/shapes.py). Hypothesis shrinks a failing
case to small sizes, simple settings, C order and seed 0. The error message ends with a program that
reproduces the failure without Hypothesis.
"""

import re
from collections.abc import Callable, Collection, Mapping
from math import lcm
from typing import Any, TypeAlias

import numpy as np
from hypothesis import reject
from hypothesis import strategies as st

from minise.checks import check_divisor, check_integer
from minise.gradcheck.strategies.drawing import LAYOUTS, draw_arrays
from minise.gradcheck.strategies.failing_case import PLAIN, Case
from minise.ops.shapes import Argument, parse

__all__ = ["AXIS", "PLAIN", "Case", "cases"]

AXIS = st.integers(1, 4)  # default sizes of an axis

_AXES = r"(\s+(\.\.\.|[^\W\d]\w*(/[^\W\d]\w*)?))*"
_ARRAY = re.compile(rf"\*?[^\W\d]\w*\??:{_AXES}")

Values: TypeAlias = Callable[[np.random.Generator, tuple[int, ...], dict[str, Any]], Any]


def cases(
    line: str,
    /,
    *,
    layouts: Collection[str] = (PLAIN, *LAYOUTS),
    values: Mapping[str, Values] | None = None,
    **axes_and_settings: Any,
) -> st.SearchStrategy[Case]:
    """Return a strategy that draws the arrays and settings of an op.

    Parameters
    ----------
    line : str
        The arrays and their axes, in the order of forward's arguments:
        ``"x: N C H W, weight: K C/groups KH KW, bias?: K"``. An axis has the same size in all
        arrays. ``bias?`` is None in some cases; ``labels: N int`` and ``mask: N bool`` set the
        dtype, and integers are column indices of the first array; ``...`` is any shape;
        ``*xs: N _`` is one or more arrays; ``C/groups`` is the size of C divided by a setting;
        arrays after ``;`` are passed by keyword.
    layouts : collection of str
        Memory layouts to draw from, simplest first: "contiguous" (C order), "backwards" (negative
        strides), "channels_last", "first_axis_innermost" (Fortran order) and "read_only".
    values : mapping of str to callable, optional
        Functions of ``(rng, shape, sizes)`` that draw the numbers of an array, by its name. All
        other arrays are standard normal. For a logarithm, for example, pass
        ``values={"x": lambda rng, shape, sizes: rng.uniform(1, 2, shape)}``.
    **axes_and_settings
        Sizes of axes (default 1 to 4) and keyword arguments of forward, by name: strategies or
        constants. A divisor such as `groups` is 1 to 3 by default. ``**{"...": st.tuples(…)}``
        draws the shape of "...".

    Returns
    -------
    strategy of Case
        It shrinks to sizes of 1, the first value of every setting, C order, no array left out, and
        seed 0.

    Raises
    ------
    ValueError
        If the line is malformed, an axis is not in the line, or a layout is unknown.
    TypeError
        If the line is not a string, or a size is neither an integer nor a strategy.

    Examples
    --------
    >>> from hypothesis import given
    >>> def forward(x, s, *, power):
    ...     return x**power * s[:, None], (x, s, power)
    >>> def backward(dout, cache):
    ...     x, s, power = cache
    ...     return dout * power * x ** (power - 1) * s[:, None], (dout * x**power).sum(axis=1)
    >>> @given(case=cases("x: N C, s: N", C=st.integers(1, 9), power=st.sampled_from([1, 2])))
    ... def test_forward(case):
    ...     case.assert_gradients(forward, backward)
    >>> test_forward()
    """
    arguments = _checked_arguments(line)
    sizes, settings = _sizes_and_settings(arguments, line, axes_and_settings)
    layouts = list(layouts)
    unknown = [layout for layout in layouts if layout not in (PLAIN, *LAYOUTS)]
    if unknown or not layouts:
        received = f"has {unknown[0]!r}" if unknown else "is empty"
        raise ValueError(
            f"cases: layouts {received}, expected any of {PLAIN}, {', '.join(LAYOUTS)}"
        )
    names = [argument.name for argument in arguments]
    for name in values or ():
        if name not in names:
            raise ValueError(f"cases: values has {name!r}, expected any of {', '.join(names)}")
    return _cases(line, sizes, settings, layouts, dict(values or {}))


@st.composite
def _cases(
    draw: Any,
    line: str,
    sizes: dict[str, Any],
    settings: dict[str, Any],
    layouts: list[str],
    values: dict[str, Values],
) -> Case:
    arguments = parse(line)
    chosen = {key: _draw_if_strategy(draw, value) for key, value in settings.items()}
    divisors = {name for argument in arguments for _, name in argument.axes if name}
    for name in divisors:
        check_integer("cases", name, chosen[name], 1)
    chosen_sizes: dict[str, Any] = {}
    for axis, size in sizes.items():
        chosen_sizes[axis] = _draw_size(draw, axis, size, _divisors(arguments, axis, chosen))
    omitted = [argument.name for argument in arguments if argument.optional and draw(st.booleans())]
    layout = draw(st.sampled_from(layouts))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    inputs, keywords = draw_arrays(
        line, chosen_sizes, rng, without=omitted, **{name: chosen[name] for name in divisors}
    )
    counts = [len(chosen_sizes["_"]) if argument.many else 1 for argument in arguments]
    names = [
        f"{argument.name}[{i}]" if argument.many else argument.name
        for argument, count in zip(arguments, counts, strict=True)
        for i in range(count)
        if not argument.keyword
    ]
    for name, function in values.items():
        for k, input_name in enumerate(names):
            if input_name.partition("[")[0] == name:
                inputs[k] = _custom_values(name, function, inputs[k], rng, chosen_sizes)
        if name in keywords:
            keywords[name] = _custom_values(name, function, keywords[name], rng, chosen_sizes)
    inputs = [_in_layout(array, layout) for array in inputs]
    keywords = {key: _in_layout(array, layout) for key, array in keywords.items()}
    return Case(inputs, chosen | keywords, chosen_sizes, seed, names, layout)


def _in_layout(array: Any, layout: str) -> Any:
    """Return an equal array in a memory layout, and None as None."""
    return array if array is None or layout == PLAIN else LAYOUTS[layout](array)


def _checked_arguments(line: str) -> tuple[Argument, ...]:
    """Return the arrays that a line describes, or raise an error if it is malformed."""
    if not isinstance(line, str):
        kind = type(line).__name__
        raise TypeError(f"cases: line is a {kind}, expected a string such as 'x: N C H W, s: N C'")
    positional, _, keyword = line.partition(";")
    parts = [*positional.split(","), *(keyword.split(",") if keyword.strip() else [])]
    for part in map(str.strip, parts):
        if not _ARRAY.fullmatch(part):
            raise ValueError(
                f"cases: the line {line!r} has {part!r}, expected a name, a colon and axes: "
                "'x: N C H W' or 'bias?: K'"
            )
    arguments = parse(line)
    names = [argument.name for argument in arguments]
    for argument in arguments:
        axes = [axis for axis, _ in argument.axes]
        if "..." in axes and len(axes) > 1:
            raise ValueError(
                f"cases: {argument.name} has the axes {argument.text}, expected '...' alone, which "
                "is a whole shape"
            )
        if names.count(argument.name) > 1:
            raise ValueError(
                f"cases: the line {line!r} has {argument.name} twice, expected different names"
            )
    return arguments


def _sizes_and_settings(
    arguments: tuple[Argument, ...], line: str, axes_and_settings: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the caller's sizes of all axes, None for the default, and the settings."""
    axes = {axis: None for argument in arguments for axis, _ in argument.axes}
    if any(argument.many for argument in arguments):
        axes.setdefault("_", None)
    sizes = {axis: axes_and_settings.get(axis) for axis in axes}
    settings = {key: value for key, value in axes_and_settings.items() if key not in axes}
    for key in settings:
        if key[0].isupper() or not key.isidentifier():
            raise ValueError(
                f"cases: {key} is not an axis of {line!r}, expected any of {', '.join(axes)}"
            )
        if key in [argument.name for argument in arguments]:
            raise ValueError(
                f"cases: {key} is an array of {line!r}, expected the name of an axis or a setting: "
                f"pass values={{{key!r}: …}} to draw its numbers"
            )
    for axis, size in sizes.items():
        if not (size is None or axis in ("...", "_") or isinstance(size, st.SearchStrategy)):
            check_integer("cases", axis, size, 1)
    for argument in arguments:
        for axis, divisor in argument.axes:
            if divisor:
                value, size = settings.setdefault(divisor, st.integers(1, 3)), sizes[axis]
                if not isinstance(value, st.SearchStrategy):
                    check_integer("cases", divisor, value, 1)
                    if isinstance(size, int):
                        check_divisor("cases", divisor, value, axis, size)
    return sizes, settings


def _draw_if_strategy(draw: Any, value: Any) -> Any:
    """Return a value drawn from a strategy, and a constant as it is."""
    return draw(value) if isinstance(value, st.SearchStrategy) else value


def _divisors(arguments: tuple[Argument, ...], axis: str, settings: dict[str, Any]) -> list[int]:
    """Return the values of all settings that must divide the size of an axis."""
    return [
        settings[divisor]
        for argument in arguments
        for name, divisor in argument.axes
        if name == axis and divisor
    ]


def _draw_size(draw: Any, axis: str, size: Any, divisors: list[int]) -> Any:
    """Draw the size of an axis, the shape of "...", or one size for each of *xs."""
    if axis in ("...", "_"):
        sizes = st.lists(AXIS, min_size=int(axis == "_"), max_size=4)
        return tuple(_draw_if_strategy(draw, sizes if size is None else size))
    if size is None:
        return lcm(*divisors) * draw(st.integers(1, 2)) if divisors else draw(AXIS)
    size = _draw_if_strategy(draw, size)
    check_integer("cases", axis, size, 1)
    if any(size % divisor for divisor in divisors):
        reject()
    return size


def _custom_values(
    name: str,
    function: Values,
    like: Any,
    rng: np.random.Generator,
    sizes: dict[str, Any],
) -> Any:
    """Return an array drawn by the caller's function, of the same shape and dtype as like."""
    if like is None:
        return None
    array = np.asarray(function(rng, like.shape, sizes))
    if array.shape != like.shape:
        raise ValueError(
            f"cases: values[{name!r}] returns shape {array.shape}, expected {like.shape}: draw an "
            "array of the shape that it is passed"
        )
    return array.astype(like.dtype)

"""A trace as JSON for the page: every number as Python's repr has it, so that none is rounded.

    arrays   inputs first, then what each step gave: name, axes, shape, numbers in one row
    steps    what the reader is shown, in the order of the trace
    reads    of a step: which array, and the derivative of the step's value in it, sparse: for each
             entry that the step gives, the entries that it depends on, and how fast

A derivative is often itself a number that the line reads (the weight, in a sum of weights times
gradients). Where just one entry has that value, the page can name it.
"""

from typing import Any

import numpy as np

from minise.gradcheck.cases import OPS
from minise.gradcheck.cases import line as shapes_of
from minise.ops.checks import Array, parse
from minise.walk.steps import Check, Read, Step, Trace

RANKS = {1: "c", 2: "nc", 3: "nci", 4: "ncij"}
LETTERS = {"H": "i", "W": "j", "KH": "a", "KW": "b"}
ROOM = 8  # of roundings, between a derivative and the entry that it is


def data_of(trace: Trace) -> dict[str, Any]:
    """Return all that the page shows, in lists, dicts, numbers and words."""
    arrays = [_array(trace, name, value) for name, value in trace.inputs.items()]
    place: dict[int | str, int] = {name: k for k, name in enumerate(trace.inputs)}
    for step in trace.steps:
        place[step.number] = len(arrays)
        arrays.append({**_array(trace, step.name, step.value), "step": step.number})
    steps = [_step(trace, step, place, arrays) for step in trace.steps]
    return {
        "name": trace.name,
        "title": trace.title or trace.name,
        "settings": {key: _said(value) for key, value in trace.settings.items()},
        "story": trace.story,
        "notes": trace.notes,
        "loss": trace.loss,
        "out": place[trace.out],
        "dout": place["dout"],
        "gradients": {name: place[given] for name, given in trace.gradients.items()},
        "arrays": arrays,
        "steps": steps,
    }


def _array(trace: Trace, name: str, value: Array) -> dict[str, Any]:
    return {
        "name": name,
        "shape": list(value.shape),
        "axes": list(_axes(trace, name, value)),
        "values": [_plain(one) for one in value.ravel()],
        "real": value.dtype.kind == "f",
    }


def _axes(trace: Trace, name: str, value: Array) -> tuple[str, ...]:
    """Return a letter for each axis: of an op's own arrays and their gradients, as its line has.

    Others begin with images and channels; where they have not so many channels as x, the letter
    is that of the op's axis which is as long.
    """
    axes = list(RANKS.get(value.ndim, "abcdefgh"[: value.ndim]))
    if trace.name not in OPS:
        return tuple(axes)
    lengths: dict[str, int] = {}
    bare = name.removeprefix("d") if name != "dout" else name
    for argument in parse(shapes_of(trace.name)):
        letters = tuple(LETTERS.get(axis, axis.lower()) for axis, _ in argument.axes)
        if argument.name == bare and len(letters) == value.ndim and "..." not in letters:
            return letters
        if len(letters) == value.ndim == 1:
            axes = list(letters)
        if argument.name in trace.inputs:
            shape = trace.inputs[argument.name].shape
            lengths = {**dict(zip(letters, shape, strict=False)), **lengths}
    if value.ndim > 1 and value.shape[1] != lengths.get("c", value.shape[1]):
        long = [axis for axis in set(lengths) - set("ncij") if lengths[axis] == value.shape[1]]
        axes[1] = long[0] if len(long) == 1 else axes[1]
    return tuple(axes)


def _step(
    trace: Trace, step: Step, place: dict[int | str, int], arrays: list[dict[str, Any]]
) -> dict[str, Any]:
    reads = []
    for read in step.reads:
        if read.source is None:
            arrays.append(_array(trace, read.name, read.value))
            reads.append(_read(step, read, len(arrays) - 1))
        else:
            reads.append(_read(step, read, place[read.source]))
    names = list(next(iter(step.parts), ()))
    return {
        "array": place[step.number],
        "direction": step.direction,
        "layer": step.layer,
        "op": step.op,
        "mathml": step.formula.mathml,
        "formula": step.formula.text,
        "code": [{"text": step.code, "file": step.file, "line": step.line}]
        + [{"text": one.code, "file": one.file, "line": one.line} for one in step.inner],
        "rule": step.rule,
        "reason": step.reason,
        "constants": {name: _said(value) for name, value in step.constants.items()},
        "reads": reads,
        "gradientOf": step.gradient_of,
        "twin": place.get(step.twin) if step.twin is not None else None,
        "route": None if step.route is None else [place[one] for one in step.route],
        "check": None if step.check is None else _check(step.check),
        "terms": names,
        "parts": {
            "".join("1" if name in chosen else "0" for name in names): _numbers(value)
            for chosen, value in step.parts.items()
        },
    }


def _check(check: Check) -> dict[str, Any]:
    exact = check.complex_step
    return {
        "of": check.of,
        "difference": _numbers(check.difference),
        "complex": None if exact is None else _numbers(exact),
        "error": _numbers(check.error),
        "agrees": [bool(one) for one in check.agrees.ravel()],
    }


def _read(step: Step, read: Read, array: int) -> dict[str, Any]:
    found: dict[str, Any] = {
        "name": read.name,
        "array": array,
        "up": read.upstream,
        "sum": read.summed,
        "at": None,
    }
    if read.derivative is None:
        return found
    slopes, numbers = np.unique(read.derivative, return_inverse=True)
    numbers = numbers.reshape(read.derivative.shape)
    rows = [np.flatnonzero(row) for row in read.derivative]
    return {
        **found,
        "at": [row.tolist() for row in rows],
        "by": [numbers[out, row].tolist() for out, row in enumerate(rows)],
        "slopes": _numbers(slopes),
        **(_factors(step, read, rows) if read.summed else {}),
    }


def _factors(step: Step, read: Read, rows: list[Array]) -> dict[str, Any]:
    """Return which entry of which other read each derivative is, where one is: of a product.

    In a product a * b the derivative in a is b, and that in b is a. An entry is coded as twice its
    place, and one more if it is there with a minus sign; -1 is none.
    """
    best: dict[str, Any] = {}
    most = 0
    for k, other in enumerate(step.reads):
        if other.summed or other.derivative is None:
            continue
        codes = [
            [_factor(read, other, out, int(entry)) for entry in row] for out, row in enumerate(rows)
        ]
        count = sum(code >= 0 for row in codes for code in row)
        if count > most:
            most, best = count, {"factorOf": k, "factors": codes}
    return best


def _factor(read: Read, other: Read, out: int, entry: int) -> int:
    assert read.derivative is not None
    assert other.derivative is not None
    slope, value = read.derivative[out, entry], read.value.flat[entry]
    for sign in (1, -1):
        is_slope = _near(sign * other.value.ravel(), slope)
        places = np.flatnonzero(is_slope & _near(sign * other.derivative[out], value))
        if len(places) == 1:
            return 2 * int(places[0]) + (sign < 0)
    return -1


def _near(values: Array, value: float) -> Array:
    """Tell which values are one number but for rounding."""
    return np.asarray(abs(values - value) <= ROOM * np.finfo(float).eps * abs(value))


def _numbers(values: Array) -> list[float]:
    return [float(value) for value in values.ravel()]


def _plain(value: Any) -> Any:
    """Return a number or a flag of NumPy's as Python's own."""
    return value.item() if isinstance(value, np.generic) else value


def _said(value: Any) -> str:
    """Return a setting as Python writes it; a word bare."""
    return str(value) if isinstance(value, str | np.generic) else repr(value)

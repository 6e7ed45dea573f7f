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

from minise.checks import Array
from minise.tracing.slopes import Check
from minise.walk.axes import axes_of, counted, sizes_of
from minise.walk.steps import Read, Step, Trace

ROOM = 8  # of roundings, between a derivative and the entry that it is


def data_of(trace: Trace) -> dict[str, Any]:
    """Return all that the page shows, in lists, dicts, numbers and words."""
    arrays = [
        _array(name, value, _op_reading(trace, name), trace.inputs)
        for name, value in trace.inputs.items()
    ]
    place: dict[int | str, int] = {name: k for k, name in enumerate(trace.inputs)}
    for step in trace.steps:
        place[step.number] = len(arrays)
        one = _array(step.name, step.value, (step.op, step.name), _around(step))
        arrays.append({**one, "step": step.number})
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
        "axes": counted({axis for one in arrays for axis in one["axes"]}),
        "arrays": arrays,
        "steps": steps,
    }


def _op_reading(trace: Trace, name: str) -> tuple[str, str]:
    """Return the op that reads an input first, and the input's name there."""
    if name == "dout":
        return (trace.steps[trace.out].op if isinstance(trace.out, int) else trace.name), "out"
    for step in trace.steps:
        for read in step.reads:
            if read.source == name:
                return step.op, read.name
    return trace.name, name


def _around(step: Step) -> dict[str, Array]:
    return {read.name: read.value for read in step.reads}


def _array(
    name: str, value: Array, known: tuple[str, str], around: dict[str, Array]
) -> dict[str, Any]:
    """Return an array; the op and its name there, and arrays around it, tell what its axes are."""
    return {
        "name": name,
        "shape": list(value.shape),
        "axes": list(axes_of(*known, value.shape, sizes_of(known[0], around))),
        "values": [_plain(one) for one in value.ravel()],
        "real": value.dtype.kind == "f",
    }


def _step(
    trace: Trace, step: Step, place: dict[int | str, int], arrays: list[dict[str, Any]]
) -> dict[str, Any]:
    reads = []
    for read in step.reads:
        if read.source is None:
            known = (step.op, read.name)
            arrays.append(_array(read.name, read.value, known, _around(step)))
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

"""Convert a trace to JSON for the page. Numbers have the digits of Python's repr: none is rounded.

    arrays   inputs first, then the value of each step: name, axes, shape, flattened values
    steps    in the order of the trace
    reads    of a step: the array, and the derivative of the step's value with respect to it, as a
             sparse matrix: for each entry of the value, the entries that it depends on and the
             derivatives

    tape     operations from which the page computes the values for other inputs: for each its name,
             its arguments (numbers of earlier operations) and its constants; a step, an array read
             and the origin of a check have the number of their operation

A derivative is often itself a number that the line reads: the weight, in a sum of weights times
gradients. If exactly one entry has that value, the page can name the entry.
"""

from typing import Any

import numpy as np

from minise.checks import Array
from minise.tracing.slopes import Check
from minise.tracing.tape import Tape
from minise.walk.axes import axes_of, axis_meanings, sizes_of
from minise.walk.faults import mark_of, sentence_of
from minise.walk.steps import Live, Read, Step, Trace

MAX_ROUNDINGS = 8  # between a derivative and the entry that it equals


def data_of(trace: Trace) -> dict[str, Any]:
    """Return the data of the page as lists, dicts, numbers and strings."""
    arrays = [
        {
            **_array(name, value, _op_reading(trace, name), trace.inputs),
            "limit": _allowed_range(trace, name),
        }
        for name, value in trace.inputs.items()
    ]
    index: dict[int | str, int] = {name: k for k, name in enumerate(trace.inputs)}
    for step in trace.steps:
        index[step.number] = len(arrays)
        array = _array(step.name, step.value, (step.op, step.name), _arrays_read(step))
        arrays.append({**array, "step": step.number})
    steps = [_step(step, index, arrays, trace.live) for step in trace.steps]
    for step, shown in zip(trace.steps, steps, strict=True):
        shown["fault"] = _fault(trace, step) if step.is_wrong else None
    return {
        "name": trace.name,
        "title": trace.title or trace.name,
        "settings": {key: _as_text(value) for key, value in trace.settings.items()},
        "story": trace.story,
        "notes": trace.notes,
        "loss": trace.loss,
        "out": index[trace.out],
        "dout": index["dout"],
        "gradients": {name: index[source] for name, source in trace.gradients.items()},
        "axes": axis_meanings({axis for array in arrays for axis in array["axes"]}),
        "arrays": arrays,
        "steps": steps,
        "tape": None if trace.live is None else tape_data(trace.live.tape, index),
    }


def _op_reading(trace: Trace, name: str) -> tuple[str, str]:
    """Return the op that reads an input first, and the name of the input in that op."""
    if name == "dout":
        return (trace.steps[trace.out].op if isinstance(trace.out, int) else trace.name), "out"
    for step in trace.steps:
        for read in step.reads:
            if read.source == name:
                return step.op, read.name
    return trace.name, name


def _arrays_read(step: Step) -> dict[str, Array]:
    return {read.name: read.value for read in step.reads}


def _array(
    name: str, value: Array, op_and_name: tuple[str, str], arrays_read: dict[str, Array]
) -> dict[str, Any]:
    """Return the data of an array.

    The letters of its axes come from its op, its name in that op, and the arrays read there.
    """
    return {
        "name": name,
        "shape": list(value.shape),
        "axes": list(axes_of(*op_and_name, value.shape, sizes_of(op_and_name[0], arrays_read))),
        "values": [_plain(entry) for entry in value.ravel()],
        "real": value.dtype.kind == "f",
    }


def _step(
    step: Step, index: dict[int | str, int], arrays: list[dict[str, Any]], live: Live | None
) -> dict[str, Any]:
    """Return the data of a step; index has the position of each source's array in `arrays`."""
    reads = []
    for read in step.reads:
        if read.source is None:
            op_and_name = (step.op, read.name)
            arrays.append(_array(read.name, read.value, op_and_name, _arrays_read(step)))
            reads.append(_read(step, read, len(arrays) - 1))
        else:
            reads.append(_read(step, read, index[read.source]))
    if live is not None:
        for read_data, node in zip(reads, live.reads[step.number], strict=True):
            read_data["node"] = node
    return {
        "array": index[step.number],
        "direction": step.direction,
        "layer": step.layer,
        "op": step.op,
        "mathml": step.formula.mathml,
        "formula": step.formula.text,
        "code": [{"text": step.code, "file": step.file, "line": step.line}]
        + [
            {
                "text": 4 * line.depth * " " + line.code,
                "file": line.file,
                "line": line.line,
                "helper": line.helper,
            }
            for line in step.inner
        ],
        "rule": step.rule,
        "reason": step.reason,
        "constants": {name: _as_text(value) for name, value in step.constants.items()},
        "reads": reads,
        "gradientOf": step.gradient_of,
        "twin": index.get(step.twin) if step.twin is not None else None,
        "route": None if step.route is None else [index[source] for source in step.route],
        "check": None if step.check is None else _check(step.check),
        "terms": list(step.terms),
        "node": None if live is None else live.steps[step.number],
        "origin": None if live is None else live.origins[step.number],
    }


def tape_data(tape: Tape, index: dict[int | str, int]) -> dict[str, Any]:
    """Return the data of a tape; index has the position of each input's array."""
    nodes = [
        [node.op, *([list(node.arguments)] if node.arguments else []), *_constants(tape, number)]
        for number, node in enumerate(tape.nodes)
    ]
    return {
        "nodes": nodes,
        "inputs": [[index[name], number] for name, number in tape.inputs.items()],
        "guards": [
            [guard.node, np.ravel(guard.value).tolist(), guard.position] for guard in tape.guards
        ],
    }


def _constants(tape: Tape, number: int) -> list[Any]:
    """Return the constants of a node for its data: a list of one dict, or of none."""
    constants = dict(tape.nodes[number].constants)
    if number in tape.constants:
        value = tape.constants[number]
        same = len(np.unique(value)) == 1
        values = value.ravel()[:1] if same else value.ravel()
        numbers = [_finite(float(entry)) for entry in values]
        return [[], {"shape": list(value.shape), "values": numbers}]
    if "fill" in constants:
        constants["fill"] = _finite(constants["fill"])
    return [constants] if constants else []


def _finite(value: float) -> float | int | str:
    """Return a number for JSON: an integer without a point, and infinity and NaN as strings."""
    if not np.isfinite(value):
        return {"inf": "Infinity", "-inf": "-Infinity"}.get(str(value), "NaN")
    return int(value) if value == int(value) and abs(value) < 2**53 else value


def _allowed_range(trace: Trace, name: str) -> list[int] | None:
    """Return the range of an input of integers or flags, or None."""
    kind = trace.inputs[name].dtype.kind
    if kind == "b":
        return [0, 1]
    if kind == "f" or trace.live is None:
        return None
    tape = trace.live.tape
    return [0, tape.limits.get(tape.inputs.get(name, -1), 1) - 1]


def _check(check: Check) -> dict[str, Any]:
    exact = check.complex_step
    return {
        "of": check.of,
        "difference": _numbers(check.difference),
        "complex": None if exact is None else _numbers(exact),
        "error": _numbers(check.error),
        "agrees": [bool(agrees) for agrees in check.agrees.ravel()],
    }


def _fault(trace: Trace, step: Step) -> dict[str, Any]:
    """Return the words on a wrong gradient, and the steps that it inherits from."""
    fault = step.fault
    return {
        "culprit": fault is not None and fault.is_culprit,
        "inherits": [] if fault is None else list(fault.inherits),
        "mark": mark_of(trace, step),
        "sentence": sentence_of(trace, step),
    }


def _read(step: Step, read: Read, array: int) -> dict[str, Any]:
    """Return the data of a read; array is the position of the array that is read."""
    data: dict[str, Any] = {
        "name": read.name,
        "array": array,
        "up": read.upstream,
        "sum": read.summed,
        "at": None,
    }
    if read.derivative is None:
        return data
    slopes, numbers = np.unique(read.derivative, return_inverse=True)
    numbers = numbers.reshape(read.derivative.shape)
    rows = [np.flatnonzero(row) for row in read.derivative]
    return {
        **data,
        "at": [row.tolist() for row in rows],
        "by": [numbers[out, row].tolist() for out, row in enumerate(rows)],
        "slopes": _numbers(slopes),
        **(_factors(step, read, rows) if read.summed else {}),
    }


def _factors(step: Step, read: Read, rows: list[Array]) -> dict[str, Any]:
    """Return the other factor of each product in a sum: which array read, and which entries of it.

    In a product a * b the derivative with respect to a is b, and with respect to b it is a. So the
    other factor is the entry that equals the derivative. Entries are given as codes: 2 * index,
    plus 1 for a minus sign; -1 means that no entry is equal.
    """
    best: dict[str, Any] = {}
    best_count = 0
    for k, other in enumerate(step.reads):
        if other.summed or other.derivative is None:
            continue
        codes = [
            [_factor(read, other, out, int(entry)) for entry in row] for out, row in enumerate(rows)
        ]
        count = sum(code >= 0 for row in codes for code in row)
        if count > best_count:
            best_count, best = count, {"factorOf": k, "factors": codes}
    return best


def _factor(read: Read, other: Read, out: int, entry: int) -> int:
    """Return the code of the entry of `other` by which one entry of `read` is multiplied, or -1."""
    assert read.derivative is not None
    assert other.derivative is not None
    slope, value = read.derivative[out, entry], read.value.flat[entry]
    for sign in (1, -1):
        is_slope = _equal_up_to_rounding(sign * other.value.ravel(), slope)
        matches = is_slope & _equal_up_to_rounding(sign * other.derivative[out], value)
        indices = np.flatnonzero(matches)
        if len(indices) == 1:
            return 2 * int(indices[0]) + (sign < 0)
    return -1


def _equal_up_to_rounding(values: Array, value: float) -> Array:
    """Return which entries of `values` equal `value` up to rounding."""
    return np.asarray(abs(values - value) <= MAX_ROUNDINGS * np.finfo(float).eps * abs(value))


def _numbers(values: Array) -> list[float]:
    return [float(value) for value in values.ravel()]


def _plain(value: Any) -> Any:
    """Return a NumPy number or flag as a Python number or flag."""
    return value.item() if isinstance(value, np.generic) else value


def _as_text(value: Any) -> str:
    """Return a setting as Python code, strings without quotes."""
    return str(value) if isinstance(value, str | np.generic) else repr(value)

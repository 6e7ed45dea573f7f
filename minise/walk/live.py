"""Record the tape of a trace, so that a page can compute every step again for other inputs.

The pass runs once more on taped arrays (minise.tracing.taped). Its events have the same numbers as
those of the trace, so each step, each array that it reads and each value whose gradient is checked
is linked to its node. The tape is then evaluated for other inputs and compared with NumPy: a step
that differs is not linked, and a page says that it cannot be recomputed.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.tracing import leaves
from minise.tracing.instrument import RETURN
from minise.tracing.namespaces import Namespaces
from minise.tracing.recorder import Event, Hook
from minise.tracing.subject import Subject
from minise.tracing.tape import Tape
from minise.tracing.taped import TapedArray, alias, input_array, wrap
from minise.walk.build import Builder
from minise.walk.steps import Live

DRAWS = 3  # of other inputs at which the tape is compared with NumPy
REL_TOL = 1e-12  # of a step's largest entry: the tape may sum in another order


class Origin(NamedTuple):
    """The value of forward that the check of a gradient perturbs."""

    event: int | None = None  # number of its event
    source: str = ""  # or the name of an input


class Rerun(Hook):
    """Run a pass with other inputs.

    Parameters
    ----------
    names : dict of int to str
        By number of an argument's event: the name of the input that it is.
    inputs : dict of str to ndarray
        The inputs by name.
    """

    def __init__(self, names: Mapping[int, str], inputs: Mapping[str, Any]) -> None:
        self.names, self.inputs = names, inputs

    def recorded(self, event: Event) -> Any:
        """Return the input instead of an argument that is one."""
        return self.inputs[self.names[event.number]] if event.number in self.names else event.value


class Recording(Rerun):
    """Run a pass on taped arrays; every recorded value gets a node of its own."""

    def __init__(self, names: Mapping[int, str], tape: Tape, file: Path | None) -> None:
        super().__init__(names, {})
        self.tape, self.namespaces = tape, Namespaces(tape, file)

    def recorded(self, event: Event) -> Any:
        """Return the value under a node of its own."""
        value = event.value
        if event.number in self.names and not isinstance(value, TapedArray):
            value = input_array(self.tape, self.names[event.number], value)
        if event.name == RETURN:
            return value
        if isinstance(value, np.ndarray | np.floating) and not isinstance(value, TapedArray):
            value = wrap(self.tape, value, self.tape.constant(value))
        return alias(value) if isinstance(value, TapedArray) else value

    def globals_of(self, function: FunctionType) -> dict[str, Any]:
        """Return the function's global names, with a NumPy that records."""
        return self.namespaces.globals_of(function)


def rerun(subject: Subject, hook: Hook, inputs: Mapping[str, Any]) -> dict[int, Event]:
    """Run forward and backward for other inputs, and return the events by number."""
    recorder = subject.recorder
    recorder.hook = hook
    try:
        _, cache = subject.forward([inputs.get(name) for name in subject.names])
        subject.backward(inputs["dout"], cache)
        return {event.number: event for call in recorder.calls for event in call.events}
    finally:
        recorder.hook = Hook()


def input_names(builder: Builder) -> dict[int, str]:
    """Return the name of the input that an argument is, by the number of its event."""
    names = {}
    for call in builder.all_calls:
        for event in call.events:
            source = builder.source_in(call, event.name) if event.line is None else None
            if isinstance(source, str) and source in builder.inputs:
                names[event.number] = source
    return names


def values_at(
    subject: Subject,
    builder: Builder,
    steps: Sequence[int],
    inputs: Mapping[str, Array],
    hook: Hook | None = None,
) -> list[Array]:
    """Return the values of some steps of a builder for other inputs, computed by their code."""
    events = rerun(subject, hook or Rerun(input_names(builder), inputs), inputs)
    return [np.asarray(_value(builder, events, step)) for step in steps]


def record(
    subject: Subject, builder: Builder, steps: Sequence[int], origins: Mapping[int, Origin]
) -> Live | None:
    """Record a tape and link some steps of a builder to it.

    Parameters
    ----------
    subject : Subject
        The op or net that was run.
    builder : Builder
        The steps of its lines.
    steps : sequence of int
        The steps to link, in the order of the trace.
    origins : dict of int to Origin
        By step: the value whose gradient it is.

    Returns
    -------
    Live or None
        None if the pass does not run on taped arrays, as may happen in a file of the user's.
    """
    tape = Tape()
    taped = {name: input_array(tape, name, value) for name, value in builder.inputs.items()}
    hook = Recording(input_names(builder), tape, subject.recorder.file)
    try:
        events = rerun(subject, hook, taped)
    except Exception:  # the user's code may refuse an array of another class in any way
        return None
    nodes = [_node(_value(builder, events, step)) for step in steps]
    reads = [_read_nodes(builder, events, step) for step in steps]
    starts = [_origin_node(tape, events, origins.get(step)) for step in steps]
    every = [*nodes, *(node for row in reads for node in row), *starts]
    short, new = tape.pruned({node for node in every if node is not None})
    new_nodes = [None if node is None else new[node] for node in nodes]
    right = _reproduced(subject, builder, steps, short, new_nodes)
    return Live(
        short,
        [node if ok else None for node, ok in zip(new_nodes, right, strict=True)],
        [tuple(None if node is None else new[node] for node in row) for row in reads],
        [None if node is None else new[node] for node in starts],
        partial(values_at, subject, builder, steps),
    )


def _value(builder: Builder, events: Mapping[int, Event], step: int) -> Any:
    return leaves.element_of(events[builder.events[step].number].value, builder.elements[step])


def _node(value: Any) -> int | None:
    return value.node if isinstance(value, TapedArray) else None


def _read_nodes(builder: Builder, events: Mapping[int, Event], step: int) -> tuple[int | None, ...]:
    """Return the node of each array that a step reads, in the order of its reads."""
    event = builder.events[step]
    assert event.line is not None
    unmatched = list(leaves.leaves_of(event.line, event.scope))
    nodes = []
    for read in builder.steps[step].reads:
        leaf = next(leaf for leaf in unmatched if leaf.name == read.name)
        unmatched.remove(leaf)
        nodes.append(_node(leaves.array_at(events[event.number].scope, leaf)))
    return tuple(nodes)


def _origin_node(tape: Tape, events: Mapping[int, Event], origin: Origin | None) -> int | None:
    if origin is None:
        return None
    if origin.event is None:
        return tape.inputs.get(origin.source)
    return _node(events[origin.event].value)


def _reproduced(
    subject: Subject, builder: Builder, steps: Sequence[int], tape: Tape, nodes: list[int | None]
) -> list[bool]:
    """Return for each step whether the tape computes what NumPy does, for several inputs."""
    right = [node is not None for node in nodes]
    rng = np.random.default_rng(0)
    for draw in range(DRAWS + 1):
        inputs = builder.inputs
        if draw:
            inputs = {name: _other(value, rng) for name, value in inputs.items()}
        try:
            expected = values_at(subject, builder, steps, inputs)
        except Exception:  # the user's code may refuse these inputs
            continue
        expected = expected if draw else [builder.steps[step].value for step in steps]
        with np.errstate(all="ignore"):
            values = tape.evaluate(inputs)
        for k, node in enumerate(nodes):
            value = None if node is None else values[node]
            right[k] &= value is not None and _close(value, expected[k])
    return right


def _other(value: Array, rng: np.random.Generator) -> Array:
    """Return random values of the same kind: positive stays positive, a label stays a label."""
    if value.dtype.kind != "f":
        return np.asarray(rng.permutation(value.ravel()).reshape(value.shape))
    if np.all(value > 0):
        return np.asarray(value * rng.uniform(0.5, 1.5, value.shape))
    size = np.sqrt(np.mean(value * value))
    return np.asarray(size * rng.standard_normal(value.shape))


def _close(value: Array, expected: Array) -> bool:
    if value.shape != expected.shape:
        return False
    size = np.max(abs(np.asarray(expected, float)), initial=0.0)
    return bool(np.allclose(value, expected, rtol=0, atol=REL_TOL * (1 + size), equal_nan=True))

"""Build the steps of a trace from recorded calls: the source of each array, and its derivatives.

Arrays are followed by identity: a later line reads the same array object under its own name, from
a cache, or as an argument of another op. An op that recomputes an array (to save memory) gets the
same bits, so arrays are also matched by their bits.
"""

import ast
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from minise.checks import Array
from minise.tracing import leaves, source
from minise.tracing.instrument import RETURN
from minise.tracing.line_derivative import depends_on_values, derivative, homogeneous_leaves
from minise.tracing.recorder import Event, OpCall, argument_names
from minise.walk.explain import Explainer
from minise.walk.steps import BACKWARD, FORWARD, Read, Step
from minise.walk.terms import Term, name_of

Source = int | str


class Builder:
    """Build steps from the calls of one forward and one backward.

    Attributes
    ----------
    steps : list of Step
        The steps so far. For step k, `events[k]` is its event, `calls[k]` the call of that event,
        `values[k]` the recorded object itself, not a copy, and `elements[k]` its position in the
        value of the event, None if it is that value.
    inputs : dict of str to ndarray
        The arrays that lines read and no line computed.
    results : dict of int to list
        By id of a call: the source of each of its results.
    all_calls : list of OpCall
        The calls of both passes.
    """

    def __init__(self, inputs: dict[str, Array]) -> None:
        self.inputs = dict(inputs)
        self.steps: list[Step] = []
        self.events: list[Event] = []
        self.calls: list[OpCall] = []
        self.values: list[Any] = []
        self.elements: list[int | None] = []
        self.results: dict[int, list[Source | None]] = {}
        self.all_calls: list[OpCall] = []
        self._calls_of_pass: list[OpCall] = []
        self._by_identity: dict[int, Source] = {}
        self._by_bits: dict[tuple[Any, ...], Source] = {}
        self._local: dict[int, dict[str, Source]] = {}  # by id of a call
        self._keepalive: list[Any] = []  # an id is unique only while its object is alive
        for name, value in inputs.items():
            self._register(value, name)

    def add(self, calls: list[OpCall], direction: str) -> None:
        """Add a step for every line of one pass that computes an array."""
        self._calls_of_pass = calls
        self.all_calls += calls
        events = [(event, call) for call in calls for event in call.events]
        for event, call in sorted(events, key=lambda pair: pair[0].number):
            names = self._local.setdefault(id(call), {})
            if event.line is None:
                names[event.name] = self._argument_source(call, event)
            elif event.name == RETURN:
                self._add_results(call, event, direction)
            elif _called_function(event) in call.inner:
                if (source_of_result := self._result_source(call, event)) is not None:
                    names[event.name] = source_of_result
            else:
                for name, value, element in _computed_arrays(event):
                    names[name] = self._step(call, event, direction, name, value, element)

    def source_in(self, call: OpCall, name: str) -> Source | None:
        """Return the source of a local name of a call, or None."""
        return self._local[id(call)].get(name)

    def formula(self, number: int, name: str, names: dict[str, str]) -> Term:
        """Return the formula of a step with other names for its result and the arrays it reads."""
        event, call = self.events[number], self.calls[number]
        assert event.line is not None
        explainer = Explainer(call.op, call.source, None)
        known = {old: name_of(new) for old, new in names.items()}
        return explainer.formula(name, event.line, event.scope, known=known)

    def source(self, value: Any) -> Source | None:
        """Return the step or input that an array comes from, or None."""
        known = self._by_identity.get(id(value))
        if known is None and leaves.is_array(value):
            known = self._by_bits.get(_bits(value))
        return known

    def _argument_source(self, call: OpCall, event: Event) -> Source:
        """Return the source of an argument of a call; an array without one becomes an input."""
        known = self.source(event.value)
        if known is not None or not leaves.is_array(event.value):
            return event.name if known is None else known
        name = f"{call.layer}.{event.name}".removeprefix(".")
        while name in self.inputs:
            name += "'"
        self.inputs[name] = np.asarray(event.value)
        self._register(event.value, name)
        return name

    def _add_results(self, call: OpCall, event: Event, direction: str) -> None:
        """Record the source of each result of a call.

        A result that no line of the call computed gets a step for its return: ``return dout``.
        """
        several = isinstance(event.value, tuple | list)
        results = tuple(event.value) if several else (event.value,)
        if call.direction == FORWARD:
            results = results[:1]
        sources = [self._last_step(call, value) for value in results]
        for k, (name, value) in enumerate(
            zip(_result_names(call, len(results)), results, strict=True)
        ):
            if sources[k] is None and leaves.is_float(value):
                element = k if several else None
                sources[k] = self._step(call, event, direction, name, value, element, k)
        for value, result_source in zip(reversed(results), reversed(sources), strict=True):
            if result_source is not None:  # an array returned twice has its first source
                self._by_identity[id(value)] = result_source
        self.results[id(call)] = sources

    def _last_step(self, call: OpCall, value: Any) -> Source | None:
        """Return the last step of a call, or of a call inside it, whose value is this object."""
        for step in reversed(self.steps):
            same = self.values[step.number] is value
            if same and _inside(self.calls[step.number], call):
                return step.number
        return None

    def _result_source(self, call: OpCall, event: Event) -> Source | None:
        """Return the source of the value of a line that only calls another op."""
        assert event.line is not None
        inner = [other for other in self._calls_of_pass if other.parent is call and other.events]
        before = [other for other in inner if other.events[-1].number < event.number]
        index = leaves.target_index(event.line.text, event.name)
        sources = self.results.get(id(before[-1]), []) if before else []
        return sources[index] if index < len(sources) else self.source(event.value)

    def _step(
        self,
        call: OpCall,
        event: Event,
        direction: str,
        name: str,
        value: Any,
        element: int | None,
        index: int = 0,
    ) -> int:
        """Append the step of one event and return its number."""
        assert event.line is not None
        number = len(self.steps)
        array = np.asarray(value)
        twin = call.source.function.__globals__.get(f"{call.op}_{BACKWARD}")
        explainer = Explainer(call.op, call.source, twin if call.direction == FORWARD else None)
        formula = explainer.formula(name, event.line, event.scope, index)
        function, file = call.source.function, call.source.file
        undone = source.undone_by(function, file, event.line) if call.direction == BACKWARD else ()
        self.steps.append(
            Step(
                number,
                direction,
                call.layer,
                call.op,
                name,
                array,
                source.line_at(file, event.line.number),
                source.shown_path(file),
                event.line.number,
                formula,
                tuple(dict.fromkeys(explainer.inner)),
                ", ".join(forward_line.text for forward_line in undone),
                explainer.reason or (undone[0].reason if undone else ""),
                tuple(self._reads(call, event, array, partial(leaves.element_of, index=element))),
                leaves.scalars_of(event.line, event.scope),
            )
        )
        self.events.append(event)
        self.calls.append(call)
        self.values.append(value)
        self.elements.append(element)
        self._register(value, number)
        return number

    def _reads(
        self, call: OpCall, event: Event, value: Array, pick: Callable[[Any], Any]
    ) -> Iterator[Read]:
        """Yield the arrays that a line reads: gradients, then x and its results, then the rest."""
        line, scope, code = event.line, event.scope, call.source
        assert line is not None
        names = self._local[id(call)]
        arrays: list[leaves.Leaf] = []
        sources: dict[leaves.Leaf, Source | None] = {}
        for leaf in leaves.leaves_of(line, scope):
            known = names.get(leaf.text)
            origin = known if known is not None else self.source(leaves.array_at(scope, leaf))
            if not (leaves.is_float(leaf.value) and leaves.is_float(value)):
                yield Read(leaf.name, origin, leaf.value, None)
            elif depends_on_values(code, line, scope, leaf, value, pick):
                arrays.append(leaf)
                sources[leaf] = origin
        order = sorted(arrays, key=lambda leaf: self._rank(sources[leaf]))
        terms = homogeneous_leaves(code, line, scope, order, value, pick)
        for leaf in order:
            slope, exact = derivative(code, line, scope, leaf, pick)
            origin, up = sources[leaf], self._is_gradient(sources[leaf])
            yield Read(leaf.name, origin, leaf.value, slope, up, leaf in terms, exact)

    def _rank(self, origin: Source | None) -> int:
        """Return 0 for a gradient, 1 for x or the value of a step, 2 for any other input."""
        if self._is_gradient(origin):
            return 0
        return 1 if isinstance(origin, int) or origin == next(iter(self.inputs)) else 2

    def _is_gradient(self, origin: Source | None) -> bool:
        if isinstance(origin, int):
            step, call = self.steps[origin], self.calls[origin]
            adds = step.direction == BACKWARD and call.direction == FORWARD
            return adds or (call.direction == BACKWARD and any(r.upstream for r in step.reads))
        return origin == "dout"

    def _register(self, value: Any, origin: Source) -> None:
        self._keepalive.append(value)
        self._by_identity.setdefault(id(value), origin)
        if leaves.is_float(value) and len(np.unique(value)) > 1:
            self._by_bits.setdefault(_bits(value), origin)


def _computed_arrays(event: Event) -> Iterator[tuple[str, Any, int | None]]:
    """Yield name, value and position in the event's value of each array that a line computes."""
    value = event.value
    if leaves.is_array(value):
        yield event.name, value, None
    elif isinstance(value, list | tuple) and not hasattr(value, "_fields") and _computes(event):
        for k, element in enumerate(value):
            if leaves.is_float(element):
                yield f"{event.name}[{k}]", element, k


def _computes(event: Event) -> bool:
    """Return True if a line computes its arrays; ``arrays = x, y`` only names existing ones."""
    assert event.line is not None
    right = getattr(ast.parse(event.line.text).body[0], "value", None)
    return not isinstance(right, ast.Tuple | ast.List)


def _result_names(call: OpCall, count: int) -> list[str]:
    """Return names for the results of a call: out, or d and the name of forward's argument."""
    if call.direction == FORWARD:
        return ["out"]
    forward = call.source.function.__globals__.get(f"{call.op}_{FORWARD}")
    known = argument_names(forward, count) if inspect.isfunction(forward) else []
    return (
        [f"d{name}" for name in known] if len(known) == count else [f"d{k}" for k in range(count)]
    )


def _inside(call: OpCall | None, outer: OpCall) -> bool:
    """Return True if a call is `outer` or was made inside it."""
    while call is not None and call is not outer:
        call = call.parent
    return call is not None


def _called_function(event: Event) -> str:
    """Return the text before the first parenthesis of the right side: the name of a called op."""
    assert event.line is not None
    return event.line.text.partition(" = ")[2].partition("(")[0]


def _bits(value: Any) -> tuple[Any, ...]:
    array = np.asarray(value)
    return array.shape, array.dtype.str, array.tobytes()

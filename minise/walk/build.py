"""From what a recorder saw to steps: who gave each array, and what each line made of what it read.

Arrays are followed by identity: the array that one line gives is the one that a later line finds,
in its own names, in a cache, or as an argument of another op. An op that makes an array again (to
keep less) makes the same bits, by which it is known too.
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
    """Makes steps of the calls of one forward and one backward.

    Attributes
    ----------
    steps : list of Step
        So far; in `events`, `calls` and `values` each has the event that it was made of, the call
        that this belongs to, and the very object that passed.
    inputs : dict of str to ndarray
        What the lines read that no line gave.
    """

    def __init__(self, inputs: dict[str, Array]) -> None:
        self.inputs = dict(inputs)
        self.steps: list[Step] = []
        self.events: list[Event] = []
        self.calls: list[OpCall] = []
        self.values: list[Any] = []  # the very objects
        self.results: dict[int, list[Source | None]] = {}  # by call: who gave its results
        self._all: list[OpCall] = []
        self._by_identity: dict[int, Source] = {}
        self._by_bits: dict[tuple[Any, ...], Source] = {}
        self._local: dict[int, dict[str, Source]] = {}  # by call: sources of local names
        self._kept: list[Any] = []  # so that no identity is given twice
        for name, value in inputs.items():
            self._know(value, name)

    def add(self, calls: list[OpCall], direction: str) -> None:
        """Add a step for every line of one pass that gives an array."""
        self._all = calls
        events = [(event, call) for call in calls for event in call.events]
        for event, call in sorted(events, key=lambda pair: pair[0].number):
            names = self._local.setdefault(id(call), {})
            if event.line is None:
                names[event.name] = self._argument(call, event)
            elif event.name == RETURN:
                self._returned(call, event, direction)
            elif _called(event) in call.inner:
                if (found := self._renamed(call, event)) is not None:
                    names[event.name] = found
            else:
                for name, value, pick in _arrays_given(event):
                    names[name] = self._step(call, event, direction, name, value, pick)

    def source_in(self, call: OpCall, name: str) -> Source | None:
        """Return who gave what a call knows by a name."""
        return self._local[id(call)].get(name)

    def formula(self, number: int, name: str, names: dict[str, str]) -> Term:
        """Return a step's formula in other names of what it gives and reads."""
        event, call = self.events[number], self.calls[number]
        assert event.line is not None
        explainer = Explainer(call.op, call.source, None)
        known = {old: name_of(new) for old, new in names.items()}
        return explainer.formula(name, event.line, event.scope, known=known)

    def source(self, value: Any) -> Source | None:
        """Return the step or the input that gave an array, or None."""
        found = self._by_identity.get(id(value))
        if found is None and leaves.is_array(value):
            found = self._by_bits.get(_bits(value))
        return found

    def _argument(self, call: OpCall, event: Event) -> Source:
        found = self.source(event.value)
        if found is not None or not leaves.is_array(event.value):
            return event.name if found is None else found
        name = f"{call.layer}.{event.name}".removeprefix(".")
        while name in self.inputs:
            name += "'"
        self.inputs[name] = np.asarray(event.value)
        self._know(event.value, name)
        return name

    def _returned(self, call: OpCall, event: Event, direction: str) -> None:
        """Note who gave each result; one without a line of its own gets a step: ``return dout``."""
        several = isinstance(event.value, tuple | list)
        results = tuple(event.value) if several else (event.value,)
        if call.direction == FORWARD:
            results = results[:1]
        given = [self._made_in(call, value) for value in results]
        for place, (name, value) in enumerate(
            zip(_names(call, len(results)), results, strict=True)
        ):
            if given[place] is None and leaves.is_float(value):
                pick = partial(_element, place=place)
                given[place] = self._step(call, event, direction, name, value, pick, place)
        for value, one in zip(reversed(results), reversed(given), strict=True):
            if one is not None:
                self._by_identity[id(value)] = one  # its last name; of one array twice the first
        self.results[id(call)] = given

    def _made_in(self, call: OpCall, value: Any) -> Source | None:
        """Return the last step in a call, or in one that it made, that gave this very array."""
        for step in reversed(self.steps):
            same = self.values[step.number] is value
            if same and _inside(self.calls[step.number], call):
                return step.number
        return None

    def _renamed(self, call: OpCall, event: Event) -> Source | None:
        """Return who gave what a line names, where the line only calls another op."""
        assert event.line is not None
        inner = [one for one in self._all if one.parent is call and one.events]
        before = [one for one in inner if one.events[-1].number < event.number]
        place = leaves.target_index(event.line.text, event.name)
        given = self.results.get(id(before[-1]), []) if before else []
        return given[place] if place < len(given) else self.source(event.value)

    def _step(
        self,
        call: OpCall,
        event: Event,
        direction: str,
        name: str,
        value: Any,
        pick: Callable[[Any], Any],
        place: int = 0,
    ) -> int:
        assert event.line is not None
        number = len(self.steps)
        array = np.asarray(value)
        twin = call.source.function.__globals__.get(f"{call.op}_{BACKWARD}")
        explainer = Explainer(call.op, call.source, twin if call.direction == FORWARD else None)
        formula = explainer.formula(name, event.line, event.scope, place)
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
                ", ".join(one.text for one in undone),
                (undone[0].reason if undone else "") or explainer.helper_says,
                tuple(self._reads(call, event, array, pick)),
                leaves.scalars_of(event.line, event.scope),
            )
        )
        self.events.append(event)
        self.calls.append(call)
        self.values.append(value)
        self._know(value, number)
        return number

    def _reads(
        self, call: OpCall, event: Event, value: Array, pick: Callable[[Any], Any]
    ) -> Iterator[Read]:
        line, scope, code = event.line, event.scope, call.source
        assert line is not None
        names = self._local[id(call)]
        arrays: list[leaves.Leaf] = []
        sources: dict[leaves.Leaf, Source | None] = {}
        for leaf in leaves.leaves_of(line, scope):
            known = names.get(leaf.text)
            given = known if known is not None else self.source(leaves.array_at(scope, leaf))
            if not (leaves.is_float(leaf.value) and leaves.is_float(value)):
                yield Read(leaf.name, given, leaf.value, None)
            elif depends_on_values(code, line, scope, leaf, value, pick):
                arrays.append(leaf)
                sources[leaf] = given
        order = sorted(arrays, key=lambda leaf: self._rank(sources[leaf]))
        terms = homogeneous_leaves(code, line, scope, order, value, pick)
        for leaf in order:
            slope, exact = derivative(code, line, scope, leaf, pick)
            given, up = sources[leaf], self._is_gradient(sources[leaf])
            yield Read(leaf.name, given, leaf.value, slope, up, leaf in terms, exact)

    def _rank(self, given: Source | None) -> int:
        """Return 0 of gradients, 1 of x and what comes of it, 2 of other inputs."""
        if self._is_gradient(given):
            return 0
        return 1 if isinstance(given, int) or given == next(iter(self.inputs)) else 2

    def _is_gradient(self, given: Source | None) -> bool:
        if isinstance(given, int):
            step, call = self.steps[given], self.calls[given]
            adds = step.direction == BACKWARD and call.direction == FORWARD
            return adds or (call.direction == BACKWARD and any(r.upstream for r in step.reads))
        return given == "dout"

    def _know(self, value: Any, given: Source) -> None:
        self._kept.append(value)
        self._by_identity.setdefault(id(value), given)
        if leaves.is_float(value) and len(np.unique(value)) > 1:
            self._by_bits.setdefault(_bits(value), given)


def _arrays_given(event: Event) -> Iterator[tuple[str, Any, Callable[[Any], Any]]]:
    """Yield name, array and how it is picked, of a line that gives an array or a list of them."""
    value = event.value
    if leaves.is_array(value):
        yield event.name, value, _itself
    elif isinstance(value, list | tuple) and not hasattr(value, "_fields") and _makes(event):
        for place, one in enumerate(value):
            if leaves.is_float(one):
                yield f"{event.name}[{place}]", one, partial(_element, place=place)


def _makes(event: Event) -> bool:
    """Tell whether the line makes its arrays; ``arrays = x, y`` only names some."""
    assert event.line is not None
    right = getattr(ast.parse(event.line.text).body[0], "value", None)
    return not isinstance(right, ast.Tuple | ast.List)


def _itself(value: Any) -> Any:
    return value


def _element(value: Any, place: int) -> Any:
    return value[place] if isinstance(value, tuple | list) else value


def _names(call: OpCall, count: int) -> list[str]:
    """Return names for what a call returns: out, or d and the name of forward's argument."""
    if call.direction == FORWARD:
        return ["out"]
    forward = call.source.function.__globals__.get(f"{call.op}_{FORWARD}")
    known = argument_names(forward, count) if inspect.isfunction(forward) else []
    return (
        [f"d{name}" for name in known] if len(known) == count else [f"d{k}" for k in range(count)]
    )


def _inside(call: OpCall | None, outer: OpCall) -> bool:
    """Tell whether a call is another one or happened within it."""
    while call is not None and call is not outer:
        call = call.parent
    return call is not None


def _called(event: Event) -> str:
    """Return the function that a line only calls, or words that are no name."""
    assert event.line is not None
    return event.line.text.partition(" = ")[2].partition("(")[0]


def _bits(value: Any) -> tuple[Any, ...]:
    array = np.asarray(value)
    return array.shape, array.dtype.str, array.tobytes()

"""Join the steps of both passes: match each gradient with its forward value, and check it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.gradcheck.slopes.arrays import mapped
from minise.tracing import leaves
from minise.tracing.faults import filled_in_place
from minise.tracing.perturb import perturb_event, perturb_input, perturb_read
from minise.tracing.recorder import Event, OpCall
from minise.tracing.slopes import Slopes, Target
from minise.tracing.subject import Subject
from minise.walk.build import Builder
from minise.walk.faults import judged
from minise.walk.live import Origin, record
from minise.walk.page import NotebookTrace
from minise.walk.steps import BACKWARD, FORWARD, Read, Step, Trace
from minise.walk.story import SHARED, Story, notes_by_op


class Match(NamedTuple):
    """The forward value whose gradient a step of backward computes."""

    target: Target
    twin: int | str | None  # the forward step, or the input, of that value
    route: tuple[int | str, int] | None = None  # the forward edge, for one term of a gradient
    origin: Origin | None = None  # the perturbed value, unless one line only reads it perturbed


class Assembler:
    """Build the trace of a subject from the steps of its two passes.

    Parameters
    ----------
    subject : Subject
        The op or net that was run.
    builder : Builder
        The steps of its lines.
    forwards, backwards : list of OpCall
        The recorded calls of the forward and the backward pass.
    gradients : tuple
        The results of backward, one per input.
    slopes : Slopes
        The check of gradients.
    story : Story
        Title and paragraphs.
    """

    def __init__(
        self,
        subject: Subject,
        builder: Builder,
        forwards: list[OpCall],
        backwards: list[OpCall],
        gradients: tuple[Any, ...],
        slopes: Slopes,
        story: Story,
    ) -> None:
        self.subject, self.builder, self.slopes, self.story = subject, builder, slopes, story
        self.forwards, self.gradients = forwards, gradients
        self.twins = _twins(forwards, backwards)
        self.filled = filled_in_place(subject)
        self.of_input: dict[str, int | str] = {}
        self.origins: dict[int, Origin] = {}  # by step with a check
        own = self._own_results()
        for name, gradient in zip(subject.names, gradients, strict=True):
            source = own.get(name, builder.source(gradient))
            if gradient is not None and source is not None:
                self.of_input[name] = source

    def _own_results(self) -> dict[str, Any]:
        """Return the source of each gradient of a single op by input name, or {} for a net.

        By position, not by identity: an op may return one array as two gradients.
        """
        outer = [call for call in self.twins if call.parent is None]
        if len(outer) != 1 or len(self.subject.names) != len(self.builder.results[id(outer[0])]):
            return {}
        pairs = zip(self.subject.names, self.builder.results[id(outer[0])], strict=True)
        return {name: source for name, source in pairs if source is not None}

    def trace(self, out: Array, dout: Array, settings: dict[str, Any]) -> Trace:
        """Return the trace: the steps that a result depends on, checked and renumbered."""
        steps = [self._checked(step) for step in self.builder.steps]
        result = self.builder.source(out)
        if result is None:
            raise ValueError(
                f"walk: {self.subject.name}_forward returns an array without a name, expected one "
                "that a line assigns: write out = … and return out"
            )
        used = self._used({result, *self.of_input.values()})
        number = {old: new for new, old in enumerate(used)}
        renumbered = [_renumbered(steps[old], number) for old in used]
        events = [(self.builder.events[old].number, self.builder.elements[old]) for old in used]
        return NotebookTrace(
            self.subject.name,
            self.builder.inputs,
            {k: v for k, v in settings.items() if not isinstance(v, np.ndarray)},
            number.get(result, result),  # type: ignore[arg-type]
            float(np.vdot(dout, out)),
            judged(self.subject, dout, renumbered, events),
            {name: number.get(step, step) for name, step in self.of_input.items()},  # type: ignore[arg-type]
            self.story.title,
            self.story.paragraphs,
            notes_by_op(self.twins),
            record(self.subject, self.builder, used, self.origins),
        )

    def _used(self, results: set[Any]) -> list[int]:
        """Return the numbers of the steps that a result or a cache depends on, in order."""
        used: set[int] = set()
        caches = [call.cache for call in self.forwards]
        cached = {self.builder.source(array) for cache in caches for array in _arrays(cache)}
        todo = [source for source in results | cached if isinstance(source, int)]
        while todo:
            number = todo.pop()
            if number not in used:
                used.add(number)
                reads = self.builder.steps[number].reads
                todo += [read.source for read in reads if isinstance(read.source, int)]
        return sorted(used)

    def _checked(self, step: Step) -> Step:
        """Return a step of backward with its check against numerical derivatives of forward."""
        names = [name for name, source in self.of_input.items() if source == step.number]
        if step.direction == FORWARD:
            return step
        if self.builder.calls[step.number].direction == FORWARD:
            return self._checked_sum(step, names[0] if names else "")
        step = replace(step, gradient_of=names[0] if names else "", terms=_terms(step))
        match = self._match(step)
        if match is None:
            return step if step.upstream else replace(step, rule="")
        return self._with_check(step, match)

    def _with_check(self, step: Step, match: Match) -> Step:
        """Return a step with the check of its value against slopes of the matched value."""
        if match.origin is not None:
            self.origins[step.number] = match.origin
        check = self.slopes.check(step.value, match.target)
        return replace(step, check=check, twin=match.twin, route=match.route)

    def _checked_sum(self, step: Step, of: str) -> Step:
        """Return the checked step of a net that adds gradients with an op's forward.

        Its arrays are renamed from the names in that op (a, b) to names of gradients.
        """
        name = f"d{of or 'x'}"
        new: dict[str, str] = {}
        for read in step.upstream:
            new[read.name] = self._gradient_name(read)
            if list(new.values()).count(new[read.name]) > 1:  # the net uses this layer twice
                new[read.name] += "'"
        reads = tuple(replace(read, name=new.get(read.name, read.name)) for read in step.reads)
        terms = tuple(new[name] for name in _terms(step))
        formula = self.builder.formula(step.number, name, new)
        step = replace(step, name=name, formula=formula, reads=reads, gradient_of=of)
        is_parameter = of in self.subject.names[1:]  # a parameter that several layers share
        reason = SHARED if is_parameter else self.story.joins
        step = replace(step, terms=terms, rule="", reason=reason)
        match = self._match(step)
        return step if match is None else self._with_check(step, match)

    def _gradient_name(self, read: Read) -> str:
        """Return the name of a gradient with the layer that computed it, such as dx_conv1."""
        if not isinstance(read.source, int):
            return read.name
        step = self.builder.steps[read.source]
        return f"{step.name}_{step.layer or step.op}"

    def _match(self, step: Step) -> Match | None:
        """Return the forward value whose gradient this step computes, or None if there is none."""
        if step.gradient_of:
            k = self.subject.names.index(step.gradient_of)
            target = Target(
                of := step.gradient_of, self.subject.inputs[k], perturb_input(self.subject, k)
            )
            return Match(target, of, origin=Origin(source=of))
        call = self.builder.calls[step.number]
        twin = self.twins.get(call)
        if twin is None or not step.name.startswith("d") or step.value.dtype.kind != "f":
            return None
        name, events = step.name[1:], _by_name(twin)
        if _is_assigned_again(self.builder.events[step.number], call):
            return None  # a part of the gradient
        if name in events and leaves.is_float(events[name].value):
            event = events[name]
            if event.number in self.filled:
                return None
            source = self.builder.source_in(twin, event.name)
            run = perturb_event(self.subject, event)
            target = Target(name, np.asarray(event.value), run)
            return Match(target, source, origin=Origin(event.number))
        bases = [base for base in events if name.startswith(f"{base}_")]
        return self._route(step, twin, events, max(bases, key=len)) if bases else None

    def _route(self, step: Step, twin: OpCall, events: dict[str, Event], base: str) -> Match | None:
        """Return the forward value as read by one line: the line that the step differentiates."""
        for undone in step.rule.split(", "):
            event = events.get(undone.partition(" = ")[0])
            if event is None or event.line is None:
                continue
            read = leaves.leaves_of(event.line, event.scope)
            leaf = next((leaf for leaf in read if leaf.name == base), None)
            line = self.builder.source_in(twin, event.name)
            edge = self.builder.source_in(twin, base)
            if leaf is not None and edge is not None and isinstance(line, int):
                run = perturb_read(self.subject, event, leaf)
                target = Target(f"{base} as read by {event.line.text}", leaf.value, run)
                return Match(target, edge, (edge, line))
        return None


def _twins(forwards: Sequence[OpCall], backwards: Sequence[OpCall]) -> dict[OpCall, OpCall]:
    """Return the forward call of each backward call: same cache, else the last of the same op."""
    twins: dict[OpCall, OpCall] = {}
    free = [call for call in forwards if call.direction == FORWARD]
    for call in backwards:
        if call.direction != BACKWARD:
            continue
        outer = twins.get(call.parent) if call.parent else None
        same = [forward for forward in free if forward.op == call.op and forward.parent is outer]
        own = [forward for forward in same if forward.cache is call.cache]
        if twin := (own or same or [None])[-1]:  # type: ignore[list-item]
            twins[call] = twin
            free.remove(twin)
    return twins


def _by_name(call: OpCall) -> dict[str, Event]:
    """Return the arguments and local values of a call by name; an argument has precedence."""
    events: dict[str, Event] = {}
    for event in call.events:
        if event.line is None or event.name not in events or events[event.name].line is not None:
            events[event.name] = event
    return events


def _is_assigned_again(event: Event, call: OpCall) -> bool:
    """Return True if a later line of a call assigns the name of an event again."""
    return any(later.name == event.name and later.number > event.number for later in call.events)


def _is_term(read: Read) -> bool:
    """Return True if a read is a gradient and a term of the sum that the step computes."""
    return read.upstream and read.summed


def _terms(step: Step) -> tuple[str, ...]:
    """Return the names of the gradients that a step adds, if it adds several and nothing else."""
    terms = tuple(read.name for read in step.reads if _is_term(read))
    return terms if len(terms) > 1 and all(read.summed for read in step.upstream) else ()


def _arrays(value: Any) -> list[Any]:
    """Return all arrays in nested containers."""
    arrays: list[Any] = []
    mapped(value, arrays.append)
    return arrays


def _renumbered(step: Step, number: dict[int, int]) -> Step:
    def new(source: int | str | None) -> Any:
        return number.get(source) if isinstance(source, int) else source

    reads = tuple(replace(read, source=new(read.source)) for read in step.reads)
    route = None if step.route is None else (new(step.route[0]), new(step.route[1]))
    at = number[step.number]
    return replace(step, number=at, reads=reads, twin=new(step.twin), route=route)

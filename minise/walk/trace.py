"""Take an op or a net apart, line by line, forward and backward, and check every gradient."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from minise.gradcheck.cases import direction
from minise.ops import reference
from minise.ops.checks import Array
from minise.walk import local, source
from minise.walk.build import Builder
from minise.walk.recorder import Event, OpCall
from minise.walk.slopes import Place, Slopes
from minise.walk.steps import BACKWARD, FORWARD, Read, Step, Trace
from minise.walk.subject import Subject, net_subject, op_subject, rounded

LIMIT = 3000  # numbers that lines give in forward: more is neither seen nor checked in a minute
DOUT = 1  # of the stream that dout is drawn from, which is not that of the arrays
MOST_PARTS = 4  # terms of a gradient that can be switched off one by one


def trace(
    net_or_op: Any,
    x: Any,
    target: Array | None = None,
    *,
    ops: Any = reference,
    file: str | Path | None = None,
    training: bool | None = None,
    seed: int = 0,
    **settings: Any,
) -> Trace:
    """Walk through a forward and a backward pass, every line of every op.

    Parameters
    ----------
    net_or_op : Layer or str
        A net or a layer of minise.nn, or the name of an op, such as "squeeze_excite".
    x : ndarray, or sequence of ndarray or None
        Images (N, C, H, W) for a net; for an op all its positional arrays, such as
        ``[x, w1, b1, w2, b2]``. Taken in float64.
    target : ndarray, optional
        Labels, integers of shape (N,): behind the net then stands softmax cross-entropy. Or dout,
        the gradient of the loss with respect to out, of out's shape. None draws dout.
    ops : module
        In plain Python: the reference, or a module of the caller's.
    file : path, optional
        The file of that module, which is then compiled line by line.
    training : bool, optional
        Whether a net is walked in training, which is the default, or in evaluation; of an op a
        setting like others.
    seed : int
        Of the random dout.
    **settings
        Of an op, such as stride, or running_mean.

    Returns
    -------
    Trace
        Its steps hold every number, formula, code line, derivative and check.

    Raises
    ------
    ValueError, TypeError
        If the case is too large, an op is missing, or an op refuses its arrays.

    Examples
    --------
    >>> found = trace("relu", np.array([-1.0, 2.0]), np.array([3.0, 4.0]))
    >>> [(step.name, step.value.tolist()) for step in found.steps]
    [('out', [0.0, 2.0]), ('dx', [0.0, 4.0])]
    """
    place = None if file is None else Path(file).resolve()
    if isinstance(net_or_op, str):
        settings |= {} if training is None else {"training": training}
        subject, labels = _op(ops, place, net_or_op, x, settings), None
    else:
        x = np.asarray(x, np.float64)
        labels = target if target is not None and np.asarray(target).dtype.kind in "iu" else None
        subject = net_subject(ops, place, net_or_op, x, labels, training is not False)
    out, cache = subject.forward(subject.inputs)
    _refuse_large(subject)
    forwards = subject.recorder.calls
    dout = _dout(out, None if labels is not None else target, labels is not None, seed)
    subject.recorder.calls = []
    gradients = subject.backward(dout, cache)
    backwards = subject.recorder.calls
    inputs = dict(zip(subject.names, subject.inputs, strict=True))
    inputs = {name: value for name, value in inputs.items() if value is not None}
    builder = Builder({**inputs, "dout": dout})
    builder.add(forwards, FORWARD)
    builder.add(backwards, BACKWARD)
    whole = _Whole(subject, builder, forwards, backwards, gradients, Slopes(subject, dout))
    return whole.trace(out, dout, settings)


Found = tuple[Place, int | str | None, tuple[int | str, int] | None]  # place, twin, route


class _Whole:
    """Both passes of a subject, from which a trace is made."""

    def __init__(
        self,
        subject: Subject,
        builder: Builder,
        forwards: list[OpCall],
        backwards: list[OpCall],
        gradients: tuple[Any, ...],
        slopes: Slopes,
    ) -> None:
        self.subject, self.builder, self.slopes = subject, builder, slopes
        self.forwards, self.gradients = forwards, gradients
        self.twins = _twins(forwards, backwards)
        self.of_input: dict[str, int | str] = {}
        own = self._own_results()
        for name, gradient in zip(subject.names, gradients, strict=True):
            found = own.get(name, builder.source(gradient))
            if gradient is not None and found is not None:
                self.of_input[name] = found

    def _own_results(self) -> dict[str, Any]:
        """Return the gradients of a bare op's inputs by name, also where some are one array."""
        outer = [call for call in self.twins if call.parent is None]
        if len(outer) != 1 or len(self.subject.names) != len(self.builder.results[id(outer[0])]):
            return {}
        given = zip(self.subject.names, self.builder.results[id(outer[0])], strict=True)
        return {name: one for name, one in given if one is not None}

    def trace(self, out: Array, dout: Array, settings: dict[str, Any]) -> Trace:
        """Return the trace: steps that matter, checked and renumbered."""
        steps = [self._checked(step) for step in self.builder.steps]
        result = self.builder.source(out)
        assert result is not None
        kept = self._kept({result, *self.of_input.values()})
        number = {old: new for new, old in enumerate(kept)}
        renumbered = [_renumbered(steps[old], number) for old in kept]
        code = next(call for call in self.forwards if call.parent is None).source
        back = [call for call in self.twins if call.parent is None][-1].source
        one_op = len([call for call in self.forwards if call.parent is None]) == 1
        return Trace(
            self.subject.name,
            self.builder.inputs,
            {k: v for k, v in settings.items() if not isinstance(v, np.ndarray)},
            number.get(result, result),  # type: ignore[arg-type]
            float(np.vdot(dout, out)),
            renumbered,
            {name: number.get(one, one) for name, one in self.of_input.items()},  # type: ignore[arg-type]
            source.title_of(code.file) if one_op else self.subject.about,
            source.story_of(code.file) if one_op else [],
            source.notes_of(back.function) if one_op else [],
        )

    def _kept(self, results: set[Any]) -> list[int]:
        """Return the steps that a result depends on, or that a cache keeps, in order."""
        kept: set[int] = set()
        caches = [call.cache for call in self.forwards]
        held = {self.builder.source(one) for cache in caches for one in _arrays(cache)}
        todo = [one for one in results | held if isinstance(one, int)]
        while todo:
            number = todo.pop()
            if number not in kept:
                kept.add(number)
                reads = self.builder.steps[number].reads
                todo += [read.source for read in reads if isinstance(read.source, int)]
        return sorted(kept)

    def _checked(self, step: Step) -> Step:
        """Return a step of backward with what forward's slopes say to it."""
        names = [name for name, given in self.of_input.items() if given == step.number]
        if step.direction == FORWARD:
            return step
        step = replace(step, gradient_of=names[0] if names else "", parts=self._parts(step))
        found = self._place(step)
        if found is None:
            return step
        place, twin, route = found
        return replace(step, check=self.slopes.check(step.value, place), twin=twin, route=route)

    def _place(self, step: Step) -> Found | None:
        """Return what has to be moved in forward for this gradient."""
        if step.gradient_of:
            given = self.subject.names.index(step.gradient_of)
            value = self.subject.inputs[given]
            return Place(step.gradient_of, value, given=given), step.gradient_of, None
        call = self.builder.calls[step.number]
        twin = self.twins.get(call)
        if twin is None or not step.name.startswith("d") or step.value.dtype.kind != "f":
            return None
        name, events = step.name[1:], _by_name(twin)
        if name in events and local.is_float(events[name].value):
            event = events[name]
            source = self.builder.source_in(twin, event.name)
            return Place(name, np.asarray(event.value), event=event.number), source, None
        bases = [base for base in events if name.startswith(f"{base}_")]
        return self._route(step, twin, events, max(bases, key=len)) if bases else None

    def _route(self, step: Step, twin: OpCall, events: dict[str, Event], base: str) -> Found | None:
        """Return a value as that line of forward alone reads it which the step's rule names."""
        for undone in step.rule.split(", "):
            event = events.get(undone.partition(" = ")[0])
            if event is None or event.line is None:
                continue
            found = local.leaves_of(event.line, event.scope)
            leaf = next((leaf for leaf in found if leaf.name == base), None)
            line = self.builder.source_in(twin, event.name)
            edge = self.builder.source_in(twin, base)
            if leaf is not None and edge is not None and isinstance(line, int):
                said = f"{base} as read by {event.line.text}"
                place = Place(said, leaf.value, event=event.number, leaf=leaf)
                return place, edge, (edge, line)
        return None

    def _parts(self, step: Step) -> dict[tuple[str, ...], Array]:
        """Return a sum of gradients with only some of its terms, for every choice of them."""
        terms = [read for read in step.reads if _is_term(read)]
        event, call = self.builder.events[step.number], self.builder.calls[step.number]
        if not 2 <= len(terms) <= MOST_PARTS or not all(r.summed for r in step.upstream):
            return {}
        assert event.line is not None
        leaves = {leaf.name: leaf for leaf in local.leaves_of(event.line, event.scope)}
        found = {}
        for chosen in product((True, False), repeat=len(terms)):
            scope = dict(event.scope)
            for read, is_on in zip(terms, chosen, strict=True):
                if not is_on:
                    scope = local.changed(scope, leaves[read.name], np.zeros_like(read.value))
            names = tuple(r.name for r, is_on in zip(terms, chosen, strict=True) if is_on)
            found[names] = np.asarray(call.source.again(event.line, scope))
        return found


def _op(ops: Any, file: Path | None, op: str, x: Any, settings: dict[str, Any]) -> Subject:
    missing = [half for half in (f"{op}_forward", f"{op}_backward") if not hasattr(ops, half)]
    if missing:
        where = file.name if file else getattr(ops, "__name__", "ops")
        names = sorted(n.removesuffix("_forward") for n in dir(ops) if n.endswith("_forward"))
        raise ValueError(
            f"walk: {where} has no {' and no '.join(missing)}, expected both halves of the op; "
            f"it has {', '.join(names) or 'no op'}"
        )
    arrays = [x] if hasattr(x, "dtype") else list(x)
    wide = [_as_float64(array) for array in arrays]
    same = {key: _as_float64(value) for key, value in settings.items()}
    return op_subject(ops, file, op, wide, same)


def _as_float64(value: Any) -> Any:
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(np.float64) if floats else value


def _dout(out: Any, target: Any, is_loss: bool, seed: int) -> Array:
    if is_loss or (target is None and not np.ndim(out)):
        return np.asarray(1.0)
    if target is None:
        drawn = direction(np.asarray(out), np.random.default_rng([seed, DOUT]))
        return np.asarray(rounded(drawn))
    dout = np.asarray(target, np.float64)
    if dout.shape != np.shape(out):
        raise ValueError(
            f"walk: target has shape {dout.shape}, expected {np.shape(out)} as out, or integer "
            "labels for a net that ends in logits"
        )
    return dout


def _refuse_large(subject: Subject) -> None:
    events = [event for call in subject.recorder.calls for event in call.events]
    count = sum(np.size(event.value) for event in events if local.is_float(event.value))
    if count <= LIMIT:
        return
    first = subject.inputs[0]
    shape = list(np.shape(first))
    while np.prod(shape) * count > LIMIT * first.size and max(shape) > 1:
        shape[shape.index(max(shape))] //= 2
    raise ValueError(
        f"walk: {count:,} numbers pass in forward, expected at most {LIMIT:,}, for each is shown "
        f"and checked: {subject.names[0]} has shape {np.shape(first)}, try {tuple(shape)}"
    )


def _twins(forwards: Sequence[OpCall], backwards: Sequence[OpCall]) -> dict[OpCall, OpCall]:
    """Return the forward that each backward undoes: of its cache, or the last of its op inside."""
    found: dict[OpCall, OpCall] = {}
    free = [call for call in forwards if call.direction == FORWARD]
    for call in backwards:
        if call.direction != BACKWARD:
            continue
        outer = found.get(call.parent) if call.parent else None
        same = [one for one in free if one.op == call.op and one.parent is outer]
        own = [one for one in same if one.cache is call.cache]
        if twin := (own or same or [None])[-1]:  # type: ignore[list-item]
            found[call] = twin
            free.remove(twin)
    return found


def _by_name(call: OpCall) -> dict[str, Event]:
    """Return what a call was given or assigned by name; an argument is never overruled."""
    found: dict[str, Event] = {}
    for event in call.events:
        if event.line is None or event.name not in found or found[event.name].line is not None:
            found[event.name] = event
    return found


def _is_term(read: Read) -> bool:
    """Tell whether a gradient is added as it is, or divided and broadcast: one route of a sum."""
    return read.upstream and read.summed


def _arrays(value: Any) -> list[Any]:
    found: list[Any] = []
    local.mapped(value, found.append)
    return found


def _renumbered(step: Step, number: dict[int, int]) -> Step:
    def new(given: int | str | None) -> Any:
        return number.get(given) if isinstance(given, int) else given

    reads = tuple(replace(read, source=new(read.source)) for read in step.reads)
    route = None if step.route is None else (new(step.route[0]), new(step.route[1]))
    at = number[step.number]
    return replace(step, number=at, reads=reads, twin=new(step.twin), route=route)

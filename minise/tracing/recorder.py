"""A recorder of lines: every op that is called, every op that it calls, and each line of theirs.

It stands around a back end as `minise.ops.wrap.record` does and learns the layers' names in the
same way, but calls each op through `minise.tracing.instrument`. What passes through it, an
argument, a value that a line assigns or returns, is one event. Events are numbered in the order in
which they happen, which is the same in every run, so that any value can be replaced in a later one.
"""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.ops import reference
from minise.ops.user.completed import UserOps
from minise.ops.wrap import BACKWARD, FORWARD, Wrapper
from minise.tracing.instrument import RETURN, Instrumented, Line, Scope


class Event(NamedTuple):
    """A value that passed."""

    number: int
    name: str  # of the argument, or that the line assigns
    value: Any
    line: Line | None  # None of an argument
    scope: Scope  # what the line could read


@dataclass(eq=False)
class OpCall:
    """One call of half an op."""

    layer: str
    op: str
    direction: str  # "forward" or "backward"
    source: Instrumented
    parent: "OpCall | None"  # the op that called it
    inner: frozenset[str] = frozenset()  # names by which it may call other ops
    events: list[Event] = field(default_factory=list)
    result: Any = None
    cache: Any = None  # that forward returned, or that backward was given


class Replacement(NamedTuple):
    """What takes the place of an event's value."""

    number: int  # of the event
    value: Callable[[OpCall, Event], Any]


class LineRecorder(Wrapper):
    """Keeps every call of an op with all its lines, in order.

    Parameters
    ----------
    ops : module or object
        A back end in plain Python: the reference, or the caller's own file.
    file : path, optional
        That file.
    """

    def __init__(self, ops: Any, file: Path | None = None) -> None:
        super().__init__(ops)
        self.file = file
        self._sources: dict[Any, Instrumented] = {}
        self._layers: dict[str, UserOps] = {}
        self.start()

    def start(self, replacement: Replacement | None = None) -> None:
        """Forget all calls; in the next run the value of one event may be replaced."""
        self.calls: list[OpCall] = []
        self._open: list[OpCall] = []
        self._replacement = replacement
        self._count = 0

    def wrapped(self, layer: str, name: str) -> Any:
        """Return one function of the back end, its lines recorded under the name of a layer."""
        if isinstance(self.ops, UserOps):
            return getattr(self._user_ops(layer), name)
        if half_of_op(name) and not hasattr(self.ops, name):
            where = self.file.name if self.file else getattr(self.ops, "__name__", "ops")
            by = f"layer {layer}" if layer else "the walk"
            raise ValueError(f"walk: {where} has no {name}, which {by} calls: write or import it")
        function = getattr(self.ops, name)
        return partial(self._call, layer, name, function) if half_of_op(name) else function

    def _user_ops(self, layer: str) -> UserOps:
        """Return a user's ops, fitted to the contract, the lines of each recorded."""
        if layer not in self._layers:

            def recorded(name: str, function: Any) -> Any:
                return partial(self._call, layer, name, getattr(function, "py_func", function))

            self._layers[layer] = self.ops.with_hook(recorded)
        return self._layers[layer]

    def _source(self, function: Any) -> Instrumented:
        if function not in self._sources:
            self._sources[function] = Instrumented(function, file=self.file)
        return self._sources[function]

    def _call(
        self, layer: str, half: str, function: Callable[..., Any], *arrays: Any, **settings: Any
    ) -> Any:
        op, _, direction = half.rpartition("_")
        source = self._source(function)
        call = OpCall(layer, op, direction, source, self._open[-1] if self._open else None)
        self.calls.append(call)
        arrays, settings = self._arguments(call, arrays, settings)
        called = {
            name: partial(self._call, layer, name, value)
            for name, value in function.__globals__.items()
            if name in function.__code__.co_names and self._is_op(name, value)
        }
        call.inner = frozenset(called)
        self._open.append(call)
        try:
            call.result = source.run(partial(self._tap, call), *arrays, instead=called, **settings)
        finally:
            self._open.pop()
        if direction == BACKWARD:
            call.cache = arrays[1]
        elif isinstance(call.result, tuple | list) and len(call.result) == 2:
            call.cache = call.result[1]
        return call.result

    def _is_op(self, name: str, value: Any) -> bool:
        """Tell whether a global name is half of an op: of the contract, or of the caller's file."""
        if not half_of_op(name) or not inspect.isfunction(value):
            return False
        is_contract = f"{name.rpartition('_')[0]}_{FORWARD}" in reference.FUNCTIONS
        return is_contract or Path(value.__code__.co_filename) == self.file

    def _arguments(
        self, call: OpCall, arrays: tuple[Any, ...], settings: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        names = argument_names(call.source.function, len(arrays))
        pairs = zip(names, arrays, strict=True)
        passed = tuple(self._pass(call, name, array, None, {}) for name, array in pairs)
        same = {
            key: self._pass(call, key, value, None, {}) if hasattr(value, "dtype") else value
            for key, value in settings.items()
        }
        return passed, same

    def _tap(self, call: OpCall, line: Line, value: Any, scope: Mapping[str, Any]) -> Any:
        if line.name == RETURN and call.direction == FORWARD and isinstance(value, tuple):
            out = np.float64(value[0]) if type(value[0]) is float else value[0]  # a loss
            value = value if out is value[0] else (out, *value[1:])
        return self._pass(call, line.name, value, line, dict(scope))

    def _pass(self, call: OpCall, name: str, value: Any, line: Line | None, scope: Scope) -> Any:
        event = Event(self._count, name, value, line, scope)
        self._count += 1
        replacement = self._replacement
        if replacement is not None and replacement.number == event.number:
            event = event._replace(value=replacement.value(call, event))
        call.events.append(event)
        return event.value


def half_of_op(name: str) -> bool:
    """Tell whether a function of this name is half of an op."""
    return name.endswith((f"_{FORWARD}", f"_{BACKWARD}"))


@lru_cache(maxsize=256)  # asked at every call of an op, of which a trace makes thousands
def argument_names(function: Callable[..., Any], count: int) -> tuple[str, ...]:
    """Return the names of an op's positional arguments; *xs as xs[0], xs[1] and so on."""
    names: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{i}]" for i in range(count - len(names))]
        else:
            names.append(parameter.name)
    return tuple(names[:count])

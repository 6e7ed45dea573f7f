"""Record every line of every op that runs, nested ops included.

The recorder wraps a back end and learns the names of layers as `minise.ops.wrap.record` does, but
calls each op through `minise.tracing.instrument`. Each argument of an op, and each value that a
line assigns or returns, is one event. Events are numbered in execution order, which is the same in
every run, so a later run can replace the value of any event.
"""

import copy
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from types import FunctionType
from typing import Any, NamedTuple

import numpy as np

from minise.ops import reference
from minise.ops.user.completed import UserOps
from minise.ops.wrap import BACKWARD, FORWARD, Wrapper
from minise.tracing.instrument import RETURN, Instrumented, Line, Scope


class Event(NamedTuple):
    """A recorded value: an argument of an op, or the value that a line assigns or returns."""

    number: int  # in execution order, from 0
    name: str  # of the argument or the assigned variable; RETURN for a returned value
    value: Any
    line: Line | None  # None for an argument
    scope: Scope  # the local variables before the line ran


@dataclass(eq=False)
class OpCall:
    """One call of the forward or the backward of an op."""

    layer: str
    op: str
    direction: str  # "forward" or "backward"
    source: Instrumented
    parent: "OpCall | None"  # the call that made this call
    inner: frozenset[str] = frozenset()  # names of the op functions that its code calls
    events: list[Event] = field(default_factory=list)
    result: Any = None
    cache: Any = None  # returned by forward, or passed to backward


class Replacement(NamedTuple):
    """The replacement of one event's value, or of every event's, in the next run."""

    number: int | None  # of the event; None for every event
    value: Callable[[OpCall, Event], Any]  # returns the new value


class Hook:
    """What a recorder does with the values and the names of a run; this class changes nothing."""

    def recorded(self, event: Event) -> Any:
        """Return the value that the run continues with."""
        return event.value

    def globals_of(self, function: FunctionType) -> dict[str, Any]:
        """Return the global names of a function that have another value in the run."""
        return {}


class LineRecorder(Wrapper):
    """A back end that records every op call, with all its lines, in order.

    Parameters
    ----------
    ops : module or object
        A back end in plain Python: the reference, or a file of the user's.
    file : path, optional
        The user's file.

    Attributes
    ----------
    layers : dict of (str, str) to str
        By the layer that calls a fused op and the name of an op in it: the layer that the op is.
    hook : Hook
        Called for every event and every function of a run.
    """

    def __init__(self, ops: Any, file: Path | None = None) -> None:
        super().__init__(ops)
        self.file = file
        self.layers: dict[tuple[str, str], str] = {}
        self.hook = Hook()
        self._sources: dict[Any, Instrumented] = {}
        self._user_ops_by_layer: dict[str, UserOps] = {}
        self.start()

    def start(self, replacement: Replacement | None = None) -> None:
        """Delete all recorded calls, and set the event to replace in the next run."""
        self.calls: list[OpCall] = []
        self._call_stack: list[OpCall] = []
        self._replacement = replacement
        self._event_count = 0

    def wrapped(self, layer: str, name: str) -> Any:
        """Return one function of the back end that records its lines under a layer's name."""
        if isinstance(self.ops, UserOps):
            return getattr(self._user_ops(layer), name)
        if is_op_function(name) and not hasattr(self.ops, name):
            where = self.file.name if self.file else getattr(self.ops, "__name__", "ops")
            caller = f"layer {layer}" if layer else "the walk"
            raise ValueError(
                f"walk: {where} has no {name}, which {caller} calls: write or import it"
            )
        function = getattr(self.ops, name)
        return partial(self._call, layer, name, function) if is_op_function(name) else function

    def _user_ops(self, layer: str) -> UserOps:
        """Return the user's ops, adapted to the contract and recorded under a layer's name."""
        if layer not in self._user_ops_by_layer:

            def recorded(name: str, function: Any) -> Any:
                return partial(self._call, layer, name, getattr(function, "py_func", function))

            self._user_ops_by_layer[layer] = self.ops.with_hook(recorded)
        return self._user_ops_by_layer[layer]

    def _source(self, function: Any) -> Instrumented:
        if function not in self._sources:
            self._sources[function] = Instrumented(function, file=self.file)
        return self._sources[function]

    def _call(
        self, layer: str, name: str, function: FunctionType, *arrays: Any, **settings: Any
    ) -> Any:
        op, _, direction = name.rpartition("_")
        source = self._source(function)
        parent = self._call_stack[-1] if self._call_stack else None
        call = OpCall(self.layers.get((layer, op), layer), op, direction, source, parent)
        self.calls.append(call)
        arrays, settings = self._arguments(call, arrays, settings)
        inner = {
            name: partial(self._call, layer, name, value)
            for name, value in function.__globals__.items()
            if name in function.__code__.co_names and self._is_op(name, value)
        }
        call.inner = frozenset(inner)
        self._call_stack.append(call)
        try:
            names = {**self.hook.globals_of(function), **inner}
            call.result = source.run(partial(self._tap, call), *arrays, overrides=names, **settings)
        finally:
            self._call_stack.pop()
        if direction == BACKWARD:
            call.cache = arrays[1]
        elif isinstance(call.result, tuple | list) and len(call.result) == 2:
            call.cache = call.result[1]
        return call.result

    def _is_op(self, name: str, value: Any) -> bool:
        """Return True if a global is an op's forward or backward, of the contract or the file."""
        if not is_op_function(name) or not inspect.isfunction(value):
            return False
        is_contract = f"{name.rpartition('_')[0]}_{FORWARD}" in reference.FUNCTIONS
        return is_contract or Path(value.__code__.co_filename) == self.file

    def _arguments(
        self, call: OpCall, arrays: tuple[Any, ...], settings: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        names = argument_names(call.source.function, len(arrays))
        pairs = zip(names, arrays, strict=True)
        positional = tuple(self._record(call, name, array, None, {}) for name, array in pairs)
        if call.parent is None and call.direction == FORWARD:
            # a layer writes its running statistics into the same arrays
            settings = {key: copy.copy(value) for key, value in settings.items()}
        keywords = {
            key: self._record(call, key, value, None, {}) if hasattr(value, "dtype") else value
            for key, value in settings.items()
        }
        return positional, keywords

    def _tap(self, call: OpCall, line: Line, value: Any, scope: Mapping[str, Any]) -> Any:
        if line.name == RETURN and call.direction == FORWARD and isinstance(value, tuple):
            out = np.float64(value[0]) if type(value[0]) is float else value[0]  # a loss
            value = value if out is value[0] else (out, *value[1:])
        return self._record(call, line.name, value, line, dict(scope))

    def _record(self, call: OpCall, name: str, value: Any, line: Line | None, scope: Scope) -> Any:
        """Record an event and return its value, replaced if the run replaces this event."""
        event = Event(self._event_count, name, value, line, scope)
        self._event_count += 1
        replacement = self._replacement
        if replacement is not None and replacement.number in (None, event.number):
            event = event._replace(value=replacement.value(call, event))
        event = event._replace(value=self.hook.recorded(event))
        call.events.append(event)
        return event.value


def is_op_function(name: str) -> bool:
    """Return True if a name is that of an op's forward or backward."""
    return name.endswith((f"_{FORWARD}", f"_{BACKWARD}"))


@lru_cache(maxsize=256)  # called for every op call; a trace has thousands
def argument_names(function: Callable[..., Any], count: int) -> tuple[str, ...]:
    """Return the names of an op's first `count` positional arguments; *xs as xs[0], xs[1], …."""
    names: list[str] = []
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.VAR_POSITIONAL:
            names += [f"{parameter.name}[{i}]" for i in range(count - len(names))]
        else:
            names.append(parameter.name)
    return tuple(names[:count])

"""Wrap a back end to record every call, to time it, or to stop at the first NaN.

A back end is an object with functions, so any object with the same functions can replace it. A
wrapper is called like the back end that it wraps, for single ops::

    recorder = record(reference)
    out, cache = recorder.relu_forward(x)
    recorder.calls[0].op                       # "relu"

and in nets, where `attach` passes it the layers' names::

    attach(net, recorder)
    net.forward(x, training=True)
    recorder.calls[0].layer                    # "conv1"
    attach(net, reference)                     # removes the recorder
"""

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.ops.shapes import positional_names

FORWARD, BACKWARD = "forward", "backward"
RUN = "run"  # a step of inference, which has no backward


class Call(NamedTuple):
    """One call of one op."""

    layer: str  # dotted name, or "" for a call outside a net
    op: str
    direction: str  # "forward" or "backward"
    arrays: tuple[Any, ...]  # forward's positional arrays, or (dout,)
    settings: dict[str, Any]  # keyword arguments, including arrays such as running_mean and plus
    cache: Any  # returned by forward, or passed to backward
    results: tuple[Any, ...]  # (out,), or one gradient or None per array
    seconds: float


class Wrapper:
    """A back end that calls `prepare` before and `observe` after each call of an op."""

    def __init__(self, ops: Any, layer: str = "") -> None:
        self.ops = ops
        self.layer = layer

    def at(self, layer: str) -> Any:
        """Return a view of this wrapper for one layer, whose calls are observed under its name."""
        return _View(self, layer)

    def prepare(
        self,
        layer: str,
        op: str,
        direction: str,
        arrays: Sequence[Any],
        settings: Mapping[str, Any],
    ) -> None:
        """Handle a call before it runs; the default does nothing."""

    def observe(self, call: Call) -> None:
        """Handle a call after it has run."""
        raise NotImplementedError

    def __getattr__(self, name: str) -> Any:
        """Return the back end's function of this name; forward and backward are observed."""
        if name.startswith("__") or name == "ops":  # a copy has no ops yet
            raise AttributeError(name)
        return self.wrapped(self.layer, name)

    def wrapped(self, layer: str, name: str) -> Any:
        """Return a function of the back end, observed under the name of a layer."""
        if name == "in_place":  # calls must be observed with the statistics before the update
            raise AttributeError(f"{type(self).__name__} has no {name}")
        if name in getattr(self.ops, "composed", ()):  # observe the ops that it calls
            return self.ops.compose(name, partial(self.wrapped, layer))
        inner = isinstance(self.ops, Wrapper)  # pass the layer's name on
        function = self.ops.wrapped(layer, name) if inner else getattr(self.ops, name)
        if name.endswith(f"_{FORWARD}"):
            return partial(self._forward, layer, name.removesuffix(f"_{FORWARD}"), function)
        if name.endswith(f"_{BACKWARD}"):
            return partial(self._backward, layer, name.removesuffix(f"_{BACKWARD}"), function)
        return function

    def _forward(
        self, layer: str, op: str, function: Callable[..., Any], *arrays: Any, **settings: Any
    ) -> Any:
        self.prepare(layer, op, FORWARD, arrays, settings)
        start = time.perf_counter()
        out, cache = function(*arrays, **settings)
        seconds = time.perf_counter() - start
        self.observe(Call(layer, op, FORWARD, arrays, settings, cache, (out,), seconds))
        return out, cache

    def _backward(
        self,
        layer: str,
        op: str,
        function: Callable[..., Any],
        dout: Any,
        cache: Any,
        **settings: Any,
    ) -> Any:
        self.prepare(layer, op, BACKWARD, (dout,), settings)
        start = time.perf_counter()
        gradients = function(dout, cache, **settings)
        seconds = time.perf_counter() - start
        results = tuple(gradients)
        self.observe(Call(layer, op, BACKWARD, (dout,), settings, cache, results, seconds))
        return gradients


class _View:
    """A wrapper as the back end of one layer."""

    def __init__(self, wrapper: Wrapper, layer: str) -> None:
        self._wrapper, self._layer = wrapper, layer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_wrapper":
            raise AttributeError(name)
        return self._wrapper.wrapped(self._layer, name)


def attach(net: Any, ops: Any) -> None:
    """Set the back end of every layer of a net; a wrapper also receives the layers' names.

    Parameters
    ----------
    net : Layer
        A net or a layer; its own name is "". A layer that is used twice has its first name.
    ops : Wrapper or back end
        To remove a wrapper, attach the back end that it wraps.
    """
    for name, layer in reversed(list(net.layers())):
        layer.ops = ops.at(name) if isinstance(ops, Wrapper) else ops


class Recorder(Wrapper):
    """Stores every call with its arrays, in order."""

    def __init__(self, ops: Any) -> None:
        super().__init__(ops)
        self.calls: list[Call] = []

    def observe(self, call: Call) -> None:
        """Store the call."""
        self.calls.append(call)


@dataclass
class Timing:
    """Number and total duration of the calls of one op, layer and direction."""

    calls: int = 0
    seconds: float = 0.0


@dataclass
class Row:
    """One line of a timer's table."""

    layer: str
    op: str
    direction: str
    timing: Timing = field(default_factory=Timing)


class Timer(Wrapper):
    """Sums the time of every op by layer and direction; stores no array."""

    def __init__(self, ops: Any) -> None:
        super().__init__(ops)
        self.timings: dict[tuple[str, str, str], Timing] = {}

    def observe(self, call: Call) -> None:
        """Add the call's time."""
        timing = self.timings.setdefault((call.layer, call.op, call.direction), Timing())
        timing.calls += 1
        timing.seconds += call.seconds

    def rows(self) -> Iterator[Row]:
        """Yield the rows of the table, the slowest first."""
        slowest = sorted(self.timings.items(), key=lambda item: -item[1].seconds)
        for (layer, op, direction), timing in slowest:
            yield Row(layer, op, direction, timing)

    @property
    def seconds(self) -> float:
        """The total time spent in ops."""
        return sum(timing.seconds for timing in self.timings.values())


class Guard(Wrapper):
    """Raises NonFiniteError at the first NaN or infinity, with its layer, op and array.

    A step of inference, run_conv2d or run_batch_norm2d, has the name of its first layer; a NaN in
    an array that was folded into the step, such as gamma, appears in the step's result.
    """

    def wrapped(self, layer: str, name: str) -> Any:
        """Return a function of the back end that checks its arrays; includes run_conv2d etc."""
        function = super().wrapped(layer, name)
        if not name.startswith(f"{RUN}_"):
            return function
        return partial(self._run, layer, name.removeprefix(f"{RUN}_"), function)

    def _run(
        self,
        layer: str,
        op: str,
        function: Callable[..., Any],
        prepared: Any,
        *arrays: Any,
        **keywords: Any,
    ) -> Any:
        inputs = dict(zip(("x", "shortcut"), arrays, strict=False)) | keywords
        for name, array in inputs.items():
            _check_finite(layer, op, RUN, f"its input {name}", array)
        out = function(prepared, *arrays, **keywords)
        _check_finite(layer, op, RUN, "its result out", out)
        return out

    def prepare(
        self,
        layer: str,
        op: str,
        direction: str,
        arrays: Sequence[Any],
        settings: Mapping[str, Any],
    ) -> None:
        """Raise NonFiniteError if an input is not finite: an earlier op is the cause."""
        names = ["dout"] if direction == BACKWARD else _names(self.ops, op, len(arrays))
        keyword_arrays = {k: value for k, value in settings.items() if hasattr(value, "dtype")}
        for name, array in [*zip(names, arrays, strict=True), *keyword_arrays.items()]:
            _check_finite(layer, op, direction, f"its input {name}", array)

    def observe(self, call: Call) -> None:
        """Raise NonFiniteError if a result of finite inputs is not finite: this op is the cause."""
        if call.direction == FORWARD:
            names = ["out"]
        else:
            names = [f"d{name}" for name in _names(self.ops, call.op, len(call.results))]
        for name, array in zip(names, call.results, strict=True):
            _check_finite(call.layer, call.op, call.direction, f"its result {name}", array)
        if call.direction == FORWARD:
            for name in ("running_mean", "running_var"):
                array = getattr(call.cache, name, None)
                _check_finite(call.layer, call.op, call.direction, f"its new {name}", array)


class NonFiniteError(FloatingPointError):
    """A NaN or an infinity; attributes: the layer, op, direction and array where it appeared."""

    def __init__(self, layer: str, op: str, direction: str, array: str, message: str) -> None:
        super().__init__(message)
        self.layer, self.op, self.direction, self.array = layer, op, direction, array


def record(ops: Any) -> Recorder:
    """Return a back end that stores every call in `.calls`."""
    return Recorder(ops)


def timed(ops: Any) -> Timer:
    """Return a back end that times every call; results are in `.timings` and rows()."""
    return Timer(ops)


def guarded(ops: Any) -> Guard:
    """Return a back end that raises NonFiniteError at the first NaN or infinity."""
    return Guard(ops)


def unwrapped(ops: Any) -> Any:
    """Return the back end inside of any number of wrappers, or of a wrapper's view for a layer."""
    while isinstance(ops, Wrapper | _View):
        ops = ops.ops if isinstance(ops, Wrapper) else ops._wrapper
    return ops


def _names(ops: Any, op: str, count: int) -> list[str]:
    """Return the names of an op's positional arrays, from its forward's signature."""
    function = getattr(unwrapped(ops), f"{op}_forward")
    return positional_names(inspect.signature(function), count)


def _check_finite(layer: str, op: str, direction: str, label: str, array: Array | None) -> None:
    if array is None or array.dtype.kind not in "fc" or np.isfinite(array).all():
        return
    first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
    function = f"{RUN}_{op}" if direction == RUN else f"{op}_{direction}"
    where = f"layer {layer or '(none)'}, {function}"
    count = int((~np.isfinite(array)).sum())
    message = f"{where}: {label} has {count} of {array.size} numbers not finite, first at {first}"
    raise NonFiniteError(layer, op, direction, label.split()[-1], message)

"""The base class of the wrappers in wrap.py: a back end that observes each call of another one."""

import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

FORWARD, BACKWARD = "forward", "backward"


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

    net: Any = None  # a weak reference to the net that `attach` was called with

    def __init__(self, ops: Any, layer: str = "") -> None:
        self.ops = ops
        self.layer = layer

    def at(self, layer: str) -> Any:
        """Return a view of this wrapper for one layer, whose calls are observed under its name."""
        return View(self, layer)

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


class View:
    """A wrapper as the back end of one layer."""

    def __init__(self, wrapper: Wrapper, layer: str) -> None:
        self.wrapper, self.layer = wrapper, layer

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "wrapper":
            raise AttributeError(name)
        return self.wrapper.wrapped(self.layer, name)


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
    while isinstance(ops, Wrapper):
        ops.net, ops = weakref.ref(net), ops.ops


def unwrapped(ops: Any) -> Any:
    """Return the back end inside of any number of wrappers, or of a wrapper's view for a layer."""
    while isinstance(ops, Wrapper | View):
        ops = ops.ops if isinstance(ops, Wrapper) else ops.wrapper
    return ops

"""Adapt other forms of forward and backward to the two plain functions that `check` takes.

These are ``forward(*inputs) -> (out, cache)`` and ``backward(dout, cache) -> gradients``. There are
adapters for a forward that returns no cache, and for a layer with parameters that returns its cache
or stores it. `check_layer` calls the adapter for layers.
"""

import copy
import functools
import inspect
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

from minise.gradcheck.slopes.pair import by_name as by_name

REFERENCE = "minise.ops.reference"

ForwardAndBackward = tuple[Callable[..., Any], Callable[..., Any]]


def parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of a function's positional parameters, or x0, x1, … if they are too few."""
    if hasattr(function, "names"):
        return list(function.names)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return names if len(names) >= count else [f"x{i}" for i in range(count)]


def without_cache(forward: Callable[..., Any], backward: Callable[..., Any]) -> ForwardAndBackward:
    """Adapt ``forward(*inputs) -> out`` and ``backward(dout, *inputs) -> gradients``.

    Examples
    --------
    >>> import numpy as np
    >>> from minise.gradcheck import check
    >>> pair = without_cache(lambda a, b: a * b, lambda dout, a, b: (dout * b, dout * a))
    >>> check(*pair, [np.ones(3), np.arange(3.0)]).ok
    True
    """

    def with_cache(*inputs: Any) -> tuple[Any, Any]:
        return forward(*inputs), inputs

    with_cache.__signature__ = inspect.signature(forward)  # type: ignore[attr-defined]
    return with_cache, lambda dout, inputs: backward(dout, *inputs)


def layer(
    layer: Any, training: bool | None = None, state: Sequence[dict[str, Any]] | None = None
) -> tuple[Callable[..., Any], Callable[..., Any], dict[str, Any]]:
    """Adapt a layer or a whole net whose parameters are in a dict.

    Parameters
    ----------
    layer : object
        A layer or a net of minise; or any object with ``params``, a dict of arrays by name, and

        - ``forward(x) -> out, cache`` and ``backward(dout, cache) -> dx, grads``, or
        - ``forward(x) -> out`` and ``backward(dout) -> dx``, if the layer stores its cache in
          attributes and its gradients in a dict ``grads``.
    training : bool, optional
        Passed to forward after x; None passes nothing.
    state : sequence of dict, optional
        Further dicts of arrays that forward changes, such as running statistics. Every forward
        starts from their current values. The state of minise's own layers is included.

    Returns
    -------
    forward, backward : callable
        forward(x, *params) and backward(dout, cache, **settings), which passes settings such as
        plus on to the layer. They run a copy of the layer; the layer itself stays unchanged.
    params : dict of str to ndarray
        The current parameters by name: pass ``[x, *params.values()]`` as inputs.

    Raises
    ------
    TypeError
        If the layer has no dict named params, no forward or no backward, or cannot be copied.

    Examples
    --------
    >>> import numpy as np
    >>> from minise import nn
    >>> from minise.gradcheck import check
    >>> forward, backward, params = layer(nn.Linear(3, 2, dtype=np.float64), training=True)
    >>> x = np.random.default_rng(0).standard_normal((4, 3))
    >>> check(forward, backward, [x, *params.values()]).ok
    True
    """
    kind = type(layer).__name__
    if not isinstance(getattr(layer, "params", None), dict):
        raise TypeError(f"layer: {kind} has no dict params, expected a dict of arrays by name")
    for name in ("forward", "backward"):
        if not callable(getattr(layer, name, None)):
            raise TypeError(f"layer: {kind} has no {name}, expected methods forward and backward")
    layer, state = _copy_of(layer, state or ())
    is_minise = hasattr(layer, "named_layers")
    modules = list(layer.layers()) if is_minise else [("", layer)]
    add = layer.add if is_minise else operator.add
    parameters = _Parameters(modules)
    states = [*(getattr(module, "state", {}) for _, module in modules), *state]
    initial = copy.deepcopy(states)
    flags = () if training is None else (training,)
    stores_cache = not takes(layer.backward, "dout", "cache")
    methods = _methods_storing_cache if stores_cache else _methods_returning_cache
    run_forward, run_backward = methods(layer)

    def forward(x: Any, *params: Any) -> tuple[Any, Any]:
        parameters.assign(params)
        for current, values in zip(states, initial, strict=True):
            current.update({name: _state_copy(array, x.dtype) for name, array in values.items()})
        return run_forward(x, *flags)

    def backward(dout: Any, cache: Any, **settings: Any) -> tuple[Any, ...]:
        dx, grads = run_backward(dout, cache, **settings)
        return dx, *parameters.gradients(grads, add)

    forward.__name__ = kind
    forward.names = ["x", *parameters.locations]  # type: ignore[attr-defined]
    takes_complex_numbers = all(_is_reference(module) for _, module in modules)
    forward.complex_step = takes_complex_numbers  # type: ignore[attr-defined]
    return forward, backward, parameters.arrays()


class _Parameters:
    """The parameters of a layer and of all layers below it, each listed once.

    A shared parameter, which is in several dicts, is listed under its first name.

    Parameters
    ----------
    modules : sequence of (str, object)
        The layers with their dotted names; each has ``params``, a dict of arrays by name.

    Attributes
    ----------
    locations : dict of str to list of (dict, str)
        By the first dotted name of each parameter, the dicts that contain it, with its key there.
    first_names : dict of str to str
        The first name of each parameter, by each of its dotted names.
    """

    def __init__(self, modules: Sequence[tuple[str, Any]]) -> None:
        self.locations: dict[str, list[tuple[dict[str, Any], str]]] = {}
        self.first_names: dict[str, str] = {}
        known: dict[int, str] = {}
        for path, module in modules:
            for key, array in module.params.items():
                name = f"{path}.{key}".removeprefix(".")
                first = self.first_names[name] = known.setdefault(id(array), name)
                self.locations.setdefault(first, []).append((module.params, key))

    def arrays(self) -> dict[str, Any]:
        """Return the current parameters, each under its first name."""
        return {name: params[key] for name, [(params, key), *_] in self.locations.items()}

    def assign(self, arrays: Sequence[Any]) -> None:
        """Replace all parameters by other arrays, in the order of `locations`."""
        for locations, array in zip(self.locations.values(), arrays, strict=True):
            for params, key in locations:
                params[key] = array

    def gradients(self, grads: Mapping[str, Any], add: Callable[[Any, Any], Any]) -> list[Any]:
        """Return one gradient for each parameter, in the order of `locations`.

        The gradient of a shared parameter is the sum over its uses.

        Raises
        ------
        ValueError
            If a gradient is missing.
        """
        sums: dict[str, Any] = {}
        for name, grad in grads.items():
            first = self.first_names.get(name, name)
            sums[first] = add(sums[first], grad) if first in sums else grad
        for name in self.locations:
            if name not in sums:
                names = ", ".join(map(str, grads)) or "nothing"
                raise ValueError(f"layer: grads has {names}, expected a gradient named {name} too")
        return [sums[name] for name in self.locations]


def _state_copy(value: Any, dtype: Any) -> Any:
    """Return a copy of an array of the state: floats in the dtype of x, counters unchanged."""
    is_float = hasattr(value, "dtype") and value.dtype.kind in "fc"
    return value.astype(dtype) if is_float else copy.copy(value)


def takes(function: Any, *arguments: Any) -> bool:
    """Return True if a function can be called with some positional arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def _methods_returning_cache(layer: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return forward and backward of a layer that returns its cache."""

    def run_backward(dout: Any, cache: Any, **settings: Any) -> tuple[Any, Mapping[str, Any]]:
        returned = layer.backward(dout, cache, **settings)
        if not isinstance(returned, tuple) or len(returned) != 2:
            kind = type(returned).__name__
            raise ValueError(f"layer: backward returns a {kind}, expected (dx, dict of gradients)")
        return returned

    return layer.forward, run_backward


def _methods_storing_cache(layer: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return forward and backward of a layer that stores its cache in attributes.

    The cache is then a list of the attributes of the layer and of each layer in it.
    """
    layers = _layers_in(layer, {})

    def run_forward(x: Any, *flags: Any) -> tuple[Any, list[dict[str, Any]]]:
        out = layer.forward(x, *flags)
        return out, [_stored_cache(each) for each in layers]

    def run_backward(dout: Any, cache: Any, **settings: Any) -> tuple[Any, dict[str, Any]]:
        for each, attributes in zip(layers, cache, strict=True):
            for name, value in attributes.items():
                object.__setattr__(each, name, value)
        return layer.backward(dout, **settings), layer.grads

    return run_forward, run_backward


def _copy_of(layer: Any, state: Sequence[dict[str, Any]]) -> Any:
    """Return copies of a layer and of its state dicts, but not of back ends and modules."""
    attributes = [item for part in _layers_in(layer, {}) for item in _attributes(part).items()]
    shared = [value for name, value in attributes if name == "ops" or isinstance(value, ModuleType)]
    memo = {id(value): value for value in shared}
    try:
        return copy.deepcopy((layer, tuple(state)), memo)
    except Exception as error:
        kind = type(layer).__name__
        raise TypeError(
            f"layer: {kind} cannot be copied ({type(error).__name__}: {error}), expected an object "
            "that copy.deepcopy accepts, since the check runs a copy: define __deepcopy__"
        ) from error


def _attributes(layer: Any) -> dict[str, Any]:
    """Return the attributes of an object by name, slots included."""
    slots = [name for kind in type(layer).__mro__ for name in getattr(kind, "__slots__", ())]
    named = {name: getattr(layer, name) for name in slots if hasattr(layer, name)}
    return {**named, **getattr(layer, "__dict__", {})}


def _layers_in(value: Any, seen: dict[int, Any]) -> list[Any]:
    """Return all layers in an object: itself, and those in its attributes, lists and dicts.

    A layer is any object with forward and backward.
    """
    if id(value) in seen or isinstance(value, ModuleType | type):
        return []
    is_layer = hasattr(value, "forward") and hasattr(value, "backward")
    parts: Iterable[Any] = ()
    if is_layer:
        parts = _attributes(value).values()
    elif isinstance(value, list | tuple):
        parts = value
    elif isinstance(value, dict):
        parts = value.values()
    seen[id(value)] = value
    return [
        *([value] if is_layer else []),
        *(layer for part in parts for layer in _layers_in(part, seen)),
    ]


def _stored_cache(layer: Any) -> dict[str, Any]:
    """Return the attributes that make up a layer's cache: all but parameters and state."""
    excluded = ("params", "grads", "state", "__dict__", "__weakref__")
    return {name: value for name, value in _attributes(layer).items() if name not in excluded}


def _is_reference(module: Any) -> bool:
    """Return True if a layer's forward is minise's own and calls the reference."""
    is_minise = module.forward.__module__.startswith("minise.")
    return is_minise and getattr(getattr(module, "ops", None), "__name__", "") == REFERENCE


def takes_complex(forward: Callable[..., Any]) -> bool:
    """Return True if forward takes complex numbers: it is, or calls, minise's reference."""
    while isinstance(forward, functools.partial):
        forward = forward.func
    module = getattr(forward, "__module__", None) or ""
    is_reference = module.startswith(f"{REFERENCE}.") and not hasattr(forward, "__wrapped__")
    return getattr(forward, "complex_step", is_reference)

"""Pairs of other shapes, made ``forward(*inputs) -> (out, cache)``, ``backward(dout, cache)``.

The check takes plain functions. What people have is often a little different: gradients in a dict,
a forward that returns no cache, a layer that keeps its cache and parameters to itself. Each adapter
here is a few lines that make it the same.
"""

import copy
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any

import numpy as np

REFERENCE = "minise.ops.reference"

Pair = tuple[Callable[..., Any], Callable[..., Any]]


def by_name(names: Sequence[str], gradients: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return gradients in the order of the inputs' names, from a dict of "dx" or "x" to array.

    Raises
    ------
    ValueError
        If the dict has a key that is no input's.
    """
    known = {*names, *(f"d{name}" for name in names)}
    if not gradients.keys() <= known:
        unknown = ", ".join(sorted(map(str, gradients.keys() - known)))
        raise ValueError(
            f"backward returns {unknown}, expected keys of {', '.join(f'd{n}' for n in names)}"
        )
    return tuple(gradients.get(f"d{name}", gradients.get(name)) for name in names)


def parameter_names(function: Callable[..., Any], count: int) -> list[str]:
    """Return the names of a function's positional parameters, or x0, x1, … where it has none."""
    if hasattr(function, "names"):
        return list(function.names)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    names = [parameter.name for parameter in parameters if parameter.kind in kinds]
    return names if len(names) >= count else [f"x{i}" for i in range(count)]


def without_cache(forward: Callable[..., Any], backward: Callable[..., Any]) -> Pair:
    """Adapt ``forward(*inputs) -> out`` and ``backward(dout, *inputs) -> gradients``.

    Examples
    --------
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
    """Adapt a layer or a whole net with forward, backward, params and grads.

    Parameters
    ----------
    layer : object
        With ``forward(x)`` or ``forward(x, training)`` and ``backward(dout)``, and ``params`` and
        ``grads``, dicts of arrays by name; or a net of minise, whose sublayers have those.
    training : bool, optional
        Passed to forward; None passes nothing.
    state : sequence of dict, optional
        Further dicts of arrays that forward changes (running statistics); every forward starts
        from what they hold now. A net of minise names its own.

    Returns
    -------
    forward, backward : callable
        forward(x, *params) and backward(dout, cache); the cache is what the layer itself holds.
        They run a copy of the layer, which stays as it is.
    params : dict of str to ndarray
        The parameters as they are now, by name: inputs are ``[x, *params.values()]``.

    Raises
    ------
    TypeError
        If the layer has no dict named params.

    Examples
    --------
    >>> from minise import nn
    >>> from minise.gradcheck import check
    >>> forward, backward, params = layer(nn.Linear(3, 2, dtype=np.float64), training=True)
    >>> x = np.random.default_rng(0).standard_normal((4, 3))
    >>> check(forward, backward, [x, *params.values()]).ok
    True
    """
    if not hasattr(layer, "named_layers") and not isinstance(getattr(layer, "params", None), dict):
        kind = type(layer).__name__
        raise TypeError(f"layer: {kind} has no params, expected a dict of arrays by name")
    layer, state = _copied(layer, state or ())
    parts = layer.named_layers() if hasattr(layer, "named_layers") else {"": layer}
    layers = _layers_in(layer, {})
    slots = {
        f"{path}.{name}".removeprefix("."): (part, name)
        for path, part in parts.items()
        for name in part.params
    }
    states = [*(getattr(part, "state", {}) for part in parts.values()), *state]
    start = [{name: np.array(array) for name, array in one.items()} for one in states]
    flags = () if training is None else (training,)

    def forward(x: Any, *params: Any) -> tuple[Any, list[dict[str, Any]]]:
        for (part, name), value in zip(slots.values(), params, strict=True):
            part.params[name] = value
        for one, values in zip(states, start, strict=True):
            one.update({name: array.astype(x.dtype) for name, array in values.items()})
        out = layer.forward(x, *flags)
        return out, [_cache_of(one) for one in layers]

    def backward(dout: Any, cache: list[dict[str, Any]]) -> tuple[Any, ...]:
        for one, held in zip(layers, cache, strict=True):
            for name, value in held.items():
                object.__setattr__(one, name, value)
        dx = layer.backward(dout)
        for key, (part, name) in slots.items():
            if name not in part.grads:
                names = ", ".join(part.grads) or "nothing"
                raise ValueError(f"grads has {names}, expected a gradient named {key} too")
        return dx, *(part.grads[name] for part, name in slots.values())

    forward.names = ["x", *slots]  # type: ignore[attr-defined]
    if parts.keys() != {""} or hasattr(layer, "ops"):
        forward.complex_step = all(  # type: ignore[attr-defined]
            getattr(part.ops, "__name__", "") == REFERENCE for part in parts.values()
        )
    return forward, backward, {key: part.params[name] for key, (part, name) in slots.items()}


def _copied(layer: Any, state: Sequence[dict[str, Any]]) -> Any:
    """Return copies of a layer and of the dicts that it changes, which a check may change.

    Back ends and modules are not copied.
    """
    attributes = [item for one in _layers_in(layer, {}) for item in _attributes(one).items()]
    shared = [one for name, one in attributes if name == "ops" or isinstance(one, ModuleType)]
    memo = {id(one): one for one in shared}
    try:
        return copy.deepcopy((layer, tuple(state)), memo)
    except Exception as error:
        kind = type(layer).__name__
        raise TypeError(
            f"layer: {kind} cannot be copied ({type(error).__name__}: {error}), expected what "
            "copy.deepcopy takes, so that a check leaves the layer as it was: define __deepcopy__"
        ) from error


def _attributes(layer: Any) -> dict[str, Any]:
    """Return the attributes of an object, also those in slots."""
    slots = [name for kind in type(layer).__mro__ for name in getattr(kind, "__slots__", ())]
    named = {name: getattr(layer, name) for name in slots if hasattr(layer, name)}
    return {**named, **getattr(layer, "__dict__", {})}


def _layers_in(value: Any, seen: dict[int, Any]) -> list[Any]:
    """Return an object with forward and backward, and all such in its attributes, lists, dicts."""
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
    return [*([value] if is_layer else []), *(one for p in parts for one in _layers_in(p, seen))]


def _cache_of(layer: Any) -> dict[str, Any]:
    """Return what a layer holds after forward, as its cache: all but parameters and the like."""
    others = ("params", "grads", "state", "__dict__", "__weakref__")
    return {name: value for name, value in _attributes(layer).items() if name not in others}


def takes_complex(forward: Callable[..., Any]) -> bool:
    """Tell whether forward is known to take complex numbers: it is, or calls, our reference."""
    while isinstance(forward, functools.partial):
        forward = forward.func
    module = getattr(forward, "__module__", None) or ""
    ours = module.startswith(f"{REFERENCE}.") and not hasattr(forward, "__wrapped__")
    return getattr(forward, "complex_step", ours)

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
    """Adapt a layer or a whole net whose parameters are in a dict.

    Parameters
    ----------
    layer : object
        A layer or a net of minise; or anything with ``params``, a dict of arrays by name, and

        - ``forward(x) -> out, cache`` and ``backward(dout, cache) -> dx, grads``, or
        - ``forward(x) -> out`` and ``backward(dout) -> dx``, which keeps its cache to itself and
          leaves its gradients in a dict ``grads``.
    training : bool, optional
        Passed to forward behind x; None passes nothing.
    state : sequence of dict, optional
        Further dicts of arrays that forward changes (running statistics); every forward starts
        from what they hold now. A net of minise names its own.

    Returns
    -------
    forward, backward : callable
        forward(x, *params) and backward(dout, cache). They run a copy of the layer, which stays as
        it is.
    params : dict of str to ndarray
        The parameters as they are now, by name: inputs are ``[x, *params.values()]``.

    Raises
    ------
    TypeError
        If the layer has no dict named params, or cannot be copied.

    Examples
    --------
    >>> from minise import nn
    >>> from minise.gradcheck import check
    >>> forward, backward, params = layer(nn.Linear(3, 2, dtype=np.float64), training=True)
    >>> x = np.random.default_rng(0).standard_normal((4, 3))
    >>> check(forward, backward, [x, *params.values()]).ok
    True
    """
    ours = hasattr(layer, "named_parameters")
    if not ours and not isinstance(getattr(layer, "params", None), dict):
        kind = type(layer).__name__
        raise TypeError(f"layer: {kind} has no params, expected a dict of arrays by name")
    layer, state = _copied(layer, state or ())
    modules = list(layer.layers()) if ours else [("", layer)]
    slots = _Slots(modules)
    states = [*(getattr(module, "state", {}) for _, module in modules), *state]
    start = [{name: np.array(array) for name, array in one.items()} for one in states]
    flags = () if training is None else (training,)
    run, undo = _with_cache(layer) if _takes_cache(layer) else _holding_cache(layer, slots)

    def forward(x: Any, *params: Any) -> tuple[Any, Any]:
        slots.fill(params)
        for one, values in zip(states, start, strict=True):
            one.update({name: _like(array, x.dtype) for name, array in values.items()})
        return run(x, *flags)

    def backward(dout: Any, cache: Any) -> tuple[Any, ...]:
        dx, grads = undo(dout, cache)
        return dx, *slots.in_order(grads)

    forward.names = ["x", *slots.first]  # type: ignore[attr-defined]
    if hasattr(layer, "ops"):
        forward.complex_step = all(  # type: ignore[attr-defined]
            getattr(module.ops, "__name__", "") == REFERENCE for _, module in modules
        )
    return forward, backward, slots.values()


class _Slots:
    """Where the parameters of a layer and of those below it lie; a shared one lies in several."""

    def __init__(self, modules: Sequence[tuple[str, Any]]) -> None:
        self.first: dict[str, list[tuple[Any, str]]] = {}
        self.alias: dict[str, str] = {}
        owners: dict[int, str] = {}
        for path, module in modules:
            for key, array in module.params.items():
                name = f"{path}.{key}".removeprefix(".")
                own = owners.setdefault(id(array), name)
                self.alias[name] = own
                self.first.setdefault(own, []).append((module, key))

    def values(self) -> dict[str, Any]:
        return {name: places[0][0].params[places[0][1]] for name, places in self.first.items()}

    def fill(self, params: Sequence[Any]) -> None:
        for places, value in zip(self.first.values(), params, strict=True):
            for module, key in places:
                module.params[key] = value

    def in_order(self, grads: Mapping[str, Any]) -> list[Any]:
        """Return one gradient for each parameter; those of a shared one are added."""
        sums: dict[str, Any] = {}
        for name, grad in grads.items():
            own = self.alias.get(name, name)
            sums[own] = sums[own] + grad if own in sums else grad
        for name in self.first:
            if name not in sums:
                names = ", ".join(map(str, grads)) or "nothing"
                raise ValueError(f"grads has {names}, expected a gradient named {name} too")
        return [sums[name] for name in self.first]


def _like(array: Any, dtype: Any) -> Any:
    """Return running statistics in the dtype of x; counters as they are."""
    return array.astype(dtype) if array.dtype.kind in "fc" else array.copy()


def _takes_cache(layer: Any) -> bool:
    """Tell whether backward takes the cache, or the layer keeps it to itself."""
    try:
        inspect.signature(layer.backward).bind("dout", "cache")
    except TypeError:
        return False
    return True


def _with_cache(layer: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    def undo(dout: Any, cache: Any) -> tuple[Any, Mapping[str, Any]]:
        returned = layer.backward(dout, cache)
        if not isinstance(returned, tuple) or len(returned) != 2:
            kind = type(returned).__name__
            raise ValueError(f"layer: backward returns a {kind}, expected (dx, dict of gradients)")
        return returned

    return layer.forward, undo


def _holding_cache(layer: Any, slots: _Slots) -> tuple[Callable[..., Any], Callable[..., Any]]:
    layers = _layers_in(layer, {})

    def run(x: Any, *flags: Any) -> tuple[Any, list[dict[str, Any]]]:
        out = layer.forward(x, *flags)
        return out, [_cache_of(one) for one in layers]

    def undo(dout: Any, cache: list[dict[str, Any]]) -> tuple[Any, dict[str, Any]]:
        for one, held in zip(layers, cache, strict=True):
            for name, value in held.items():
                object.__setattr__(one, name, value)
        return layer.backward(dout), layer.grads

    return run, undo


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

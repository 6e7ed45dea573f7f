"""Make ``forward(*inputs) -> (out, cache)`` and ``backward(dout, cache)`` of pairs of other forms.

`check` takes plain functions. An adapter is for whatever differs a little: a forward that returns
no cache, a layer with parameters, a layer that keeps its cache to itself. `check_layer` calls the
adapter for layers.
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

Pair = tuple[Callable[..., Any], Callable[..., Any]]


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
        forward(x, *params) and backward(dout, cache), which passes keywords on, such as plus. They
        run a copy of the layer, which stays as it is.
    params : dict of str to ndarray
        The parameters as they are now, by name: inputs are ``[x, *params.values()]``.

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
        raise TypeError(f"layer: {kind} has no params, expected a dict of arrays by name")
    for name in ("forward", "backward"):
        if not callable(getattr(layer, name, None)):
            raise TypeError(f"layer: {kind} has no {name}, expected a layer's two methods")
    layer, state = _copied(layer, state or ())
    ours = hasattr(layer, "named_layers")
    modules = list(layer.layers()) if ours else [("", layer)]
    add = layer.add if ours else operator.add
    slots = _Slots(modules)
    states = [*(getattr(module, "state", {}) for _, module in modules), *state]
    start = copy.deepcopy(states)
    flags = () if training is None else (training,)
    keeps_cache = not takes(layer.backward, "dout", "cache")
    run, undo = _holding_cache(layer) if keeps_cache else _with_cache(layer)

    def forward(x: Any, *params: Any) -> tuple[Any, Any]:
        slots.fill(params)
        for current, values in zip(states, start, strict=True):
            current.update({name: _like(array, x.dtype) for name, array in values.items()})
        return run(x, *flags)

    def backward(dout: Any, cache: Any, **settings: Any) -> tuple[Any, ...]:
        dx, grads = undo(dout, cache, **settings)
        return dx, *slots.in_order(grads, add)

    forward.__name__ = kind
    forward.names = ["x", *slots.places]  # type: ignore[attr-defined]
    exact = all(_is_reference(module) for _, module in modules)
    forward.complex_step = exact  # type: ignore[attr-defined]
    return forward, backward, slots.values()


class _Slots:
    """The dicts in which the parameters of a layer and of those below it lie.

    A parameter that is shared lies in several, and is one under its first name.

    Parameters
    ----------
    modules : sequence of (str, object)
        Each with its dotted name and with ``params``, a dict of arrays by name.

    Attributes
    ----------
    places : dict of str to list of (dict, str)
        By the first dotted name of each parameter: every dict that it lies in, and the key there.
    first : dict of str to str
        By each dotted name of each parameter: its first one.
    """

    def __init__(self, modules: Sequence[tuple[str, Any]]) -> None:
        self.places: dict[str, list[tuple[dict[str, Any], str]]] = {}
        self.first: dict[str, str] = {}
        known: dict[int, str] = {}
        for path, module in modules:
            for key, array in module.params.items():
                name = f"{path}.{key}".removeprefix(".")
                first = self.first[name] = known.setdefault(id(array), name)
                self.places.setdefault(first, []).append((module.params, key))

    def values(self) -> dict[str, Any]:
        """Return the parameters as they are now, each under its first name."""
        return {name: several[0][0][several[0][1]] for name, several in self.places.items()}

    def fill(self, params: Sequence[Any]) -> None:
        """Put other arrays in the place of all parameters, in the order of `places`."""
        for several, value in zip(self.places.values(), params, strict=True):
            for held, key in several:
                held[key] = value

    def in_order(self, grads: Mapping[str, Any], add: Callable[[Any, Any], Any]) -> list[Any]:
        """Return one gradient for each parameter, in the order of `places`.

        Of a shared parameter it is the sum of those of its uses.

        Raises
        ------
        ValueError
            If a gradient is missing.
        """
        sums: dict[str, Any] = {}
        for name, grad in grads.items():
            first = self.first.get(name, name)
            sums[first] = add(sums[first], grad) if first in sums else grad
        for name in self.places:
            if name not in sums:
                names = ", ".join(map(str, grads)) or "nothing"
                raise ValueError(f"grads has {names}, expected a gradient named {name} too")
        return [sums[name] for name in self.places]


def _like(value: Any, dtype: Any) -> Any:
    """Return a copy of a state, in the dtype of x where it is floats; counters as they are."""
    floats = hasattr(value, "dtype") and value.dtype.kind in "fc"
    return value.astype(dtype) if floats else copy.copy(value)


def takes(function: Any, *arguments: Any) -> bool:
    """Tell whether a function can be called with some positional arguments."""
    try:
        inspect.signature(function).bind(*arguments)
    except (TypeError, ValueError):
        return False
    return True


def _with_cache(layer: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return forward and backward of a layer whose forward returns the cache."""

    def undo(dout: Any, cache: Any, **settings: Any) -> tuple[Any, Mapping[str, Any]]:
        returned = layer.backward(dout, cache, **settings)
        if not isinstance(returned, tuple) or len(returned) != 2:
            kind = type(returned).__name__
            raise ValueError(f"layer: backward returns a {kind}, expected (dx, dict of gradients)")
        return returned

    return layer.forward, undo


def _holding_cache(layer: Any) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Return forward and backward of a layer that keeps its cache: all that it then holds is it."""
    layers = _layers_in(layer, {})

    def run(x: Any, *flags: Any) -> tuple[Any, list[dict[str, Any]]]:
        out = layer.forward(x, *flags)
        return out, [_cache_of(part) for part in layers]

    def undo(dout: Any, cache: list[dict[str, Any]], **settings: Any) -> tuple[Any, dict[str, Any]]:
        for part, held in zip(layers, cache, strict=True):
            for name, value in held.items():
                object.__setattr__(part, name, value)
        return layer.backward(dout, **settings), layer.grads

    return run, undo


def _copied(layer: Any, state: Sequence[dict[str, Any]]) -> Any:
    """Return copies of a layer and of the dicts that it changes, which a check may change.

    Back ends and modules are not copied.
    """
    attributes = [item for part in _layers_in(layer, {}) for item in _attributes(part).items()]
    shared = [value for name, value in attributes if name == "ops" or isinstance(value, ModuleType)]
    memo = {id(value): value for value in shared}
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
    return [
        *([value] if is_layer else []),
        *(layer for part in parts for layer in _layers_in(part, seen)),
    ]


def _cache_of(layer: Any) -> dict[str, Any]:
    """Return what a layer holds after forward, as its cache: all but parameters and the like."""
    others = ("params", "grads", "state", "__dict__", "__weakref__")
    return {name: value for name, value in _attributes(layer).items() if name not in others}


def _is_reference(module: Any) -> bool:
    """Tell whether a layer's forward is minise's own and calls the reference."""
    ours = module.forward.__module__.startswith("minise.")
    return ours and getattr(getattr(module, "ops", None), "__name__", "") == REFERENCE


def takes_complex(forward: Callable[..., Any]) -> bool:
    """Tell whether forward is known to take complex numbers: it is, or calls, our reference."""
    while isinstance(forward, functools.partial):
        forward = forward.func
    module = getattr(forward, "__module__", None) or ""
    ours = module.startswith(f"{REFERENCE}.") and not hasattr(forward, "__wrapped__")
    return getattr(forward, "complex_step", ours)

"""Pairs of other shapes, made ``forward(*inputs) -> (out, cache)``, ``backward(dout, cache)``.

The check takes plain functions. What people have is often a little different: gradients in a dict,
a forward that returns no cache, a layer that keeps its cache and parameters to itself. Each adapter
here is a few lines that make it the same.
"""

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from minise.gradcheck.arrays import same

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
        unknown = ", ".join(sorted(gradients.keys() - known))
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
        They change the layer, and `check` leaves it as it was.
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
    parts = layer.named_layers() if hasattr(layer, "named_layers") else {"": layer}
    slots = {
        f"{path}.{name}".removeprefix("."): (part, name)
        for path, part in parts.items()
        for name in part.params
    }
    held = [*(getattr(part, "state", {}) for part in parts.values()), *(state or ())]
    start = [{name: np.array(array) for name, array in one.items()} for one in held]
    flags = () if training is None else (training,)

    def forward(x: Any, *params: Any) -> tuple[Any, list[dict[str, Any]]]:
        for (part, name), value in zip(slots.values(), params, strict=True):
            part.params[name] = value
        for one, values in zip(held, start, strict=True):
            one.update({name: array.astype(x.dtype) for name, array in values.items()})
        out = layer.forward(x, *flags)
        return out, [_kept_by(part) for part in parts.values()]

    def backward(dout: Any, cache: list[dict[str, Any]]) -> tuple[Any, ...]:
        for part, kept in zip(parts.values(), cache, strict=True):
            vars(part).update(kept)
        dx = layer.backward(dout)
        for key, (part, name) in slots.items():
            if name not in part.grads:
                found = ", ".join(part.grads) or "nothing"
                raise ValueError(f"grads has {found}, expected a gradient named {key} too")
        return dx, *(part.grads[name] for part, name in slots.values())

    forward.names = ["x", *slots]  # type: ignore[attr-defined]
    forward.restore = lambda: _snapshot([layer, *parts.values()], held)  # type: ignore[attr-defined]

    if parts.keys() != {""} or hasattr(layer, "ops"):
        forward.complex_step = all(  # type: ignore[attr-defined]
            getattr(part.ops, "__name__", "") == REFERENCE for part in parts.values()
        )
    return forward, backward, {key: part.params[name] for key, (part, name) in slots.items()}


def _kept_by(part: Any) -> dict[str, Any]:
    """Return what a layer holds after forward, as its cache: all but parameters and the like."""
    return {
        name: value
        for name, value in vars(part).items()
        if name not in ("params", "grads", "state")
    }


def _snapshot(objects: Sequence[Any], dicts: Sequence[dict[str, Any]]) -> Callable[[], None]:
    """Return a function that gives objects their attributes of now again, with what these hold.

    Arrays keep their identity and get their values back; random streams go back to their places.
    """
    attributes = [(vars(one), dict(vars(one))) for one in objects if hasattr(one, "__dict__")]
    values = [value for _, held in attributes for value in held.values()]
    contents = [(one, dict(one)) for one in (*values, *dicts) if isinstance(one, dict)]
    values += [value for _, content in contents for value in content.values()]
    arrays = [(one, one.copy()) for one in values if hasattr(one, "dtype") and np.ndim(one)]
    streams = [
        (one.bit_generator, one.bit_generator.state)
        for one in values
        if isinstance(one, np.random.Generator)
    ]

    def restore() -> None:
        for mapping, content in (*attributes, *contents):
            mapping.clear()
            mapping.update(content)
        for array, copy in arrays:
            if not same(copy, array):
                array[...] = copy
        for stream, state in streams:
            stream.state = state

    return restore


def takes_complex(forward: Callable[..., Any]) -> bool:
    """Tell whether forward is known to take complex numbers: it is, or calls, our reference."""
    while isinstance(forward, functools.partial):
        forward = forward.func
    module = getattr(forward, "__module__", None) or ""
    ours = module.startswith(f"{REFERENCE}.") and not hasattr(forward, "__wrapped__")
    return getattr(forward, "complex_step", ours)

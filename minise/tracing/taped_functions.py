"""The functions of NumPy that a tape records, each as one or more operations of the tape.

Every function has NumPy's signature after the tape. An option that it does not list raises
TypeError, and the call is then recorded as unknown.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from minise.tracing.tape import REDUCTIONS, Tape
from minise.tracing.taped import TapedArray, apply, plain, raw, wrap


def _axes(x: Any, axis: Any) -> list[int]:
    axes = range(np.ndim(x)) if axis is None else axis if isinstance(axis, tuple) else (axis,)
    return [int(k) % max(1, np.ndim(x)) for k in axes]


def _reduce(
    tape: Tape, op: str, x: Any, axis: Any = None, dtype: Any = None, *, keepdims: Any = False
) -> TapedArray:
    return apply(tape, op, x, axis=_axes(x, axis), keepdims=bool(keepdims))


def _extreme(tape: Tape, op: str, x: Any, axis: Any = None, *, keepdims: bool = False) -> Any:
    if axis is None:
        x, axis = apply(tape, "reshape", x, shape=[x.size]), 0
    return apply(tape, op, x, axis=int(axis) % x.ndim, keepdims=bool(keepdims))


def _where(tape: Tape, condition: Any, x: Any, y: Any) -> TapedArray:
    return apply(tape, "where", condition, x, y)


def _transpose(tape: Tape, x: Any, axes: Any = None) -> TapedArray:
    order = range(x.ndim)[::-1] if axes is None else [int(k) % x.ndim for k in axes]
    return apply(tape, "transpose", x, axes=list(order))


def _swapaxes(tape: Tape, x: Any, axis1: int, axis2: int) -> TapedArray:
    order = list(range(x.ndim))
    order[axis1], order[axis2] = order[axis2], order[axis1]
    return apply(tape, "transpose", x, axes=order)


def _reshape(tape: Tape, x: Any, shape: Any, order: str = "C") -> TapedArray:
    if order != "C":
        raise TypeError
    return apply(tape, "reshape", x, shape=list(raw(x).reshape(shape).shape))


def _squeeze(tape: Tape, x: Any, axis: Any = None) -> TapedArray:
    return apply(tape, "reshape", x, shape=list(np.squeeze(raw(x), axis).shape))


def _expand_dims(tape: Tape, x: Any, axis: Any) -> TapedArray:
    return apply(tape, "reshape", x, shape=list(np.expand_dims(raw(x), axis).shape))


def _pad(
    tape: Tape, x: Any, widths: Any, mode: str = "constant", *, constant_values: Any = 0
) -> Any:
    if mode != "constant" or isinstance(constant_values, tuple | list | TapedArray):
        raise TypeError
    pairs = np.broadcast_to(np.asarray(widths), (x.ndim, 2)).tolist()
    return apply(tape, "pad", x, widths=pairs, fill=float(constant_values))


def _split(tape: Tape, x: Any, sections: Any, axis: int = 0) -> list[Any]:
    pieces = np.split(np.arange(x.shape[axis]), raw(sections))
    ends = np.cumsum([len(piece) for piece in pieces])
    before = (slice(None),) * (axis % x.ndim)
    pairs = zip(pieces, ends, strict=True)
    return [x[(*before, slice(end - len(piece), end))] for piece, end in pairs]


def _var(tape: Tape, x: Any, axis: Any = None, *, keepdims: bool = False, ddof: int = 0) -> Any:
    if ddof:
        raise TypeError
    centred = x - np.mean(x, axis, keepdims=True)
    return np.mean(centred * centred, axis, keepdims=keepdims)


def _std(tape: Tape, x: Any, axis: Any = None, *, keepdims: bool = False, ddof: int = 0) -> Any:
    return np.sqrt(_var(tape, x, axis, keepdims=keepdims, ddof=ddof))


def _clip(tape: Tape, x: Any, low: Any = None, high: Any = None) -> Any:
    x = x if low is None else np.maximum(x, low)
    return x if high is None else np.minimum(x, high)


def _dot(tape: Tape, a: Any, b: Any) -> Any:
    if np.ndim(a) not in (1, 2) or np.ndim(b) not in (1, 2):
        raise TypeError
    return a @ b


def _take(tape: Tape, x: Any, indices: Any, axis: int | None = None) -> Any:
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return x[(*(slice(None),) * (axis % x.ndim), indices)]


def _repeat(tape: Tape, x: Any, repeats: Any, axis: int | None = None) -> Any:
    x, axis = (np.ravel(x), 0) if axis is None else (x, axis)
    return _take(tape, x, np.repeat(np.arange(x.shape[axis]), raw(repeats)), axis)


def _einsum(tape: Tape, subscripts: str, *arrays: Any, dtype: Any = None, **options: Any) -> Any:
    if not isinstance(subscripts, str) or "." in subscripts or "->" not in subscripts:
        raise TypeError
    return apply(tape, "einsum", *arrays, subscripts=subscripts.replace(" ", ""))


def _like(name: str) -> Callable[..., Any]:
    def create(tape: Tape, x: Any, *arguments: Any, **options: Any) -> TapedArray:
        value = getattr(np, name)(raw(x), *plain(arguments), **options)
        return wrap(tape, value, tape.constant(value))

    return create


def _concatenate(tape: Tape, xs: Any, axis: int = 0) -> TapedArray:
    return apply(tape, "concatenate", *xs, axis=axis % np.ndim(xs[0]))


def _stack(tape: Tape, xs: Any, axis: int = 0) -> TapedArray:
    return apply(tape, "stack", *xs, axis=axis % (np.ndim(xs[0]) + 1))


def _take_along_axis(tape: Tape, x: Any, places: Any, axis: int) -> TapedArray:
    return apply(tape, "take_along_axis", x, places, axis=axis % x.ndim)


def _named(handler: Callable[..., Any], op: str) -> Callable[..., Any]:
    """Return a handler of one operation."""
    return lambda tape, *arguments, **options: handler(tape, op, *arguments, **options)


RECORDED: dict[str, Callable[..., Any]] = {
    **{name: _named(_reduce, name) for name in REDUCTIONS},
    **{name: _named(_extreme, name) for name in ("argmax", "argmin")},
    **{name: _like(name) for name in ("zeros_like", "ones_like", "empty_like", "full_like")},
    "amax": _named(_reduce, "max"),
    "amin": _named(_reduce, "min"),
    "where": _where,
    "transpose": _transpose,
    "swapaxes": _swapaxes,
    "reshape": _reshape,
    "ravel": lambda tape, x: _reshape(tape, x, -1),
    "squeeze": _squeeze,
    "expand_dims": _expand_dims,
    "copy": lambda tape, x, order="K": apply(tape, "copy", x),
    "broadcast_to": lambda tape, x, shape: apply(tape, "broadcast_to", x, shape=list(shape)),
    "concatenate": _concatenate,
    "stack": _stack,
    "pad": _pad,
    "split": _split,
    "array_split": _split,
    "take_along_axis": _take_along_axis,
    "take": _take,
    "repeat": _repeat,
    "einsum": _einsum,
    "dot": _dot,
    "var": _var,
    "std": _std,
    "clip": _clip,
}

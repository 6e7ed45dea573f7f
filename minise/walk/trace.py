"""Take an op or a net apart, line by line, forward and backward, and check every gradient."""

import inspect
import warnings
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import Array, check_integer
from minise.contract.case import OPS, direction
from minise.nn import Layer
from minise.ops import reference
from minise.ops.user.completed import UserOps
from minise.ops.user.errors import user_errors
from minise.tracing.leaves import is_float
from minise.tracing.slopes import Slopes
from minise.tracing.subject import Subject, net_subject, op_subject
from minise.walk.assemble import Assembler
from minise.walk.build import Builder
from minise.walk.steps import BACKWARD, FORWARD, Trace
from minise.walk.story import net_story, op_story

DOUT = 1  # of the stream that dout is drawn from, which is not that of the arrays
DIGITS = 2  # behind the point, of numbers that are drawn
MAX_NUMBERS = 3000  # that lines give in forward: more is neither seen nor checked in a minute


def trace(
    net_or_op: Any,
    x: Any,
    target: Array | None = None,
    *,
    ops: Any = reference,
    file: str | Path | None = None,
    training: bool | None = None,
    seed: int = 0,
    **settings: Any,
) -> Trace:
    """Walk through a forward and a backward pass, every line of every op.

    Parameters
    ----------
    net_or_op : Layer or str
        A net or a layer of minise.nn, or the name of an op, such as "squeeze_excite".
    x : ndarray, or sequence of ndarray or None
        Images (N, C, H, W) for a net; for an op all its positional arrays, such as
        ``[x, w1, b1, w2, b2]``. Taken in float64.
    target : ndarray, optional
        Labels, integers of shape (N,): behind the net then stands softmax cross-entropy. Or dout,
        the gradient of the loss with respect to out, of out's shape. None draws dout.
    ops : module
        In plain Python: the reference, a module of the caller's, or what load_ops returns for a
        file of his.
    file : path, optional
        The file of that module, which is then compiled line by line.
    training : bool, optional
        Whether a net is walked in training, which is the default, or in evaluation; of an op a
        setting like others.
    seed : int
        Of the random dout.
    **settings
        Of an op, such as stride, or running_mean.

    Returns
    -------
    Trace
        Its steps hold every number, formula, code line, derivative and check.

    Raises
    ------
    ValueError, TypeError
        If the case is too large, an op is missing, or an op refuses its arrays.

    Examples
    --------
    >>> found = trace("relu", np.array([-1.0, 2.0]), np.array([3.0, 4.0]))
    >>> [(step.name, step.value.tolist()) for step in found.steps]
    [('out', [0.0, 2.0]), ('dx', [0.0, 4.0])]
    """
    with warnings.catch_warnings():  # whether forward takes complex numbers is found out
        warnings.simplefilter("ignore", np.exceptions.ComplexWarning)
        with user_errors(ops.file if isinstance(ops, UserOps) else None):
            return _trace(net_or_op, x, target, ops, file, training, seed, settings)


def _trace(
    net_or_op: Any,
    x: Any,
    target: Array | None,
    ops: Any,
    file: str | Path | None,
    training: bool | None,
    seed: int,
    settings: dict[str, Any],
) -> Trace:
    check_integer("walk", "seed", seed, 0)
    if not isinstance(net_or_op, Layer | str):
        raise _no_subject(net_or_op)
    is_op = isinstance(net_or_op, str)
    labels = None
    if not is_op and target is not None and np.asarray(target).dtype.kind in "iu":
        labels, target = target, None
    subject = _subject(net_or_op, x, labels, ops, file, training, settings)
    out, cache = subject.forward(subject.inputs)
    _refuse(subject)
    forwards = subject.recorder.calls
    story = op_story(forwards[0].source) if is_op else net_story(net_or_op)
    dout = _dout(out, target, labels is not None, seed)
    subject.recorder.calls = []
    gradients = _gradients(subject, dout, cache)
    backwards = subject.recorder.calls
    inputs = dict(zip(subject.names, subject.inputs, strict=True))
    inputs = {name: value for name, value in inputs.items() if value is not None}
    builder = Builder({**inputs, "dout": dout})
    builder.add(forwards, FORWARD)
    builder.add(backwards, BACKWARD)
    slopes = Slopes(subject, dout)
    assembler = Assembler(subject, builder, forwards, backwards, gradients, slopes, story)
    return assembler.trace(out, dout, settings)


def _subject(
    net_or_op: Any,
    x: Any,
    labels: Array | None,
    ops: Any,
    file: str | Path | None,
    training: bool | None,
    settings: dict[str, Any],
) -> Subject:
    """Return what runs; `training` becomes one of an op's settings."""
    file = ops.file if isinstance(ops, UserOps) else file
    path = None if file is None else Path(file).resolve()
    if isinstance(net_or_op, str):
        settings |= {} if training is None else {"training": training}
        return _op(ops, path, net_or_op, x, settings)
    return net_subject(
        ops, path, net_or_op, np.asarray(x, np.float64), labels, training is not False
    )


def _no_subject(value: Any) -> TypeError:
    """Return the error for what is neither a layer nor the name of an op."""
    name = getattr(value, "__name__", "").removesuffix("_forward")
    if isinstance(value, type):
        what, fix = f"the class {name}", f"make a layer of it, such as {name}(...)"
    else:
        what, fix = f"of type {type(value).__name__}", 'pass a net, or a name such as "relu"'
    if name in OPS:
        fix = f'pass "{name}"'
    return TypeError(
        f"walk: net_or_op is {what}, expected a layer of minise.nn or the name of an op: {fix}"
    )


def _op(ops: Any, file: Path | None, op: str, x: Any, settings: dict[str, Any]) -> Subject:
    own = isinstance(ops, UserOps)  # which has every op, but these are the caller's
    halves = f"{op}_forward", f"{op}_backward"
    missing = [half for half in halves if (op not in ops.ops if own else not hasattr(ops, half))]
    if missing:
        where = file.name if file else getattr(ops, "__name__", "ops")
        there = (n.removesuffix("_forward") for n in dir(ops) if n.endswith("_forward"))
        names = ops.ops if own else sorted(there)
        raise ValueError(
            f"walk: {where} has no {' and no '.join(missing)}, expected both halves of the op; "
            f"it has {', '.join(names) or 'no op'}"
        )
    _check_settings(op, getattr(ops, f"{op}_forward"), settings)
    arrays = [x] if hasattr(x, "dtype") else list(x)
    wide = [_as_float64(array) for array in arrays]
    same = {key: _as_float64(value) for key, value in settings.items()}
    return op_subject(ops, file, op, wide, same)


def _check_settings(op: str, forward: Any, settings: dict[str, Any]) -> None:
    """Check that an op has settings of these names."""
    parameters = inspect.signature(forward).parameters.values()
    known = [entry.name for entry in parameters if entry.kind is entry.KEYWORD_ONLY]
    unknown = [name for name in settings if name not in known]
    if unknown and not any(entry.kind is entry.VAR_KEYWORD for entry in parameters):
        wanted = f"some of {', '.join(known)}" if known else "none"
        raise ValueError(
            f"walk: settings has {unknown[0]}, expected {wanted}: {op} has no setting {unknown[0]}"
        )


def _as_float64(value: Any) -> Any:
    floats = isinstance(value, np.ndarray) and value.dtype.kind == "f"
    return value.astype(np.float64) if floats else value


def _dout(out: Any, target: Any, is_loss: bool, seed: int) -> Array:
    if is_loss or (target is None and not np.ndim(out)):
        return np.asarray(1.0)
    if target is None:
        drawn = direction(np.asarray(out), np.random.default_rng([seed, DOUT]))
        return np.asarray(rounded(drawn))
    dout = np.asarray(target, np.float64)
    if dout.shape != np.shape(out):
        raise ValueError(
            f"walk: target has shape {dout.shape}, expected {np.shape(out)} as out, or integer "
            "labels for a net that ends in logits"
        )
    return dout


def _refuse(subject: Subject) -> None:
    """Refuse a case that is too large, or not of finite numbers."""
    events = [event for call in subject.recorder.calls for event in call.events]
    floats = [event for event in events if is_float(event.value)]
    count = sum(np.size(event.value) for event in floats)
    refuse_large(subject.names[0], np.shape(subject.inputs[0]), count)
    for event in floats:
        if not np.isfinite(event.value).all():
            raise ValueError(f"walk: {event.name} has NaN or infinity, expected finite numbers")


def refuse_large(name: str, shape: tuple[int, ...], count: int) -> None:
    """Refuse a case in which more numbers pass than can be shown.

    Raises
    ------
    ValueError
        With a smaller shape of the first array, for which that many would not pass.
    """
    if count <= MAX_NUMBERS:
        return
    smaller = list(shape)
    while prod(smaller) * count > MAX_NUMBERS * prod(shape) and max(smaller) > 1:
        smaller[smaller.index(max(smaller))] //= 2
    raise ValueError(
        f"walk: at least {count:,} numbers pass in forward, expected at most {MAX_NUMBERS:,}, "
        f"for each is shown and checked: {name} has shape {tuple(shape)}, try {tuple(smaller)}"
    )


def rounded(value: Any) -> Any:
    """Return an array of floats with few digits and no zero, where a ReLU would have its kink."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    short = np.round(value, DIGITS)
    return np.where(short == 0, 10.0**-DIGITS, short)


def _gradients(subject: Subject, dout: Array, cache: Any) -> tuple[Any, ...]:
    """Return what backward gives, one for each input."""
    found = subject.backward(dout, cache)
    gradients = tuple(found) if isinstance(found, tuple | list) else (found,)
    if len(gradients) != len(subject.names):
        raise ValueError(
            f"walk: {subject.name}_backward returns {len(gradients)} gradients, expected one for "
            f"each of {', '.join(subject.names)}, None where there is none"
        )
    return gradients

"""Trace an op or a net line by line, forward and backward, and check every gradient."""

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
from minise.tracing.instrument import RETURN
from minise.tracing.leaves import is_float
from minise.tracing.slopes import Slopes
from minise.tracing.subject import Subject, net_subject, op_subject
from minise.walk.assemble import Assembler
from minise.walk.build import Builder
from minise.walk.steps import BACKWARD, FORWARD, Trace
from minise.walk.story import net_story, op_story

DOUT_STREAM = 1  # second part of the seed of dout, so that dout and the arrays are independent
DIGITS = 2  # decimals of random numbers
MAX_NUMBERS = 3000  # computed in forward: the check of more would take over a minute


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
    """Trace a forward and a backward pass, every line of every op.

    Parameters
    ----------
    net_or_op : Layer or str
        Net or layer of minise.nn, or the name of an op, such as "squeeze_excite".
    x : ndarray, or sequence of ndarray or None
        Images (N, C, H, W) for a net; for an op all its positional arrays, such as
        ``[x, w1, b1, w2, b2]``. Float arrays are converted to float64.
    target : ndarray, optional
        Labels, integers of shape (N,): the loss is then softmax cross-entropy of the net's logits.
        Or dout, the gradient of the loss with respect to out, with the shape of out. If None, dout
        is random.
    ops : module
        Back end in plain Python: the reference, a module of your own, or the result of load_ops
        for a file of your own.
    file : path, optional
        The file of that module; its functions are then traced line by line.
    training : bool, optional
        Whether to trace a net in training mode (the default) or in evaluation mode; for an op,
        the setting of that name.
    seed : int
        Seed of the random dout.
    **settings
        Settings of the op, such as stride or running_mean.

    Returns
    -------
    Trace
        One step per line: code, formula, numbers, derivatives and check.

    Raises
    ------
    ValueError, TypeError
        If the case is too large, an op is missing, or an op rejects its arrays.

    Examples
    --------
    >>> relu_trace = trace("relu", np.array([-1.0, 2.0]), np.array([3.0, 4.0]))
    >>> [(step.name, step.value.tolist()) for step in relu_trace.steps]
    [('out', [0.0, 2.0]), ('dx', [0.0, 4.0])]
    """
    with warnings.catch_warnings():  # Slopes tests whether forward supports complex numbers
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
        raise _not_traceable(net_or_op)
    is_op = isinstance(net_or_op, str)
    labels = None
    if not is_op and target is not None and np.asarray(target).dtype.kind in "iu":
        labels, target = target, None
    subject = _subject(net_or_op, x, labels, ops, file, training, settings)
    out, cache = subject.forward(subject.inputs)
    _check_size_and_values(subject)
    forwards = subject.recorder.calls
    story = op_story(forwards[0].source) if is_op else net_story(net_or_op)
    dout = _dout(out, target, labels is not None, seed)
    subject.recorder.calls = []
    gradients = _gradients(subject, dout, cache)
    _check_values(subject, "check this line of backward")
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
    """Return the op or net to run; for an op, add `training` to its settings."""
    file = ops.file if isinstance(ops, UserOps) else file
    path = None if file is None else Path(file).resolve()
    if isinstance(net_or_op, str):
        settings |= {} if training is None else {"training": training}
        return _op_subject(ops, path, net_or_op, x, settings)
    return net_subject(
        ops, path, net_or_op, np.asarray(x, np.float64), labels, training is not False
    )


def _not_traceable(value: Any) -> TypeError:
    """Return the error for a value that is neither a layer nor the name of an op."""
    name = getattr(value, "__name__", "").removesuffix("_forward")
    if isinstance(value, type):
        received, fix = f"the class {name}", f"pass an instance, such as {name}(...)"
    else:
        received, fix = f"of type {type(value).__name__}", 'pass a net, or a name such as "relu"'
    if name in OPS:
        fix = f'pass "{name}"'
    return TypeError(
        f"walk: net_or_op is {received}, expected a layer of minise.nn or the name of an op: {fix}"
    )


def _op_subject(ops: Any, file: Path | None, op: str, x: Any, settings: dict[str, Any]) -> Subject:
    own = isinstance(ops, UserOps)  # has every op; ops.ops lists those of the caller's file
    halves = f"{op}_forward", f"{op}_backward"
    missing = [half for half in halves if (op not in ops.ops if own else not hasattr(ops, half))]
    if missing:
        where = file.name if file else getattr(ops, "__name__", "ops")
        available = (n.removesuffix("_forward") for n in dir(ops) if n.endswith("_forward"))
        names = ops.ops if own else sorted(available)
        raise ValueError(
            f"walk: {where} has no {' and no '.join(missing)}, expected forward and backward of "
            f"the op: it has {', '.join(names) or 'no op'}"
        )
    _check_settings(op, getattr(ops, f"{op}_forward"), settings)
    arrays = [x] if hasattr(x, "dtype") else list(x)
    wide = [_as_float64(array) for array in arrays]
    same = {key: _as_float64(value) for key, value in settings.items()}
    return op_subject(ops, file, op, wide, same)


def _check_settings(op: str, forward: Any, settings: dict[str, Any]) -> None:
    """Check that forward has a keyword parameter for each setting."""
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
        drawn = direction(np.asarray(out), np.random.default_rng([seed, DOUT_STREAM]))
        return np.asarray(rounded(drawn))
    dout = np.asarray(target, np.float64)
    if dout.shape != np.shape(out):
        raise ValueError(
            f"walk: target has shape {dout.shape}, expected {np.shape(out)}"
            " as out: pass dout of this shape, or integer labels for a net that ends in logits"
        )
    return dout


def _check_size_and_values(subject: Subject) -> None:
    """Check that forward computed at most MAX_NUMBERS numbers and that all are finite."""
    events = [event for call in subject.recorder.calls for event in call.events]
    floats = [event for event in events if is_float(event.value)]
    count = sum(np.size(event.value) for event in floats)
    refuse_large(subject.names[0], np.shape(subject.inputs[0]), count)
    _check_values(subject, "check the arrays that you pass")


def _check_values(subject: Subject, fix: str) -> None:
    """Check that all numbers that the last pass computed are finite."""
    for call in subject.recorder.calls:
        for event in call.events:
            if is_float(event.value) and not np.isfinite(event.value).all():
                line = "" if event.line is None else f" in line {event.line.number}"
                name = "the result" if event.name == RETURN else event.name
                raise ValueError(
                    f"walk: {name} has NaN or infinity{line}, expected finite numbers: {fix}"
                )


def refuse_large(name: str, shape: tuple[int, ...], count: int) -> None:
    """Raise if forward computes more numbers than a page can show.

    Raises
    ------
    ValueError
        If count is above MAX_NUMBERS; the message suggests a smaller shape of the first array.
    """
    if count <= MAX_NUMBERS:
        return
    smaller = list(shape)
    while prod(smaller) * count > MAX_NUMBERS * prod(shape) and max(smaller) > 1:
        smaller[smaller.index(max(smaller))] //= 2
    raise ValueError(
        f"walk: {name} has shape {tuple(shape)}, which makes forward compute at least {count:,} "
        f"numbers, expected at most {MAX_NUMBERS:,}, because each is shown and checked: "
        f"try {tuple(smaller)}"
    )


def rounded(value: Any) -> Any:
    """Round an array of floats to DIGITS decimals, without zeros: ReLU has its kink there."""
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        return value
    short = np.round(value, DIGITS)
    return np.where(short == 0, 10.0**-DIGITS, short)


def _gradients(subject: Subject, dout: Array, cache: Any) -> tuple[Any, ...]:
    """Return the results of backward, one per input."""
    result = subject.backward(dout, cache)
    gradients = tuple(result) if isinstance(result, tuple | list) else (result,)
    if len(gradients) != len(subject.names):
        raise ValueError(
            f"walk: {subject.name}_backward returns {len(gradients)} gradients, expected "
            f"{len(subject.names)}, one for each of {', '.join(subject.names)}: return None for an "
            "input without a gradient"
        )
    for name, value, gradient in zip(subject.names, subject.inputs, gradients, strict=True):
        shape, expected = np.shape(gradient), np.shape(value)
        if gradient is not None and shape != expected and not _broadcasts(shape, expected):
            raise ValueError(
                f"walk: {subject.name}_backward returns a gradient of shape {shape} for {name}, "
                f"expected {expected}, the shape of {name}: reshape, transpose or sum it"
            )
    return gradients


def _broadcasts(shape: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    try:
        return np.broadcast_shapes(shape, expected) == expected
    except ValueError:
        return False

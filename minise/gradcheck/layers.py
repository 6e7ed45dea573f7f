"""Check a layer or a net: dx, the gradient of every parameter, and the arguments plus and needs_dx.

Residual passes the gradient of x through its shortcut as plus, and expects dx + plus. In training
the first layer of a net gets needs_dx=False and may then omit dx, but nothing else. A layer that
ignores plus is right on its own but wrong in every Residual, so both arguments are tested wherever
a layer's backward takes them.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minise.checks import Array
from minise.gradcheck import adapters
from minise.gradcheck.check import check, require_right
from minise.gradcheck.report import WRONG, Report
from minise.gradcheck.slopes.arrays import copied, host, is_float, like, same
from minise.gradcheck.slopes.pair import REPEAT_REL_TOL

NEEDS_DX = (
    "backward returns a different gradient with needs_dx=False, expected the same bits: omit dx "
    "only"
)


def check_layer(
    layer: Any,
    x: Any,
    rng: np.random.Generator | int | None = None,
    *,
    training: bool = True,
    **settings: Any,
) -> Report:
    """Check dx and the gradient of every parameter of a layer or a net, and return a report.

    If backward takes plus, it must return dx + plus when plus is passed. If it takes needs_dx, the
    gradients of the parameters must be the same with needs_dx=False.

    Parameters
    ----------
    layer : object
        A layer or a net of minise, or a layer of your own that `adapters.layer` accepts: with
        ``params``, a dict of arrays by name, a forward that returns or stores the cache, and a
        backward. A copy in float64 is checked; the layer itself stays unchanged.
    x : ndarray
        The input of forward; float arrays are converted to float64.
    rng : numpy.random.Generator or int, optional
        Seeds dout and the directions, as in `check`.
    training : bool
        Passed to forward after x, if forward takes a second argument.
    **settings
        mode, branches and linear, as in `check`.

    Returns
    -------
    Report
        The report on "x" and on the parameters by their dotted names.

    Raises
    ------
    TypeError
        If the layer has no params or cannot be copied.
    ValueError, TypeError
        As `check` does.

    Examples
    --------
    >>> from minise import nn
    >>> net = nn.Chain(nn.Conv2d(3, 4, 3, rng=0), nn.ReLU(), nn.GlobalAvgPool2d())
    >>> check_layer(net, np.random.default_rng(1).standard_normal((2, 3, 5, 5))).ok
    True
    """
    forward, backward, inputs = _pair(layer, x, training)
    report = check(forward, backward, inputs, rng, **settings)
    optional = _parameters_of(layer.backward) & {"plus", "needs_dx"}
    if not optional or report.problem or report.wrong:
        return report
    problems = _problems_of(optional, forward, backward, inputs)
    arguments = [
        replace(argument, verdict=WRONG, problem=problems[k]) if problems.get(k) else argument
        for k, argument in enumerate(report.arguments)
    ]
    return replace(report, arguments=tuple(arguments))


def assert_layer_gradients(
    layer: Any,
    x: Any,
    rng: np.random.Generator | int | None = None,
    *,
    training: bool = True,
    allow_unchecked: bool = False,
    **settings: Any,
) -> Report:
    """Assert that a layer's or a net's backward is the transpose of its forward's derivative.

    Parameters
    ----------
    layer, x, rng, training, **settings
        As in `check_layer`.
    allow_unchecked : bool
        Whether to accept gradients that could not be checked.

    Returns
    -------
    Report
        The report of the check.

    Raises
    ------
    AssertionError
        With the report, as in `assert_gradients`.
    """
    __tracebackhide__ = True  # pytest then shows the report instead of this function
    report = check_layer(layer, x, rng, training=training, **settings)
    return require_right(report, allow_unchecked)


def _pair(layer: Any, x: Any, training: bool) -> tuple[Any, Any, list[Any]]:
    """Return forward, backward and float64 inputs of a layer."""
    has_flag = adapters.takes(getattr(layer, "forward", None), "x", training)
    forward, backward, params = adapters.layer(layer, training if has_flag else None)
    arrays = (x, *params.values())
    return forward, backward, [a.astype(np.float64) if is_float(a) else a for a in arrays]


def _parameters_of(function: Callable[..., Any]) -> set[str]:
    """Return the names of a function's parameters, or an empty set if they are unknown."""
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _problems_of(
    optional: set[str],
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any],
) -> dict[int, str]:
    """Return the mistakes of backward with plus or needs_dx, by the index of the input.

    Parameters
    ----------
    optional : set of str
        "plus", "needs_dx" or both: the arguments that backward takes.
    forward, backward : callable
        The functions that `adapters.layer` returns.
    inputs : sequence of ndarray
        x and the parameters.
    """
    rng = np.random.default_rng([0, 1])  # not the stream of x
    out, _ = forward(*inputs)
    dout = like(rng.standard_normal(host(out).shape), out)

    def gradients(**settings: Any) -> tuple[Any, ...]:
        return tuple(map(host, copied(backward(dout, forward(*inputs)[1], **settings))))

    usual = gradients()
    problems = {}
    if "plus" in optional and usual[0] is not None:
        plus = rng.standard_normal(usual[0].shape) * (np.max(abs(usual[0]), initial=0) or 1)
        try:
            problems[0] = _problem_of_plus(gradients(plus=like(plus, inputs[0]))[0], usual[0], plus)
        except Exception as error:
            problems[0] = f"backward fails when plus is passed ({_described(error)})"
    if "needs_dx" in optional:
        try:
            without_dx = gradients(needs_dx=False)
        except Exception as error:
            problems[0] = f"backward fails with needs_dx=False ({_described(error)})"
        else:
            changed = [k for k in range(1, len(usual)) if not same(usual[k], without_dx[k])]
            problems |= dict.fromkeys(changed, NEEDS_DX)
    return problems


def _problem_of_plus(dx_with_plus: Array | None, dx: Array, plus: Array) -> str:
    """Return how backward's result differs from dx + plus, or "" if it is equal.

    plus is about as large as dx.
    """
    if dx_with_plus is None or dx_with_plus.shape != dx.shape:
        shape = "None" if dx_with_plus is None else f"a dx of shape {dx_with_plus.shape}"
        return f"backward returns {shape} when plus is passed, expected shape {dx.shape}"
    tolerance = REPEAT_REL_TOL * float(np.max(abs(plus)))

    def is_close(array: Array) -> bool:
        return bool(np.max(abs(dx_with_plus - array)) <= tolerance)

    if is_close(dx + plus):
        return ""
    if is_close(dx):
        mistake = "ignores plus: it returns dx"
    elif is_close(dx + 2 * plus):
        mistake = "adds plus twice: it returns dx + 2 * plus"
    else:
        difference = float(np.max(abs(dx_with_plus - dx - plus)))
        mistake = f"adds plus wrongly: it differs from dx + plus by up to {difference:.1e}"
    return f"backward {mistake}, expected dx + plus, as Residual needs: return self.add(dx, plus)"


def _described(error: Exception) -> str:
    """Return the type and the message of an exception as text."""
    return f"{type(error).__name__}: {error}"

"""Check a layer or a net: dx, the gradient of every parameter, and the arguments plus and needs_dx.

A Residual passes the gradient that reaches x through its shortcut as plus, and expects dx + plus.
In training the first layer of a net gets needs_dx=False, and may leave out dx, but nothing else. A
layer that ignores plus is right when it is checked alone, and wrong in every Residual; so both
arguments are tried, wherever a layer's backward takes them.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minise.gradcheck import adapters
from minise.gradcheck.check import asserted, check
from minise.gradcheck.report import WRONG, Report
from minise.gradcheck.slopes.arrays import copied, host, is_float, like, same
from minise.gradcheck.slopes.pair import REPEAT_REL_TOL
from minise.ops.checks import Array

NEEDS_DX = (
    "backward gives another gradient with needs_dx=False, expected the same to the bit: leave out "
    "nothing but dx"
)


def check_layer(
    layer: Any,
    x: Any,
    rng: np.random.Generator | int | None = None,
    *,
    training: bool = True,
    **settings: Any,
) -> Report:
    """Check a layer's or a net's backward at x, and report on dx and on every parameter.

    Where backward takes plus, dx must then be dx + plus; where it takes needs_dx, the gradients of
    the parameters must be the same without dx.

    Parameters
    ----------
    layer : object
        A layer or a net of minise; or one of your own that `adapters.layer` takes: with ``params``,
        a dict of arrays by name, a forward that returns the cache or keeps it, and a backward. What
        is checked is a copy in float64; the layer stays as it is.
    x : ndarray
        What forward takes; floats are taken in float64.
    rng : numpy.random.Generator or int, optional
        As `check` takes it.
    training : bool
        Passed to forward behind x, where it takes a second argument.
    **settings
        mode, branches and linear, as `check` takes them.

    Returns
    -------
    Report
        Of "x" and of the parameters by their dotted names.

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
        As `check_layer` takes them.
    allow_unchecked : bool
        Whether gradients that could not be checked pass.

    Returns
    -------
    Report
        Of the check.

    Raises
    ------
    AssertionError
        With the report, as `assert_gradients` raises it.
    """
    __tracebackhide__ = True  # pytest then shows the report, and no line of ours
    report = check_layer(layer, x, rng, training=training, **settings)
    return asserted(report, allow_unchecked)


def _pair(layer: Any, x: Any, training: bool) -> tuple[Any, Any, list[Any]]:
    has_flag = adapters.takes(getattr(layer, "forward", None), "x", training)
    forward, backward, params = adapters.layer(layer, training if has_flag else None)
    arrays = (x, *params.values())
    return forward, backward, [a.astype(np.float64) if is_float(a) else a for a in arrays]


def _parameters_of(function: Callable[..., Any]) -> set[str]:
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
    """Return what is wrong where plus or needs_dx is passed, by the number of the input.

    Parameters
    ----------
    optional : set of str
        Which of the two backward takes.
    forward, backward : callable
        As `adapters.layer` returns them.
    inputs : sequence of ndarray
        x and the parameters.
    """
    rng = np.random.default_rng([0, 1])  # a stream that x is not drawn from
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
            problems[0] = f"backward fails where plus is passed ({_described(error)})"
    if "needs_dx" in optional:
        try:
            without_dx = gradients(needs_dx=False)
        except Exception as error:
            problems[0] = f"backward fails with needs_dx=False ({_described(error)})"
        else:
            others = [k for k in range(1, len(usual)) if not same(usual[k], without_dx[k])]
            problems |= dict.fromkeys(others, NEEDS_DX)
    return problems


def _problem_of_plus(dx_with_plus: Array | None, dx: Array, plus: Array) -> str:
    """Say how a dx differs from dx + plus, or nothing; plus is as large as dx."""
    if dx_with_plus is None or dx_with_plus.shape != dx.shape:
        shape = "None" if dx_with_plus is None else f"a dx of shape {dx_with_plus.shape}"
        return f"backward returns {shape} where plus is passed, expected shape {dx.shape}"
    tolerance = REPEAT_REL_TOL * float(np.max(abs(plus)))

    def is_near(array: Array) -> bool:
        return bool(np.max(abs(dx_with_plus - array)) <= tolerance)

    if is_near(dx + plus):
        return ""
    if is_near(dx):
        got = "ignores plus: it returns dx"
    elif is_near(dx + 2 * plus):
        got = "adds plus twice: it returns dx + 2 * plus"
    else:
        difference = float(np.max(abs(dx_with_plus - dx - plus)))
        got = f"adds plus wrongly: it differs from dx + plus by up to {difference:.1e}"
    return f"backward {got}, expected dx + plus, as a Residual needs it: return self.add(dx, plus)"


def _described(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"

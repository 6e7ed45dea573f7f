"""The two further arguments of a layer's backward: plus, and needs_dx.

A Residual passes the gradient that reaches x by its shortcut as plus; the first layer of a net gets
needs_dx=False in training. So a layer that ignores plus is right alone and wrong in every Residual.
"""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from minise.gradcheck.report import WRONG, Report
from minise.gradcheck.slopes.arrays import copied, host, like, same
from minise.gradcheck.slopes.pair import JUMP
from minise.ops.checks import Array


def with_contract(
    report: Report,
    layer: Any,
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any],
) -> Report:
    """Return a report of a layer, and in it what is wrong where plus or needs_dx is passed.

    Parameters
    ----------
    report : Report
        Of dx and the gradients of parameters; one that has a mistake already is returned as it is.
    layer : object
        Its backward is asked for what is in its signature: plus, needs_dx, both or none.
    forward, backward : callable
        As `adapters.layer` returns them.
    inputs : sequence of ndarray
        x and the parameters.
    """
    passed = _parameters(layer.backward) & {"plus", "needs_dx"}
    if not passed or report.problem or report.wrong:
        return report
    rng = np.random.default_rng([0, 1])  # a stream that x is not drawn from
    out, _ = forward(*inputs)
    dout = like(rng.standard_normal(host(out).shape), out)

    def gradients(**settings: Any) -> tuple[Any, ...]:
        return tuple(map(host, copied(backward(dout, forward(*inputs)[1], **settings))))

    usual = gradients()
    problems = {}
    if "plus" in passed and usual[0] is not None:
        plus = rng.standard_normal(usual[0].shape) * (np.max(abs(usual[0]), initial=0) or 1)
        try:
            problems[0] = _of_plus(gradients(plus=like(plus, inputs[0]))[0], usual[0], plus)
        except Exception as error:
            problems[0] = f"backward fails where plus is passed ({_described(error)})"
    if "needs_dx" in passed:
        try:
            without_dx = gradients(needs_dx=False)
        except Exception as error:
            problems[0] = f"backward fails with needs_dx=False ({_described(error)})"
        else:
            others = [k for k in range(1, len(usual)) if not same(usual[k], without_dx[k])]
            problems |= dict.fromkeys(others, NEEDS_DX)
    arguments = [
        replace(argument, verdict=WRONG, problem=problems[k]) if problems.get(k) else argument
        for k, argument in enumerate(report.arguments)
    ]
    return replace(report, arguments=tuple(arguments))


NEEDS_DX = (
    "backward gives another gradient with needs_dx=False, expected the same to the bit: leave out "
    "nothing but dx"
)


def _parameters(function: Callable[..., Any]) -> set[str]:
    try:
        return set(inspect.signature(function).parameters)
    except (TypeError, ValueError):
        return set()


def _of_plus(dx_with_plus: Array | None, dx: Array, plus: Array) -> str:
    """Say how a dx is not dx + plus, or nothing; plus is as large as dx."""
    if dx_with_plus is None or dx_with_plus.shape != dx.shape:
        shape = "None" if dx_with_plus is None else f"a dx of shape {dx_with_plus.shape}"
        return f"backward returns {shape} where plus is passed, expected shape {dx.shape}"
    scale = JUMP * float(np.max(abs(plus)))

    def is_near(array: Array) -> bool:
        return bool(np.max(abs(dx_with_plus - array)) <= scale)

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

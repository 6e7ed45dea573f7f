"""Perturb one value of a run and return the output: the basis of every derivative in this package.

A run is a function with its arguments, an op or a net under a line recorder, or a single line in
its scope. The perturbation replaces one value by ``value + t u``: an argument, the value that a
line assigns, or an array as read by one line only.

    t real         for finite differences: every other value stays the same
    t imaginary    for a complex step: all float arrays at the start of the run become complex, and
                   the imaginary part of the output, over the step, is the derivative along u
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

import numpy as np

from minise.checks import Array
from minise.gradcheck.slopes.arrays import mapped, promoted
from minise.gradcheck.slopes.differences import COMPLEX_STEP
from minise.tracing.instrument import Instrumented, Line, Scope
from minise.tracing.leaves import Leaf, array_at, with_array
from minise.tracing.recorder import Event, OpCall, Replacement
from minise.tracing.subject import Subject

Change = Callable[[Any], Any]  # from a value of the run to its replacement


class PerturbedRun:
    """A run as a function of one of its values.

    Parameters
    ----------
    run : callable
        ``run(change, is_complex)`` repeats the run with ``change(value)`` instead of the value and
        returns the output, one array. If `is_complex`, the run starts from complex arrays.
    """

    def __init__(self, run: Callable[[Change, bool], Any]) -> None:
        self._run = run

    def output(self, t: complex, u: Array, start: Array | None = None) -> Any:
        """Return the output of the run with ``value + t u`` instead of the value.

        Parameters
        ----------
        t : float or complex
            Step length; a complex step makes the run complex.
        u : ndarray of the value's shape
            Direction.
        start : ndarray, optional
            Point to start from instead of the value: the run then uses ``start + t u``.
        """
        is_complex = isinstance(t, complex)

        def change(value: Any) -> Any:
            point = value if start is None else start
            perturbed = np.array(point, complex if is_complex else float)  # keep the memory layout,
            perturbed += t * u  # so that sums over the array keep their order
            return perturbed

        return self._run(change, is_complex)

    def slope(self, u: Array, start: Array | None = None) -> Any:
        """Return the derivative of the output along u by a complex step, exact up to rounding."""
        return np.imag(self.output(1j * COMPLEX_STEP, u, start)) / COMPLEX_STEP


def perturb_argument(
    forward: Callable[..., Any],
    inputs: Sequence[Any],
    k: int,
    settings: Mapping[str, Any] = MappingProxyType({}),
) -> PerturbedRun:
    """Return ``forward(*inputs, **settings)[0]`` as a function of ``inputs[k]``."""

    def run(change: Change, is_complex: bool) -> Any:
        arrays, keywords = _arguments(inputs, settings, is_complex)
        arrays[k] = change(arrays[k])
        return forward(*arrays, **keywords)[0]

    return PerturbedRun(run)


def perturb_input(subject: Subject, k: int) -> PerturbedRun:
    """Return the output of a subject as a function of its k-th input."""
    return perturb_argument(lambda *arrays: subject.forward(arrays), subject.inputs, k)


def perturb_assigned(
    code: Instrumented,
    name: str,
    inputs: Sequence[Any],
    settings: Mapping[str, Any] = MappingProxyType({}),
    occurrence: int = 0,
) -> PerturbedRun:
    """Return ``forward(*inputs, **settings)[0]`` as a function of an intermediate.

    Parameters
    ----------
    code : Instrumented
        The forward function.
    name : str
        Name of the intermediate.
    inputs, settings
        Arguments of forward.
    occurrence : int
        Index of the assignment to the name, from 0 in the order of execution.

    Raises
    ------
    ValueError
        When the returned run is used, if it assigns the name less often; the message lists the
        assigned names.
    """

    def run(change: Change, is_complex: bool) -> Any:
        assignments = 0

        def tap(line: Line, value: Any, scope: Scope) -> Any:
            nonlocal assignments
            if line.name != name:
                return value
            assignments += 1
            return change(value) if assignments == occurrence + 1 else value

        arrays, keywords = _arguments(inputs, settings, is_complex)
        result = code.run(tap, *arrays, **keywords)
        if assignments <= occurrence:
            names = ", ".join(dict.fromkeys(line.name for line in code.lines)) or "nothing"
            raise ValueError(
                f"{code.function.__name__}: {name!r} is assigned {assignments} times, expected at "
                f"least {occurrence + 1}: the function assigns {names}"
            )
        return result[0]

    return PerturbedRun(run)


def perturb_event(subject: Subject, event: Event) -> PerturbedRun:
    """Return the output of a subject as a function of the value of one recorded event."""

    def replacement(change: Change, is_complex: bool, call: OpCall, current: Event) -> Any:
        return change(current.value)

    return _perturb_pass(subject, event, replacement)


def perturb_read(subject: Subject, event: Event, leaf: Leaf) -> PerturbedRun:
    """Return the output of a subject as a function of an array as read by one line only.

    All other lines read the unperturbed array.
    """

    def replacement(change: Change, is_complex: bool, call: OpCall, current: Event) -> Any:
        assert current.line is not None
        scope = _complex_scope(current.scope) if is_complex else current.scope
        return _run_changed_line(call.source, current.line, scope, leaf, change)

    return _perturb_pass(subject, event, replacement)


def perturb_line(
    code: Instrumented, line: Line, scope: Scope, leaf: Leaf, pick: Callable[[Any], Any]
) -> PerturbedRun:
    """Return the value of a single line as a function of an array that the line reads.

    `pick` selects the output from the value of the line.
    """
    complex_scope = _complex_scope(scope)

    def run(change: Change, is_complex: bool) -> Any:
        start = complex_scope if is_complex else scope
        return pick(_run_changed_line(code, line, start, leaf, change))

    return PerturbedRun(run)


def _perturb_pass(
    subject: Subject, event: Event, replacement: Callable[[Change, bool, OpCall, Event], Any]
) -> PerturbedRun:
    def run(change: Change, is_complex: bool) -> Any:
        arrays, _ = _arguments(subject.inputs, {}, is_complex)
        value = partial(replacement, change, is_complex)
        return subject.forward(arrays, Replacement(event.number, value))[0]

    return PerturbedRun(run)


def _arguments(
    inputs: Sequence[Any], settings: Mapping[str, Any], is_complex: bool
) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a forward, with float arrays converted to complex on request."""
    if not is_complex:
        return list(inputs), dict(settings)
    return [promoted(v) for v in inputs], {key: promoted(v) for key, v in settings.items()}


def _complex_scope(scope: Scope) -> Scope:
    """Return a copy of a scope with float arrays converted to complex."""
    return {name: mapped(value, promoted) for name, value in scope.items()}


def _run_changed_line(
    code: Instrumented, line: Line, scope: Scope, leaf: Leaf, change: Change
) -> Any:
    """Run one line with ``change(array)`` instead of an array that it reads."""
    return code.run_line(line, with_array(scope, leaf, change(array_at(scope, leaf))))

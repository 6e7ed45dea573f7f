"""Perturb one value of a run, and see what the run gives: the one way to every derivative here.

A run is a function with its arguments, an op or a net whose lines a recorder follows, or one line
alone in the scope that it ran in. In each of them ``value + t u`` takes the place of one value: of
an argument, of what a line assigns, or of an array as one line alone reads it.

    t real         for differences: everything else stays as it is
    t imaginary    for a complex step: every other float array that the run starts from is complex,
                   and the imaginary part of the output, over the step, is the derivative along u
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

Change = Callable[[Any], Any]  # from a value of the run to what takes its place


class PerturbedRun:
    """A run as a function of one of its values.

    Parameters
    ----------
    run : callable
        ``run(change, is_complex)`` runs once more with ``change(value)`` in the place of the value,
        and returns the output, one array. Where `is_complex`, the run starts from complex arrays.
    """

    def __init__(self, run: Callable[[Change, bool], Any]) -> None:
        self._run = run

    def output(self, t: complex, u: Array, start: Array | None = None) -> Any:
        """Return the output where the value is ``value + t u``.

        Parameters
        ----------
        t : float or complex
            The length of the step; a complex one makes the run complex.
        u : ndarray of the value's shape
            The direction.
        start : ndarray, optional
            Another point to step from: the value is then ``start + t u``.
        """
        is_complex = isinstance(t, complex)

        def change(value: Any) -> Any:
            point = value if start is None else start
            perturbed = np.array(point, complex if is_complex else float)  # in the same layout,
            perturbed += t * u  # so that sums over it are taken in the same order
            return perturbed

        return self._run(change, is_complex)

    def slope(self, u: Array, start: Array | None = None) -> Any:
        """Return the derivative of the output along u by a complex step, exact but for rounding."""
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
    """Return a subject's output as a function of one of its inputs."""
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
        The forward.
    name : str
        The intermediate.
    inputs, settings
        Arguments of the forward.
    occurrence : int
        Which assignment to the name, counted from 0 in the order in which they run.

    Raises
    ------
    ValueError
        In a run that assigns the name less often; the message lists the names.
    """

    def run(change: Change, is_complex: bool) -> Any:
        seen = 0

        def tap(line: Line, value: Any, scope: Scope) -> Any:
            nonlocal seen
            if line.name != name:
                return value
            seen += 1
            return change(value) if seen == occurrence + 1 else value

        arrays, keywords = _arguments(inputs, settings, is_complex)
        result = code.run(tap, *arrays, **keywords)
        if seen <= occurrence:
            names = ", ".join(dict.fromkeys(line.name for line in code.lines)) or "nothing"
            raise ValueError(
                f"{code.function.__name__}: {name!r} is assigned {seen} times, expected at least "
                f"{occurrence + 1}: the function assigns {names}"
            )
        return result[0]

    return PerturbedRun(run)


def perturb_event(subject: Subject, event: Event) -> PerturbedRun:
    """Return a subject's output as a function of what one of its lines assigned."""
    return _perturb_pass(subject, event, lambda change, is_complex, call, now: change(now.value))


def perturb_read(subject: Subject, event: Event, leaf: Leaf) -> PerturbedRun:
    """Return a subject's output as a function of an array as one of its lines alone reads it."""

    def replaced(change: Change, is_complex: bool, call: OpCall, now: Event) -> Any:
        assert now.line is not None
        scope = _lifted(now.scope) if is_complex else now.scope
        return _again(call.source, now.line, scope, leaf, change)

    return _perturb_pass(subject, event, replaced)


def perturb_line(
    code: Instrumented, line: Line, scope: Scope, leaf: Leaf, pick: Callable[[Any], Any]
) -> PerturbedRun:
    """Return what one line gives, run alone, as a function of an array that it reads.

    `pick` takes the output from what the line gives.
    """
    lifted = _lifted(scope)

    def run(change: Change, is_complex: bool) -> Any:
        return pick(_again(code, line, lifted if is_complex else scope, leaf, change))

    return PerturbedRun(run)


def _perturb_pass(
    subject: Subject, event: Event, replaced: Callable[[Change, bool, OpCall, Event], Any]
) -> PerturbedRun:
    def run(change: Change, is_complex: bool) -> Any:
        arrays, _ = _arguments(subject.inputs, {}, is_complex)
        value = partial(replaced, change, is_complex)
        return subject.forward(arrays, Replacement(event.number, value))[0]

    return PerturbedRun(run)


def _arguments(
    inputs: Sequence[Any], settings: Mapping[str, Any], is_complex: bool
) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments of a forward, their float arrays complex on demand."""
    if not is_complex:
        return list(inputs), dict(settings)
    return [promoted(v) for v in inputs], {key: promoted(v) for key, v in settings.items()}


def _lifted(scope: Scope) -> Scope:
    """Return a scope in which every float array is complex."""
    return {name: mapped(value, promoted) for name, value in scope.items()}


def _again(code: Instrumented, line: Line, scope: Scope, leaf: Leaf, change: Change) -> Any:
    """Return what one line gives with ``change(array)`` in the place of an array that it reads."""
    return code.again(line, with_array(scope, leaf, change(array_at(scope, leaf))))

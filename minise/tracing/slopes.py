"""Check gradients against slopes: derivatives of the loss computed by perturbing forward.

`Slopes` checks any gradient of a trace entry by entry, with differences and complex steps;
`check_lines` checks every line of one backward along one random direction. See perturb.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.gradcheck.slopes import differences
from minise.gradcheck.slopes.differences import Slope, central_slope, complex_slope
from minise.gradcheck.slopes.rounding import EPS, norm, rounding_of
from minise.ops.user.errors import OpsError
from minise.tracing.instrument import Instrumented, Line
from minise.tracing.leaves import is_float
from minise.tracing.perturb import PerturbedRun, perturb_assigned, perturb_input
from minise.tracing.subject import Subject


class Target(NamedTuple):
    """The value in forward that a gradient belongs to."""

    name: str  # "u", or "x as read by out = x * s"
    value: Array
    run: PerturbedRun  # out as a function of the value


@dataclass(frozen=True)
class Check:
    """The check of a gradient against slopes; every array has the shape of the gradient.

    Attributes
    ----------
    of : str
        The perturbed value: an intermediate of forward, or "x as read by out = x * s".
    difference : ndarray
        Slopes by fourth-order central differences of the loss.
    complex_step : ndarray or None
        Slopes by complex steps, exact up to rounding; None if forward is wrong for complex
        numbers.
    error : ndarray
        Difference between the gradient and the complex step (else the central difference),
        relative to the larger of the two; 0 where both are within rounding of zero.
    agrees : ndarray of bool
        True where the difference is within the rounding error of the computation.
    corrected, tolerance : ndarray
        The gradient where it agrees, else the slope; and the bound on its error. They have the
        shape of the perturbed value if the gradient broadcasts to slopes that differ.
    """

    of: str
    difference: Array
    complex_step: Array | None
    error: Array
    agrees: Array
    corrected: Array
    tolerance: Array

    @property
    def ok(self) -> bool:
        """True if all entries agree."""
        return bool(np.all(self.agrees))


class Slopes:
    """Slopes of the loss <dout, out> with respect to any value of a subject's forward.

    Parameters
    ----------
    subject : Subject
        The op or net to run.
    dout : ndarray
        Gradient of the loss with respect to out.
    """

    def __init__(self, subject: Subject, dout: Array) -> None:
        self.subject, self.douts = subject, (np.asarray(dout),)
        sizes = [np.size(value) for value in subject.inputs if value is not None]
        self.count = sum(sizes) + dout.size
        self.complex = self._takes_complex()

    def check(self, gradient: Array, target: Target) -> Check | None:
        """Check a gradient against the slopes of its target; return None if the shapes differ.

        The gradient may broadcast to the shape of the target. Each of its entries is then compared
        with the slopes of all entries that it broadcasts to; the check reports the slope with the
        largest difference.
        """
        shape = target.value.shape
        try:
            wide = np.broadcast_to(gradient, shape)
        except ValueError:
            return None
        indices = np.arange(gradient.size).reshape(gradient.shape)
        gradient_indices = np.broadcast_to(indices, shape).ravel()
        difference, exact, error = (np.zeros(gradient.size) for _ in range(3))
        agrees = np.ones(gradient.size, bool)
        largest = np.full(gradient.size, -1.0)
        corrected, tolerance = np.array(wide, float), np.zeros(shape)
        for entry, index in enumerate(gradient_indices):
            value = float(wide.ravel()[entry])
            slopes = self._slopes(target, entry)
            best = slopes[-1].value
            distance = abs(value - best)
            is_right = all(self._is_within_error(value, slope) for slope in slopes)
            agrees[index] &= is_right
            corrected.flat[entry] = value if is_right else best
            tolerance.flat[entry] = self._allowed_error(value, slopes[-1])
            if distance > largest[index]:
                largest[index] = distance
                difference[index], exact[index] = slopes[0].value, best
                size = max(abs(value), abs(best))
                is_rounding = size <= self._allowed_error(value, slopes[-1])
                error[index] = 0.0 if is_rounding else distance / size
        return Check(
            target.name,
            difference.reshape(gradient.shape),
            exact.reshape(gradient.shape) if self.complex else None,
            error.reshape(gradient.shape),
            agrees.reshape(gradient.shape),
            *_narrowed(corrected, tolerance, indices),
        )

    def _is_within_error(self, value: float, slope: Slope) -> bool:
        return not slope.smooth or abs(value - slope.value) <= self._allowed_error(value, slope)

    def _allowed_error(self, value: float, slope: Slope) -> float:
        return slope.error + rounding_of(self.count, norm(self.douts) + abs(value))

    def _slopes(self, target: Target, entry: int) -> list[Slope]:
        """Return the slope by central differences and, where forward allows it, a complex step."""
        u = np.zeros(target.value.shape)
        u.flat[entry] = 1
        line = _line(target.run, u)
        slopes = [central_slope(line, self.douts, self.count)]
        if self.complex:
            slopes.append(complex_slope(line, self.douts, self.count))
        return slopes

    def _takes_complex(self) -> bool:
        """Return True if a complex step in the first input agrees with a central difference.

        A user's forward may reject complex numbers, or apply abs or maximum, which are wrong for
        complex numbers.
        """
        first = self.subject.inputs[0]
        (rng,) = np.random.default_rng(0).spawn(1)  # seed 0 itself may have drawn the input
        line = _line(perturb_input(self.subject, 0), rng.standard_normal(np.shape(first)))
        difference = central_slope(line, self.douts, self.count)
        try:
            exact = complex_slope(line, self.douts, self.count)
        except (TypeError, ValueError, OpsError):
            return False
        distance = abs(exact.value - difference.value)
        allowed = self._allowed_error(exact.value, exact) + difference.error
        return not difference.smooth or distance <= allowed * (1 + np.sqrt(first.size))


def _narrowed(corrected: Array, tolerance: Array, indices: Array) -> tuple[Array, Array]:
    """Return both arrays in the shape of `indices` if `corrected` is constant over each index."""
    first = np.unique(np.broadcast_to(indices, corrected.shape), return_index=True)[1]
    narrow = corrected.ravel()[first].reshape(indices.shape)
    if np.any(abs(corrected - narrow) > 2 * tolerance):
        return corrected, tolerance
    return narrow, tolerance.ravel()[first].reshape(indices.shape)


def _line(run: PerturbedRun, u: Array) -> differences.Line:
    """Return t -> (outputs, None), the run along u in the form of gradcheck's slopes, no cache."""
    return lambda t: ((np.asarray(run.output(t, u)),), None)


class LineCheck(NamedTuple):
    """The check of one line of backward against the slope along its intermediate of forward."""

    line: Line  # of backward, such as "du = np.where(…)"
    of: str  # the intermediate of forward, "u"
    exact: float  # <du, direction>
    numeric: float  # slope of <dout, out> along the direction, by a complex step
    agrees: bool


def check_lines(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    inputs: Sequence[Any],
    rng: np.random.Generator | None = None,
    *,
    file: str | Path | None = None,
    **settings: Any,
) -> list[LineCheck]:
    """Check every line ``dv = …`` of a backward whose forward has an intermediate ``v``.

    The first line that disagrees, from top to bottom, contains the mistake: the gradients above it
    are right, and the lines below inherit its error.

    Parameters
    ----------
    forward, backward : callable
        An op of minise's contract, in minise or in `file`; forward must accept complex numbers.
    inputs : sequence of ndarray or None
        The arguments to check at, in float64.
    rng : numpy.random.Generator, optional
        Draws dout and the directions. None spawns a generator from seed 0; seed 0 itself may have
        drawn the inputs.
    file : path, optional
        A file of the caller with both functions.
    **settings
        Settings of forward; arrays are promoted with the inputs.

    Returns
    -------
    list of LineCheck
        One per checked line, from top to bottom.

    Notes
    -----
    Two ways to compute one derivative. A complex step adds ``i t u`` to v; the imaginary part of
    the output over t is the slope along u, without cancellation. If dv is right, the sum of
    ``dv * u`` equals this slope. Each may have one rounding error per array element.
    """
    rng = np.random.default_rng(0).spawn(1)[0] if rng is None else rng
    code = Instrumented(forward, file=file)
    (out, cache), steps = code.trace(*inputs, **settings)
    dout = np.asarray(rng.standard_normal(out.shape))
    _, lines = Instrumented(backward, file=file).trace(dout, cache)
    values = {step.line.name: step.value for step in steps}
    checks = []
    for step in lines:
        of, value = step.line.name.removeprefix("d"), step.value
        if step.line.name == of or not _comparable(value, values.get(of)):
            continue
        u = np.asarray(rng.standard_normal(value.shape))
        slopes = perturb_assigned(code, of, inputs, settings).slope(u)
        numeric, exact = float(np.vdot(dout, slopes)), float(np.vdot(value, u))
        count = out.size + value.size + sum(a.size for a in inputs if a is not None)
        scale = np.linalg.norm(dout) * np.linalg.norm(slopes)
        scale += np.linalg.norm(value) * np.linalg.norm(u)
        agrees = abs(numeric - exact) <= count * EPS * float(scale)
        checks.append(LineCheck(step.line, of, exact, numeric, bool(agrees)))
    return checks


def _comparable(gradient: Any, value: Any) -> bool:
    return isinstance(gradient, np.ndarray) and is_float(value) and gradient.shape == value.shape

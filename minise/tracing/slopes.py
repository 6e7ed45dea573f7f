"""Check gradients against forward's own slopes, which are taken by perturbing forward (perturb.py).

`Slopes` checks any gradient of a trace entry by entry, by differences and by complex steps;
`check_lines` every line of one backward, each along one random direction.
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
    """What a gradient is the gradient of."""

    name: str  # "u", or "x as read by out = x * s"
    value: Array
    run: PerturbedRun  # out as a function of the value


@dataclass(frozen=True)
class Check:
    """A gradient beside forward's own slopes, entry by entry; all of the gradient's shape.

    Attributes
    ----------
    of : str
        What was perturbed: forward's intermediate, or "x as read by out = x * s".
    difference : ndarray
        Fourth-order central differences of the loss.
    complex_step : ndarray or None
        The same by a complex step, exact but for rounding; None where forward cannot do that.
    error : ndarray
        Difference of the gradient from the complex step (else from the difference), relative to
        the larger of both; 0 where both are nothing but rounding.
    agrees : ndarray of bool
        Whether that is within what arithmetic can lose.
    """

    of: str
    difference: Array
    complex_step: Array | None
    error: Array
    agrees: Array

    @property
    def ok(self) -> bool:
        """Whether all entries agree."""
        return bool(np.all(self.agrees))


class Slopes:
    """The slopes of <dout, out> in every value of a subject's forward.

    Parameters
    ----------
    subject : Subject
        What runs.
    dout : ndarray
        Gradient of the loss with respect to out.
    """

    def __init__(self, subject: Subject, dout: Array) -> None:
        self.subject, self.douts = subject, (np.asarray(dout),)
        sizes = [np.size(value) for value in subject.inputs if value is not None]
        self.count = sum(sizes) + dout.size
        self.complex = self._takes_complex()

    def check(self, gradient: Array, target: Target) -> Check | None:
        """Compare a gradient with the slopes in its target, or None if their shapes cannot agree.

        An entry of a gradient that is broadcast stands for all entries of the target that it is
        broadcast to; the check then has the slope that differs most from it.
        """
        shape = target.value.shape
        try:
            wide = np.broadcast_to(gradient, shape)
        except ValueError:
            return None
        numbers = np.arange(gradient.size).reshape(gradient.shape)
        owners = np.broadcast_to(numbers, shape).ravel()
        difference, exact, error = (np.zeros(gradient.size) for _ in range(3))
        agrees = np.ones(gradient.size, bool)
        worst = np.full(gradient.size, -1.0)
        for entry, owner in enumerate(owners):
            value = float(wide.ravel()[entry])
            slopes = self._slopes(target, entry)
            best = slopes[-1].value
            distance = abs(value - best)
            agrees[owner] &= all(self._fits(value, slope) for slope in slopes)
            if distance > worst[owner]:
                worst[owner] = distance
                difference[owner], exact[owner] = slopes[0].value, best
                size = max(abs(value), abs(best))
                lost = size <= self._allowed(value, slopes[-1])
                error[owner] = 0.0 if lost else distance / size
        return Check(
            target.name,
            difference.reshape(gradient.shape),
            exact.reshape(gradient.shape) if self.complex else None,
            error.reshape(gradient.shape),
            agrees.reshape(gradient.shape),
        )

    def _fits(self, value: float, slope: Slope) -> bool:
        return not slope.smooth or abs(value - slope.value) <= self._allowed(value, slope)

    def _allowed(self, value: float, slope: Slope) -> float:
        return slope.error + rounding_of(self.count, norm(self.douts) + abs(value))

    def _slopes(self, target: Target, entry: int) -> list[Slope]:
        """Return the slope by differences, and where forward can do it by a complex step."""
        u = np.zeros(target.value.shape)
        u.flat[entry] = 1
        line = _line(target.run, u)
        slopes = [central_slope(line, self.douts, self.count)]
        if self.complex:
            slopes.append(complex_slope(line, self.douts, self.count))
        return slopes

    def _takes_complex(self) -> bool:
        """Tell whether a complex step in the first input says what a difference says.

        A forward of the caller's may refuse complex numbers, or use abs or maximum, which are
        wrong of them.
        """
        first = self.subject.inputs[0]
        (rng,) = np.random.default_rng(0).spawn(1)  # else u could be the input itself
        line = _line(perturb_input(self.subject, 0), rng.standard_normal(np.shape(first)))
        difference = central_slope(line, self.douts, self.count)
        try:
            exact = complex_slope(line, self.douts, self.count)
        except (TypeError, ValueError, OpsError):
            return False
        distance = abs(exact.value - difference.value)
        allowed = self._allowed(exact.value, exact) + difference.error
        return not difference.smooth or distance <= allowed * (1 + np.sqrt(first.size))


def _line(run: PerturbedRun, u: Array) -> differences.Line:
    """Return the output along u, as gradcheck's slopes take it: no cache, for no branches."""
    return lambda t: ((np.asarray(run.output(t, u)),), None)


class LineCheck(NamedTuple):
    """One line of a backward, against the slope of forward in the intermediate that it is for."""

    line: Line  # of backward, such as "du = np.where(…)"
    of: str  # forward's intermediate, "u"
    exact: float  # <du, direction>
    numeric: float  # slope of <dout, out> along the direction
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

    The first line that disagrees, from top to bottom, is where the mistake is: all lines above it
    are right, and those below it inherit it.

    Parameters
    ----------
    forward, backward : callable
        An op of minise's contract whose forward takes complex numbers, of minise or of `file`.
    inputs : sequence of ndarray or None
        Where to check, in float64.
    rng : numpy.random.Generator, optional
        Draws dout and the directions. None draws from a child of seed 0, because inputs drawn from
        seed 0 itself would be repeated.
    file : path, optional
        A file of the caller's that holds both functions.
    **settings
        Of forward; arrays among them are promoted with the inputs.

    Notes
    -----
    Two different numbers by an exact derivative: forward is run with ``i t u`` added to v alone,
    whose imaginary part over t is the slope along u without any subtraction, and the sum of
    ``dv * u`` says the same if dv is right. Both may be rounded once for each number there is.
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

"""Directional derivatives of <dout, out> from runs of forward, with bounds on their error.

Let phi(t) be <dout, out> with one input moved by t along a direction. The slope of forward is the
derivative of phi at 0, by one of three methods:

    complex step         imag(phi(i t)) / t with a tiny t: no subtraction, so only rounding
                         errors remain
    central difference   (8 (phi(h) - phi(-h)) - (phi(2h) - phi(-2h))) / 12 h: the truncation error
                         falls as h**4 and is estimated by halving h
    linear               (phi(1) - phi(-1)) / 2: if phi is linear, any step is exact

A difference across a kink (a ReLU that switches on, a maximum that moves to another pixel) is
meaningless. If the op reports its branches, a step that changes them is rejected. Otherwise kinks
are detected from the differences. The second difference divided by h is the jump between the
slopes on the two sides of 0: for a smooth phi it is h times the second derivative, which halves
when h is halved; at a kink it does not change. And differences at h and h/2 converge for a smooth
phi, but not across a kink. So a kink changes the slope by at most the sum of two terms, half of the
part of the jump that does not halve, and the difference between the slopes at h and h/2: a jump J
at 0 < t < h/2 changes the slope by J |1/2 - 7/6 t/h|, where the first term is J |1/2 - 3/2 t/h| and
the second 7/12 J t/h; at h/2 < t < h it changes the slope by J (1 - t/h) / 6, where the first term
is J (1 - t/h) / 2.

Source: Squire and Trapp, "Using complex variables to estimate derivatives of real functions",
SIAM Review 40 (1998), for the complex step.
"""

from collections.abc import Callable, Iterable
from contextlib import suppress
from math import isfinite
from typing import Any, NamedTuple

import numpy as np

from minise.gradcheck.slopes.arrays import host
from minise.gradcheck.slopes.rounding import (
    EPS,
    SMALLEST_SUBNORMAL,
    STANDARD_DEVIATIONS,
    Outputs,
    noise_around,
    norm,
    rounding_of,
)

COMPLEX_STEP = 2.0**-100
SECOND_COMPLEX_STEP_RATIO = 2.0**-8  # second complex step relative to the first
REL_COMPLEX_STEP = 2.0**-30  # complex step relative to the inputs: its square is below EPS
STEPS = tuple(2.0**-k for k in range(9, 34, 3))  # the first is EPS ** (1 / 5), for fourth order
MIN_NOISE_MULTIPLE = 2.0**10  # a change of phi counts if it exceeds this many times its rounding
LONG_STEPS = (2.0**-4, 1.0, 2.0**3, 2.0**6)
FAR_STEPS = (2.0**23, 2.0**43, 2.0**63)
SMOOTH_REL_TOL = 2.0**-19  # if slopes at h and h/2 differ by more, phi is not smooth

Line = Callable[[Any], tuple[Outputs, Any]]  # maps t to (outputs, cache)
Branches = Callable[[Any], Any]


class Slope(NamedTuple):
    """A slope and the bounds on its error."""

    value: float
    step: float
    truncation: float = 0.0  # bound on the truncation error
    noise: float = 0.0  # bound on the rounding error of phi, which a difference divides by its step
    other_rounding: float = 0.0  # error from rounding x + t u; for a complex step, all rounding
    smooth: bool = True  # False if a kink or a jump was detected, or phi is NaN
    kink_free: bool = True  # True if no kink can lie between the points
    jump: float = 0.0  # second difference over the step: the jump between the slopes on both sides
    half_jump: float = 0.0  # second difference over half the step

    @property
    def rounding(self) -> float:
        """Bound on the rounding error: (8 + 8 + 1 + 1) / 12 values of phi, over half the step."""
        return self.other_rounding + 3 * self.noise / (self.step / 2)

    @property
    def error(self) -> float:
        """Bound on the error if forward is smooth."""
        return self.truncation + self.rounding

    @property
    def kink(self) -> float:
        """Bound on the error by a kink between the points; the module's docstring derives it."""
        if self.kink_free:
            return 0.0
        return abs(2 * self.half_jump - self.jump) / 2 + 8 * self.noise / self.step

    def with_noise(self, noise: float) -> "Slope":
        """Return the slope with a better bound on the rounding error of phi."""
        slope = self._replace(noise=noise)
        return slope._replace(smooth=slope.looks_smooth())

    def looks_smooth(self) -> bool:
        """Return True if the slopes at h and h/2 agree and the second differences show no kink."""
        close = self.truncation <= self.rounding + SMOOTH_REL_TOL * abs(self.value)
        halves = abs(self.half_jump) <= 0.75 * abs(self.jump) + 2 * self.rounding
        return bool(self.kink_free or (close and halves))


NO_SLOPE = Slope(float("nan"), float("inf"), float("inf"), smooth=False, kink_free=False)


def inner(douts: Outputs, outs: Outputs) -> Any:
    """Return <douts, outs>, the sum over all outputs and entries."""
    return sum((np.vdot(dout, out) for dout, out in zip(douts, outs, strict=True)), 0.0)


def complex_slope(line: Line, douts: Outputs, count: int, step: float = COMPLEX_STEP) -> Slope:
    """Return the slope by a complex step; count bounds the length of any sum in forward."""
    outs, _ = line(1j * step)
    slopes = tuple(np.asarray(out).imag / step for out in outs)
    underflow = SMALLEST_SUBNORMAL / EPS / abs(step)  # where imaginary parts are below 1e-308
    rounding = rounding_of(count, norm(douts) * norm(slopes) + underflow)
    return Slope(float(inner(douts, slopes)), abs(step), other_rounding=rounding)


def refined_complex_slope(
    line: Line, douts: Outputs, count: int, step: float, sign: int = 1
) -> Slope:
    """Return the slope by two complex steps, whose difference bounds the truncation error.

    The truncation error is of order step**2: it matters only where the slope is zero.
    """
    first, second = (
        complex_slope(line, douts, count, h)
        for h in (step, sign * step * SECOND_COMPLEX_STEP_RATIO)
    )
    return second._replace(truncation=abs(first.value - second.value))


def complex_step_for(size: float) -> float:
    """Return a complex step far below the size of the inputs, for directions of entries near 1.

    The truncation error relative to the slope is (step / size)**2.
    """
    step = REL_COMPLEX_STEP * size
    return COMPLEX_STEP if step >= COMPLEX_STEP or not size else step


def linear_slope(line: Line, douts: Outputs, count: int) -> Slope:
    """Return the slope of a forward that is linear along the line, by a step of 1."""
    (ahead, _), (behind, _) = line(1.0), line(-1.0)
    rounding = rounding_of(count, norm(douts) * (norm(ahead) + norm(behind)))
    slope = (float(inner(douts, ahead)) - float(inner(douts, behind))) / 2
    return Slope(slope, 1.0, other_rounding=rounding)


class Differences:
    """Central differences of phi along a line, at steps of any size.

    Parameters
    ----------
    line : callable
        Forward along the line.
    douts : tuple of ndarray
        The gradients of the outputs.
    count : int
        Bound on the length of any sum in forward.
    start : tuple
        Forward's outputs and cache at 0.
    branches : callable, optional
        Maps a cache to the branches that forward took.

    Attributes
    ----------
    noise : float
        Bound on the rounding error of phi at 0.
    """

    def __init__(
        self,
        line: Line,
        douts: Outputs,
        count: int,
        start: tuple[Outputs, Any],
        branches: Branches | None = None,
    ) -> None:
        self._line, self._douts, self._branches = line, douts, branches
        self._rounding_per_norm = rounding_of(count, norm(douts))  # of phi if out has norm 1
        outs, cache = start
        self._start_branches: Any = None if branches is None else host(branches(cache))
        self._phi, self._out_norm = float(inner(douts, outs)), norm(outs)
        self.noise = self._noise_at(self._out_norm)

    def _noise_at(self, out_norm: float) -> float:
        """Return a bound on the rounding error of phi where out has the norm out_norm."""
        return self._rounding_per_norm * out_norm + SMALLEST_SUBNORMAL

    def bound(self, t: float) -> float:
        """Return a bound on the rounding error of phi at t and -t, from the size of out."""
        return self._noise_at(max(norm(self._line(side)[0]) for side in (t, -t)))

    def long_slope(self, *, far: bool) -> float:
        """Return the largest secant slope over long steps that rounding cannot explain, or 0.

        Over LONG_STEPS, phi must change by far more than its rounding error. Over FAR_STEPS, used
        if far is True, the moved input is rounded too; there the slope must be the same over twice
        the step.
        """
        value = phi(self._line, self._douts)
        slopes = [0.0]
        for h in (*LONG_STEPS, *(FAR_STEPS if far else ())):
            for t in (h, -h):
                with suppress(Exception), np.errstate(all="ignore"):
                    slope = (value(t) - self._phi) / t
                    if h in LONG_STEPS:
                        noise = max(self.bound(t), noise_around(value, t))
                        visible = abs(slope) * h > MIN_NOISE_MULTIPLE * noise
                    else:
                        over_twice = (value(2 * t) - self._phi) / (2 * t)
                        visible = abs(slope - over_twice) <= abs(slope) / 4
                    slopes.append(abs(slope) if visible else 0.0)
        return max(slope for slope in slopes if isfinite(slope))

    def at(self, h: float, slope_along_input: float = 0.0) -> Slope | None:
        """Return the slope by the step h, or None if the step changes a branch.

        Rounding of the moved input changes phi by about EPS times `slope_along_input`, the slope
        along the input itself.
        """
        phi: dict[float, float] = {0: self._phi}
        largest_norm = self._out_norm
        for m in (2, -2, 1, -1, 0.5, -0.5):  # the outermost first: most kinks are there
            try:
                outs, cache = self._line(m * h)
            except Exception:  # outside the domain of forward, which succeeded at 0
                return NO_SLOPE
            if self._branches is not None and not np.array_equal(
                self._start_branches, host(self._branches(cache))
            ):
                return None
            if abs(m) == 2:  # out, and so its rounding error, may be far larger here than at 0
                largest_norm = max(largest_norm, norm(outs))
            phi[m] = float(inner(self._douts, outs))
        if not all(map(isfinite, phi.values())):
            return NO_SLOPE
        noise = self._noise_at(largest_norm)
        over_step = (8 * (phi[1] - phi[-1]) - (phi[2] - phi[-2])) / (12 * h)
        over_half = (8 * (phi[0.5] - phi[-0.5]) - (phi[1] - phi[-1])) / (6 * h)
        jump, half_jump = ((phi[m] - 2 * phi[0] + phi[-m]) / (m * h) for m in (1, 0.5))
        rounding = STANDARD_DEVIATIONS * EPS * slope_along_input / h
        truncation, kink_free = abs(over_step - over_half), self._branches is not None
        slope = Slope(over_half, h, truncation, noise, rounding, True, kink_free, jump, half_jump)
        return slope._replace(smooth=slope.looks_smooth())


def largest_smooth_slope(differences: Differences, steps: Iterable[float] = STEPS) -> Slope:
    """Return the slope at the largest of some steps that shows no kink, or else NO_SLOPE.

    After the first step, a slope of exactly 0 is skipped: rounding hides the change of phi.
    """
    for number, h in enumerate(steps):
        slope = differences.at(h)
        if slope is not None and slope.smooth and (number == 0 or slope.value != 0):
            return slope
    return NO_SLOPE


def central_slope(line: Line, douts: Outputs, count: int) -> Slope:
    """Return the slope by fourth-order differences, at the largest step that shows no kink."""
    return largest_smooth_slope(Differences(line, douts, count, line(0.0)))


def phi(line: Line, douts: Outputs, step: float = 0.0) -> Callable[[float], float]:
    """Return a function of t: <dout, out> along a line, or its slope by a complex step."""

    def value(t: float) -> float:
        if step:
            outs, _ = line(t + 1j * step)
            return float(inner(douts, tuple(np.asarray(out).imag / step for out in outs)))
        return float(inner(douts, line(t)[0]))

    return value

"""The derivative of <dout, out> along a direction, from runs of forward, with a bound on its error.

phi(t) is <dout, out> where an input is moved by t along the direction. Its derivative at 0 is
here called the slope of forward:

    complex step         imag(phi(i t)) / t, with t so small that nothing is lost: nothing is
                         subtracted, so only rounding is left
    central difference   (8 (phi(h) - phi(-h)) - (phi(2h) - phi(-2h))) / 12 h: the error falls as
                         the fourth power of h, and is seen by halving h
    linear               (phi(1) - phi(-1)) / 2: where phi is a straight line, any step is exact

A difference across a kink (a ReLU that wakes up, a maximum that changes its pixel) measures
nothing. Where the op tells its branches, a step that changes them is refused. Where it does not,
the differences tell: the second difference over h is the jump between the slopes on the two
sides, which of a smooth phi is h times the second derivative and halves with h, and at a kink
stays; and differences at h and h/2 come together, across a kink they do not. So a kink changes the
slope by no more than half of what does not halve, and by how much the two differences differ: a
jump J at 0 < t < h/2 by J |1/2 - 7/6 t/h|, of which the first sees J |1/2 - 3/2 t/h| and the second
7/12 J t/h; at h/2 < t < h by J (1 - t/h) / 6, of which the first sees J (1 - t/h) / 2.

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
    SURE,
    TINIEST,
    Outputs,
    noise_around,
    norm,
    rounding_of,
)

TINY = 2.0**-100  # a complex step
SECOND_STEP_RATIO = 2.0**-8  # a second complex step, relative to the first
RELATIVE_COMPLEX_STEP = 2.0**-30  # a complex step relative to inputs: its square is below EPS
STEPS = tuple(2.0**-k for k in range(9, 34, 3))  # the first, EPS ** (1 / 5), suits fourth order
FAR_MORE = 2.0**10  # than rounding
LONG, FAR = (2.0**-4, 1.0, 2.0**3, 2.0**6), (2.0**23, 2.0**43, 2.0**63)  # steps
SMOOTH_REL_TOL = 2.0**-19  # of a slope: differences that agree less do not see a smooth line

Line = Callable[[Any], tuple[Outputs, Any]]  # from t to (outputs, cache)
Branches = Callable[[Any], Any]


class Slope(NamedTuple):
    """A slope, and what is known about its error."""

    value: float
    step: float
    truncation: float = 0.0  # bound on what the step leaves out
    noise: float = 0.0  # bound on the rounding of phi, which a difference divides by its step
    lost: float = 0.0  # bound on other rounding: of the moved input, or all of a complex step's
    smooth: bool = True  # False where a kink or a jump is seen, or nothing but NaN
    kink_free: bool = True  # whether no kink can lie between the points
    jump: float = 0.0  # second differences over the step and over half of it: a kink keeps
    half: float = 0.0  # its jump in both, and what bends smoothly halves it

    @property
    def rounding(self) -> float:
        """Bound on what rounding costs: of (8 + 8 + 1 + 1) / 12 values of phi, at half the step."""
        return self.lost + 3 * self.noise / (self.step / 2)

    @property
    def error(self) -> float:
        """Bound on the error of a smooth forward."""
        return self.truncation + self.rounding

    @property
    def kink(self) -> float:
        """Bound on what a kink between the points could change; see the head of the file."""
        if self.kink_free:
            return 0.0
        return abs(2 * self.half - self.jump) / 2 + 8 * self.noise / self.step

    def with_noise(self, noise: float) -> "Slope":
        """Return the slope where the rounding of phi is known better."""
        slope = self._replace(noise=noise)
        return slope._replace(smooth=slope.looks_smooth())

    def looks_smooth(self) -> bool:
        """Tell whether neither the differences at h and h/2 nor the second ones show a kink."""
        close = self.truncation <= self.rounding + SMOOTH_REL_TOL * abs(self.value)
        halves = abs(self.half) <= 0.75 * abs(self.jump) + 2 * self.rounding
        return bool(self.kink_free or (close and halves))


NO_SLOPE = Slope(float("nan"), float("inf"), float("inf"), smooth=False, kink_free=False)


def inner(douts: Outputs, outs: Outputs) -> Any:
    """Return the sum of all products."""
    return sum((np.vdot(dout, out) for dout, out in zip(douts, outs, strict=True)), 0.0)


def complex_slope(line: Line, douts: Outputs, count: int, step: float = TINY) -> Slope:
    """Return the slope by a complex step; count bounds the length of any sum in forward."""
    outs, _ = line(1j * step)
    slopes = tuple(np.asarray(out).imag / step for out in outs)
    underflow = TINIEST / EPS / abs(step)  # where imaginary parts are below 1e-308
    lost = rounding_of(count, norm(douts) * norm(slopes) + underflow)
    return Slope(float(inner(douts, slopes)), abs(step), lost=lost)


def refined_complex_slope(
    line: Line, douts: Outputs, count: int, step: float, sign: int = 1
) -> Slope:
    """Return the slope by two complex steps, whose difference bounds what they leave out.

    That is relative to step**2: nothing, but for slopes that are zero.
    """
    first, second = (
        complex_slope(line, douts, count, h) for h in (step, sign * step * SECOND_STEP_RATIO)
    )
    return second._replace(truncation=abs(first.value - second.value))


def complex_step_for(size: float) -> float:
    """Return a complex step along directions of about 1, for inputs of some size: far below it.

    An error of (step / size)**2 relative to the slope is left.
    """
    step = RELATIVE_COMPLEX_STEP * size
    return TINY if step >= TINY or not size else step


def linear_slope(line: Line, douts: Outputs, count: int) -> Slope:
    """Return the slope of a forward that is linear along the line, by a step of one."""
    (ahead, _), (behind, _) = line(1.0), line(-1.0)
    lost = rounding_of(count, norm(douts) * (norm(ahead) + norm(behind)))
    slope = (float(inner(douts, ahead)) - float(inner(douts, behind))) / 2
    return Slope(slope, 1.0, lost=lost)


class Differences:
    """Central differences of phi along a line, at steps of any size.

    Parameters
    ----------
    line : callable
        Forward along the line.
    douts : tuple of ndarray
        The gradients of the outputs.
    count : int
        Bounds the length of any sum in forward.
    start : tuple
        Forward's outputs and cache at 0.
    branches : callable, optional
        From a cache to the sides of its kinks.

    Attributes
    ----------
    noise : float
        Bound on the rounding of phi at 0.
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
        self._bound = rounding_of(count, norm(douts))  # of phi, where out has norm 1
        outs, cache = start
        self._side: Any = None if branches is None else host(branches(cache))
        self._phi, self._size = float(inner(douts, outs)), norm(outs)
        self.noise = self._bound * self._size + TINIEST

    def bound(self, t: float) -> float:
        """Return a bound on the rounding of phi at t and -t, as far as the size of out tells."""
        return self._bound * max(norm(self._line(side)[0]) for side in (t, -t)) + TINIEST

    def long_slope(self, *, far: bool) -> float:
        """Return the largest slope to a point that a long step reaches, or 0 where none is seen.

        It is seen where phi moves by far more than it is rounded there; far away, where the moved
        input is rounded too, if twice as far the slope is the same.
        """
        value = phi(self._line, self._douts)
        slopes = [0.0]
        for h in (*LONG, *(FAR if far else ())):
            for t in (h, -h):
                with suppress(Exception), np.errstate(all="ignore"):
                    near = (value(t) - self._phi) / t
                    if h in LONG:
                        noise = max(self.bound(t), noise_around(value, t))
                        seen = abs(near) * h > FAR_MORE * noise
                    else:
                        seen = abs(near - (value(2 * t) - self._phi) / (2 * t)) <= abs(near) / 4
                    slopes.append(abs(near) if seen else 0.0)
        return max(slope for slope in slopes if isfinite(slope))

    def at(self, h: float, moved: float = 0.0) -> Slope | None:
        """Return the slope by the step h, or None if the step changes a branch.

        `moved` is what the slope would be along the input itself: by a share of it phi changes
        where the moved input is rounded.
        """
        phi: dict[float, float] = {0: self._phi}
        largest = self._size
        for m in (2, -2, 1, -1, 0.5, -0.5):  # the outermost first: most kinks lie there
            try:
                outs, cache = self._line(m * h)
            except Exception:  # outside of the domain of forward, which ran at the input
                return NO_SLOPE
            if self._branches is not None and not np.array_equal(
                self._side, host(self._branches(cache))
            ):
                return None
            if abs(m) == 2:  # a far smaller start would tell nothing of the rounding there
                largest = max(largest, norm(outs))
            phi[m] = float(inner(self._douts, outs))
        if not all(map(isfinite, phi.values())):
            return NO_SLOPE
        noise = self._bound * largest + TINIEST
        wide = (8 * (phi[1] - phi[-1]) - (phi[2] - phi[-2])) / (12 * h)
        near = (8 * (phi[0.5] - phi[-0.5]) - (phi[1] - phi[-1])) / (6 * h)
        jump, half = ((phi[m] - 2 * phi[0] + phi[-m]) / (m * h) for m in (1, 0.5))
        lost, kink_free = SURE * EPS * moved / h, self._branches is not None
        slope = Slope(near, h, abs(wide - near), noise, lost, True, kink_free, jump, half)
        return slope._replace(smooth=slope.looks_smooth())


def largest_smooth(differences: Differences, steps: Iterable[float] = STEPS) -> Slope:
    """Return the slope at the largest of some steps that sees no kink; else one that is not smooth.

    Of steps after the first, one that changes nothing is lost in rounding.
    """
    for number, h in enumerate(steps):
        slope = differences.at(h)
        if slope is not None and slope.smooth and (number == 0 or slope.value != 0):
            return slope
    return NO_SLOPE


def central_slope(line: Line, douts: Outputs, count: int) -> Slope:
    """Return the slope by fourth-order differences, at the largest step that can be trusted."""
    return largest_smooth(Differences(line, douts, count, line(0.0)))


def phi(line: Line, douts: Outputs, step: float = 0.0) -> Callable[[float], float]:
    """Return <dout, out> along a line, or its slope by a complex step, as a function of t."""

    def value(t: float) -> float:
        if step:
            outs, _ = line(t + 1j * step)
            return float(inner(douts, tuple(np.asarray(out).imag / step for out in outs)))
        return float(inner(douts, line(t)[0]))

    return value

"""Forward's own slope: how fast <dout, out> changes along a direction, and how surely.

    complex step         imag(phi(i t)) / t, with t so small that nothing is lost: nothing is
                         subtracted, so only rounding is left
    central difference   (8 (phi(h) - phi(-h)) - (phi(2h) - phi(-2h))) / 12 h: the error falls as
                         the fourth power of h, and is seen by halving h
    linear               (phi(1) - phi(-1)) / 2: where phi is a straight line, any step is exact

A difference across a kink (a ReLU that wakes up, a maximum that changes its pixel) measures
nothing. Where the op tells its branches, a step that changes them is made smaller. Where it does
not, the differences tell: the second difference over h is the jump between the slopes on the two
sides, which of a smooth phi is h times the second derivative and halves with h, at a kink stays;
and differences at h and h/2 come together, across a kink they do not. So a kink changes the slope
by no more than half of what does not halve, and by how far the two differences are apart: a jump J
at 0 < t < h/2 by J |1/2 - 7/6 t/h|, of which the first sees J |1/2 - 3/2 t/h| and the second
7/12 J t/h; at h/2 < t < h by J (1 - t/h) / 6, of which the first sees J (1 - t/h) / 2.

Source: Squire and Trapp, "Using complex variables to estimate derivatives of real functions",
SIAM Review 40 (1998), for the complex step; Moré and Wild, "Estimating computational noise",
SIAM Journal on Scientific Computing 33 (2011), for noise_of.
"""

from collections.abc import Callable
from math import comb
from typing import Any, NamedTuple

import numpy as np

from minise.gradcheck.arrays import host
from minise.ops.checks import Array

EPS = float(np.finfo(np.float64).eps)
TINY = 2.0**-100  # of a complex step
STEPS = 2.0 ** -np.arange(9, 34, 3)  # the first is about EPS ** (1 / 5), best for fourth order

POINTS = 9  # of the line on which rounding is measured
NOT_ROUND = 1.618  # so that every number on the way is rounded in its own way
SPACINGS = NOT_ROUND * 2.0 ** -np.array([30, 25, 20])  # near, for no kink to lie between
SURE = 8  # standard deviations

Outputs = tuple[Array, ...]


class Slope(NamedTuple):
    """A slope, and what is known about it."""

    value: float
    error: float  # bound on truncation and rounding
    step: float
    tried: int  # steps
    crossed: int  # of them those that changed a branch
    smooth: bool  # False where no step gave a slope that can be trusted
    kink: float = 0.0  # by how much one between the places could change it beyond that


Line = Callable[[Any], tuple[Outputs, Any]]  # from a place t on the line to (outputs, cache)


def inner(douts: Outputs, outs: Outputs) -> Any:
    """Return the sum of all products."""
    return sum((np.vdot(dout, out) for dout, out in zip(douts, outs, strict=True)), 0.0)


def norm(arrays: Outputs) -> float:
    """Return the length of all numbers as one vector."""
    return float(np.sqrt(sum(float(np.linalg.norm(array)) ** 2 for array in arrays)))


def rounding_of(count: int, size: float) -> float:
    """Return what rounding costs a result of some size that comes of so many numbers.

    Each may be rounded once, up or down, so the errors add up as a random walk does. Where that is
    not enough, as with terms far larger than their sum, it has to be measured (noise_of).
    """
    return float(SURE * np.sqrt(count) * EPS * size)


def complex_slope(line: Line, douts: Outputs, count: int, noise: float = 0.0) -> Slope:
    """Return the slope by a complex step.

    count bounds the length of any sum in forward; noise is what is known of its rounding besides.
    """
    outs, _ = line(1j * TINY)
    slopes = tuple(np.asarray(out).imag / TINY for out in outs)
    error = noise + rounding_of(count, norm(douts) * norm(slopes))
    return Slope(float(inner(douts, slopes)), error, TINY, 1, 0, True)


def confirmed_slope(
    line: Line, douts: Outputs, count: int, branches: Callable[[Any], Any] | None, noise: float
) -> Slope:
    """Return the slope at the step that can tell most, a kink that no step sees in its error.

    Where branches are not told, differences may agree by chance though a kink lies between their
    places.
    """
    slope = central_slope(line, douts, count, branches, noise)
    if branches is not None:
        return slope
    slope = _with_kink(slope)
    while slope.smooth and (smaller := STEPS[slope.step > STEPS]).size:
        other = _with_kink(central_slope(line, douts, count, branches, noise, smaller))
        if not other.smooth or other.error >= slope.error:
            break
        slope = other
    return slope


def _with_kink(slope: Slope) -> Slope:
    return slope._replace(error=slope.error + slope.kink)


def linear_slope(line: Line, douts: Outputs, count: int, noise: float = 0.0) -> Slope:
    """Return the slope of a forward that is linear along the line, by a step of one."""
    (ahead, _), (behind, _) = line(1.0), line(-1.0)
    error = noise + rounding_of(count, norm(douts) * (norm(ahead) + norm(behind)))
    slope = (float(inner(douts, ahead)) - float(inner(douts, behind))) / 2
    return Slope(slope, error, 1.0, 1, 0, True)


def central_slope(
    line: Line,
    douts: Outputs,
    count: int,
    branches: Callable[[Any], Any] | None,
    noise: float = 0.0,
    steps: Array = STEPS,
) -> Slope:
    """Return the slope by fourth-order differences, at the largest step that can be trusted."""
    start, cache = line(0.0)
    side: Any = None if branches is None else host(branches(cache))
    noise += rounding_of(count, norm(douts) * norm(start))  # of phi at one place
    crossed, best = 0, Slope(float("nan"), float("inf"), 0.0, 0, 0, False)
    for tried, h in enumerate(steps, 1):
        places = {m: line(m * h) for m in (-2, -1, -0.5, 0.5, 1, 2)}
        if branches is not None and any(
            not np.array_equal(side, host(branches(cache))) for _, cache in places.values()
        ):
            crossed += 1
            continue
        phi = {m: float(inner(douts, outs)) for m, (outs, _) in places.items()}
        phi[0] = float(inner(douts, start))
        wide = (8 * (phi[1] - phi[-1]) - (phi[2] - phi[-2])) / (12 * h)
        near = (8 * (phi[0.5] - phi[-0.5]) - (phi[1] - phi[-1])) / (6 * h)
        rounding = 3 * noise / (h / 2)  # (8 + 8 + 1 + 1) / 12 numbers, at half the step
        truncation = abs(wide - near)
        jump, half = ((phi[m] - 2 * phi[0] + phi[-m]) / (m * h) for m in (1, 0.5))
        kink = abs(2 * half - jump) / 2 + 8 * noise / h  # see the head of the file
        slope = Slope(near, truncation + rounding, h, tried, crossed, True, kink)
        trusted = branches is not None or (
            truncation <= rounding + RELATIVE * (abs(near) + abs(wide))
            and abs(half) <= 0.75 * abs(jump) + 2 * rounding  # at a kink it would stay
            and (tried == 1 or near != 0)  # a small step that changes nothing is lost in rounding
        )
        if trusted:
            return slope
    return best._replace(tried=len(steps), crossed=crossed)


RELATIVE = 2.0**-20  # of a slope: two differences that agree less well do not see one smooth line


def phi(line: Line, douts: Outputs, *, complex_step: bool = False) -> Callable[[float], float]:
    """Return <dout, out> along a line, or its slope by a complex step, as a function of place."""

    def value(t: float) -> float:
        if complex_step:
            outs, _ = line(t + 1j * TINY)
            return float(inner(douts, tuple(np.asarray(out).imag / TINY for out in outs)))
        return float(inner(douts, line(t)[0]))

    return value


def noise_of(function: Callable[[float], float], far: float = 0.0) -> float:
    """Return a bound on a smooth function's rounding, by measuring it near 0.

    At a few places near to each other it is nearly straight. Differences of differences then leave
    nothing of it but the rounding, in which one place knows nothing of the next: the k-th
    difference of numbers of variance s**2 has variance comb(2 k, k) s**2. That sees what the size
    of its result does not, as when it cancels inside.

    Places too near to each other would round alike, so they are moved apart. A kink between them
    would look like rounding, so both sides of 0 are seen, and 0 itself, where numbers may be tied,
    is not. far tells how far there is no kink, where that is known.
    """
    spacings = [NOT_ROUND * far / 2 / POINTS] if far else SPACINGS
    return SURE * max(
        min(_deviation(function, spacing), _deviation(function, -spacing)) for spacing in spacings
    )


def _deviation(function: Callable[[float], float], spacing: float) -> float:
    values = np.array([function(i * spacing) for i in range(1, POINTS + 1)])
    squares = [(np.diff(values, k) ** 2).mean() / comb(2 * k, k) for k in range(4, 7)]
    return float(np.sqrt(min(squares)))  # of lower order, the function's own bend would be left

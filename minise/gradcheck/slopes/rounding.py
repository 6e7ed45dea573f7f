"""Bound rounding errors by the number of terms of an op, and measure them where that fails.

Source: Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 33
(2011), for noise_of.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import comb, hypot, sqrt

import numpy as np

from minise.checks import Array

EPS = float(np.finfo(np.float64).eps)
SMALLEST_SUBNORMAL = float(np.finfo(np.float64).smallest_subnormal)
MIN_SAFE_SQUARE = 2.0**-900  # a smaller sum of squares may have lost terms to underflow
STANDARD_DEVIATIONS = 8  # half-width of all bounds

NOISE_POINTS = 9  # sample points for differences of order 4 to 6
PERTURBATION_POINTS = 6  # sample points for second differences
IRREGULAR_FACTOR = 1.618  # so that the errors of the sample points are independent
SPACINGS = IRREGULAR_FACTOR * 2.0 ** -np.array([30, 25, 20])  # too short to span a kink
COARSE_SPACINGS = tuple(IRREGULAR_FACTOR * 2.0 ** -np.array([15, 10]))  # for stepwise functions
PERTURBATION = 2.0**-46  # relative: a few roundings, enough to break all ties

Outputs = tuple[Array, ...]


def norm(arrays: Outputs) -> float:
    """Return the Euclidean norm of all arrays as one vector, without overflow or underflow."""
    return _norm(arrays[0]) if len(arrays) == 1 else hypot(*map(_norm, arrays))


def _norm(array: Array) -> float:
    square = float(np.vdot(array, array).real)
    if MIN_SAFE_SQUARE < square < float("inf"):
        return sqrt(square)
    largest = float(np.max(np.abs(array), initial=0.0))
    if not 0 < largest < float("inf"):
        return largest  # zeros, infinity or NaN
    return largest * float(np.linalg.norm(array / largest))


def root_mean_square(array: Array) -> float:
    """Return the root mean square of an array's entries."""
    return _norm(array) / sqrt(array.size)


def rounding_of(count: int, size: float) -> float:
    """Return a bound on the rounding error of a result, from its magnitude and its number of terms.

    Each term may be rounded once, up or down, so the errors add up like a random walk. Where this
    bound is too small, as for terms far larger than their sum, measure rounding with noise_of.
    Numbers below 1e-308 have fewer significant digits, hence the second term.
    """
    return STANDARD_DEVIATIONS * sqrt(count) * (EPS * size + SMALLEST_SUBNORMAL)


def noise_of(
    function: Callable[[float], float], spacings: Iterable[float] = tuple(SPACINGS)
) -> float:
    """Return a bound on the rounding error of a smooth function, measured near 0.

    Over a few close points the function is nearly linear. High-order differences then contain only
    rounding errors, which are independent from point to point: the k-th difference of values with
    variance s**2 has variance comb(2 k, k) s**2, and from k = 4 on the function's own curvature is
    negligible. The measurement includes errors that the magnitude of the result does not reveal,
    such as those of cancellation inside the function.

    If the spacing were a power of two, all points would have the same rounding error; hence the
    factor 1.618. Where rounding is coarse, as for 1 - s * s near s = 1, close points all have the
    same value; then the spacing is widened. A kink between points would look like rounding, so the
    two sides of 0 are measured separately and the smaller result counts. 0 itself, where numbers
    may be tied, is left out.
    """
    noise, flat = 0.0, False
    for spacing in spacings:
        sides = list(_values_on_both_sides(function, spacing))
        flat = all(len(np.unique(side)) < NOISE_POINTS for side in sides)
        noise = max(noise, min(map(_rounding_deviation, sides)))
    for spacing in COARSE_SPACINGS if flat else ():
        with suppress(Exception):  # this far from 0 the function may fail
            sides = list(_values_on_both_sides(function, spacing))
            noise = max(noise, min(map(_rounding_deviation, sides)))
    return STANDARD_DEVIATIONS * noise


def _values_on_both_sides(
    function: Callable[[float], float], spacing: float, points: int = NOISE_POINTS
) -> Iterator[Array]:
    """Yield a function's values at points above 0, then at points below 0."""
    for sign in (1, -1):
        yield np.array([function(sign * i * spacing) for i in range(1, points + 1)])


def noise_around(function: Callable[[float], float], t: float) -> float:
    """Return a bound on the rounding error of a smooth function, measured near t."""
    return noise_of(lambda d: function(t * (1 + d)), SPACINGS[2:])


def coarse_noise(function: Callable[[float], float], bound: Callable[[float], float]) -> float:
    """Return the rounding error of a function far from 0 where it exceeds a bound, or 0.

    If the error exceeds the bound, terms cancel inside the function, and rounding is just as coarse
    near 0. The spacing grows until the points have different values.
    """
    noise, flat, spacing = 0.0, True, COARSE_SPACINGS[0] / 32
    while spacing < COARSE_SPACINGS[-1] or (flat and spacing < 1 / 2):
        spacing *= 32
        sides = [
            side
            for side in _values_on_both_sides(function, spacing)
            if len(np.unique(side)) == NOISE_POINTS
        ]
        flat = not sides
        measured = STANDARD_DEVIATIONS * min(map(_rounding_deviation, sides), default=0.0)
        noise = max(noise, measured if measured > bound(NOISE_POINTS * spacing) else 0.0)
    return noise


def noise_under_perturbation(function: Callable[[float], float]) -> float:
    """Return a bound on the rounding error of a function of a relative perturbation of its inputs.

    The perturbations are hardly larger than rounding errors. Over such a short range the function
    is linear, and its second differences contain only rounding errors. Ties may break either way,
    so the side with the smaller second differences counts.
    """
    sides = _values_on_both_sides(function, PERTURBATION, PERTURBATION_POINTS)
    return STANDARD_DEVIATIONS * min(_rounding_deviation(side, (2,)) for side in sides)


def _rounding_deviation(values: Array, orders: Iterable[int] = (4, 5, 6)) -> float:
    """Return the standard deviation of the rounding errors in evenly spaced function values."""
    largest = float(np.max(np.abs(values)))
    if not 0 < largest < float("inf"):
        return largest  # zeros, infinity or NaN
    values = values / largest  # so that squares neither overflow nor underflow
    squares = [(np.diff(values, k) ** 2).mean() / comb(2 * k, k) for k in orders]
    return largest * float(np.sqrt(min(squares)))

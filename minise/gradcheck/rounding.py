"""What rounding costs: bounds from how many numbers an op has, and measurements where they fail.

Source: Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 33
(2011), for noise_of.
"""

from collections.abc import Callable
from math import comb, hypot, sqrt

import numpy as np

from minise.ops.checks import Array

EPS = float(np.finfo(np.float64).eps)
TINIEST = float(np.finfo(np.float64).smallest_subnormal)
LEAST = 2.0**-900  # of a sum of squares: below it squares may have underflowed
SURE = 8  # standard deviations

POINTS = 9  # of the line on which rounding is measured
IRREGULAR = 1.618  # so that every number on the way is rounded in its own way
SPACINGS = IRREGULAR * 2.0 ** -np.array([30, 25, 20])  # short, for no kink to lie between

Outputs = tuple[Array, ...]


def norm(arrays: Outputs) -> float:
    """Return the Euclidean norm of all numbers as one vector, without overflow or underflow."""
    return _norm(arrays[0]) if len(arrays) == 1 else hypot(*map(_norm, arrays))


def _norm(array: Array) -> float:
    square = float(np.vdot(array, array).real)
    if LEAST < square < float("inf"):
        return sqrt(square)
    largest = float(np.max(np.abs(array), initial=0.0))
    if not 0 < largest < float("inf"):
        return largest  # zeros, infinity or NaN
    return largest * float(np.linalg.norm(array / largest))


def root_mean_square(array: Array) -> float:
    """Return the typical size of an array's numbers."""
    return _norm(array) / sqrt(array.size)


def rounding_of(count: int, size: float) -> float:
    """Return what rounding costs a result of some size that is computed from `count` numbers.

    Each may be rounded once, up or down, so the errors add up as a random walk does. Where that is
    not enough, as with terms far larger than their sum, rounding has to be measured (noise_of).
    Numbers below 1e-308 keep fewer digits, hence the second term.
    """
    return SURE * sqrt(count) * (EPS * size + TINIEST)


def noise_of(function: Callable[[float], float], far: float = 0.0) -> float:
    """Return a bound on the rounding of a smooth function, measured near 0.

    Between a few neighbouring points the function is nearly straight. Differences of differences
    then leave nothing but rounding, which is independent from point to point: the k-th difference
    of numbers of variance s**2 has variance comb(2 k, k) s**2. This sees what the size of the
    result does not show, such as cancellation inside.

    Points too near to each other would round alike, hence the irregular spacing. A kink between
    them would look like rounding; therefore both sides of 0 are measured, and 0 itself, where
    numbers may be tied, is not. `far` is a distance within which there is no kink, where known.
    """
    spacings = [IRREGULAR * far / 2 / POINTS] if far else SPACINGS
    return SURE * max(
        min(_deviation(function, spacing), _deviation(function, -spacing)) for spacing in spacings
    )


def _deviation(function: Callable[[float], float], spacing: float) -> float:
    values = np.array([function(i * spacing) for i in range(1, POINTS + 1)])
    largest = float(np.max(np.abs(values)))
    if not 0 < largest < float("inf"):
        return largest  # zeros, infinity or NaN
    values = values / largest  # their squares neither overflow nor underflow
    squares = [(np.diff(values, k) ** 2).mean() / comb(2 * k, k) for k in range(4, 7)]
    # differences of lower order would leave the function's own curvature
    return largest * float(np.sqrt(min(squares)))

"""Bound what rounding costs by how many numbers an op has, and measure it where that fails.

Source: Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 33
(2011), for noise_of.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from math import comb, hypot, sqrt

import numpy as np

from minise.ops.checks import Array

EPS = float(np.finfo(np.float64).eps)
TINIEST = float(np.finfo(np.float64).smallest_subnormal)
LEAST = 2.0**-900  # of a sum of squares: below it squares may have underflowed
SURE = 8  # standard deviations

POINTS, FEWER = 9, 6  # of a line on which rounding is measured, by high and second differences
IRREGULAR = 1.618  # so that every number on the way is rounded in its own way
SPACINGS = IRREGULAR * 2.0 ** -np.array([30, 25, 20])  # short, for no kink to lie between
STAIRS = tuple(IRREGULAR * 2.0 ** -np.array([15, 10]))  # long, to climb stairs of rounding
SHARE = 2.0**-46  # of numbers, some roundings: so that all ties are broken

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


def noise_of(
    function: Callable[[float], float], spacings: Iterable[float] = tuple(SPACINGS)
) -> float:
    """Return a bound on the rounding of a smooth function, measured near 0.

    Between a few neighbouring points the function is nearly straight. Differences of differences
    then leave nothing but rounding, which is independent from point to point: the k-th difference
    of numbers of variance s**2 has variance comb(2 k, k) s**2, and from k = 4 on little is left of
    the function's own curvature. This sees what the size of the result does not show, such as
    cancellation inside.

    Points too near to each other would round alike, hence the irregular spacing; and where rounding
    is coarse, as of 1 - s * s near s = 1, they lie on one stair: then the points are spread out. A
    kink between them would look like rounding; therefore both sides of 0 are measured, and 0
    itself, where numbers may be tied, is not.
    """
    noise, flat = 0.0, False
    for spacing in spacings:
        sides = list(_sides(function, spacing))
        flat = all(len(np.unique(side)) < POINTS for side in sides)
        noise = max(noise, min(map(_deviation, sides)))
    for spacing in STAIRS if flat else ():
        with suppress(Exception):  # so far from 0 the function may fail
            noise = max(noise, min(map(_deviation, _sides(function, spacing))))
    return SURE * noise


def _sides(
    function: Callable[[float], float], spacing: float, points: int = POINTS
) -> Iterator[Array]:
    """Yield a function's values at points on either side of 0."""
    for sign in (1, -1):
        yield np.array([function(sign * i * spacing) for i in range(1, points + 1)])


def noise_around(function: Callable[[float], float], t: float) -> float:
    """Return a bound on the rounding of a smooth function, measured near t."""
    return noise_of(lambda d: function(t * (1 + d)), SPACINGS[2:])


def coarse_noise(function: Callable[[float], float], bound: Callable[[float], float]) -> float:
    """Return the rounding of a function on a longer way, where it is more than a bound on it.

    Then something cancels inside of the function, and at 0 rounding is as coarse. The way grows as
    long as points lie on one stair.
    """
    noise, flat, spacing = 0.0, True, STAIRS[0] / 32
    while spacing < STAIRS[-1] or (flat and spacing < 1 / 2):
        spacing *= 32
        sides = [side for side in _sides(function, spacing) if len(np.unique(side)) == POINTS]
        flat = not sides
        here = SURE * min(map(_deviation, sides), default=0.0)
        noise = max(noise, here if here > bound(POINTS * spacing) else 0.0)
    return noise


def spread_of(function: Callable[[float], float]) -> float:
    """Return a bound on the rounding of a function of a share by which its numbers are perturbed.

    The shares are nearly as small as roundings are: on so short a way the function is straight, and
    what second differences leave of it is rounding. As ties may be broken in two ways, the side on
    which they leave less counts.
    """
    return SURE * min(_deviation(side, (2,)) for side in _sides(function, SHARE, FEWER))


def _deviation(values: Array, orders: Iterable[int] = (4, 5, 6)) -> float:
    largest = float(np.max(np.abs(values)))
    if not 0 < largest < float("inf"):
        return largest  # zeros, infinity or NaN
    values = values / largest  # their squares neither overflow nor underflow
    squares = [(np.diff(values, k) ** 2).mean() / comb(2 * k, k) for k in orders]
    return largest * float(np.sqrt(min(squares)))

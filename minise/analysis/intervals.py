"""Confidence intervals of means, from Student's t distribution.

The distribution function for a whole number of degrees of freedom n is a finite sum in the angle
theta = atan(t / sqrt(n)); the quantile is found by bisection.

Source: Abramowitz and Stegun, "Handbook of Mathematical Functions", 26.7.3 and 26.7.4.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from minise.checks import check_integer, check_number

HALVINGS = 200  # of the bisection: until the interval has no number inside


class Mean(NamedTuple):
    """The mean of a sample, with a confidence interval."""

    mean: float
    deviation: float  # standard deviation of the sample, with n - 1
    low: float
    high: float
    n: int


def mean_interval(values: Sequence[float], confidence: float = 0.95) -> Mean:
    """Return the mean of independent values and its t interval.

    Parameters
    ----------
    values : sequence of float
        At least two values, assumed independent and normally distributed.
    confidence : float
        Probability that the interval contains the true mean, between 0 and 1.

    Raises
    ------
    ValueError, TypeError
        If there are fewer than two values, or confidence is not a number between 0 and 1.

    Examples
    --------
    >>> interval = mean_interval([1.0, 2.0, 3.0])
    >>> round(interval.mean, 3), round(interval.low, 3), round(interval.high, 3)
    (2.0, -0.484, 4.484)
    """
    n = len(values)
    if n < 2:
        raise ValueError(f"mean_interval: values has {n} entries, expected at least 2: add values")
    mean = math.fsum(values) / n
    deviation = math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (n - 1))
    half = half_width(deviation, n, confidence)
    return Mean(mean, deviation, mean - half, mean + half, n)


def half_width(deviation: float, n: int, confidence: float = 0.95) -> float:
    """Return half the width of the t interval of n values with a standard deviation."""
    return t_quantile(n - 1, confidence) * deviation / math.sqrt(n)


def t_quantile(degrees: int, confidence: float = 0.95) -> float:
    """Return the t with P(-t < T < t) = confidence, for Student's T with `degrees` of freedom.

    Raises
    ------
    ValueError, TypeError
        If degrees is not an integer from 1, or confidence is not a number between 0 and 1.

    Examples
    --------
    >>> round(t_quantile(2), 3), round(t_quantile(9), 3)
    (4.303, 2.262)
    """
    degrees = check_integer("t_quantile", "degrees", degrees, 1)
    confidence = check_number(
        "t_quantile", "confidence", confidence, "a number from 0 to 0.999999", 0, 0.999999
    )
    low, high = 0.0, math.pi / 2  # angles theta
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if _central_probability(middle, degrees) < confidence:
            low = middle
        else:
            high = middle
    return math.sqrt(degrees) * math.tan(low)


def _central_probability(theta: float, degrees: int) -> float:
    """Return P(-t < T < t), for t = sqrt(degrees) tan(theta)."""
    cosine, odd = math.cos(theta), degrees % 2
    term, total = (cosine if odd else 1.0), 0.0
    for k in range(1 + odd, degrees, 2):  # products of ratios, such as (1 3) / (2 4) cos^4
        total += term
        term *= cosine * cosine * k / (k + 1)
    total *= math.sin(theta)
    return (theta + total) * 2 / math.pi if odd else total

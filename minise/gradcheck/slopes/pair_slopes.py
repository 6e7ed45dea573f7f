"""Compute the slopes of a pair's forward by the method that the mode of the check selects."""

import numpy as np

from minise.checks import Array
from minise.gradcheck.slopes.arrays import host
from minise.gradcheck.slopes.complex_steps import ComplexSteps
from minise.gradcheck.slopes.differences import (
    NO_SLOPE,
    STEPS,
    Branches,
    Differences,
    Slope,
    complex_slope,
    complex_step_for,
    largest_smooth_slope,
    linear_slope,
    refined_complex_slope,
)
from minise.gradcheck.slopes.evidence import MAX_REL_TOLERANCE
from minise.gradcheck.slopes.pair import Pair
from minise.gradcheck.slopes.rounding import root_mean_square

AGREEMENT_REL_TOL = 2.0**-20  # smaller than a part of the derivative that abs or .real drops


class PairSlopes:
    """Slopes of <dout, out> with respect to one input of a pair.

    Parameters
    ----------
    pair : Pair
        Forward and its inputs.
    mode : {"auto", "directional", "complex_step", "jacobian"}
        "complex_step" takes complex steps, all other modes take differences. "auto" falls back on
        complex steps where they can be trusted.
    branches : callable, optional
        Maps a cache to the branches that forward took.
    linear : set of int
        Indices of the inputs in which forward is linear: they take one step of 1.

    Attributes
    ----------
    fallback : ComplexSteps or None
        Complex steps for gradients that differences cannot resolve; None outside mode "auto".
    kink_free : bool
        True if branches are known, so that no difference is taken across a kink.
    """

    def __init__(self, pair: Pair, mode: str, branches: Branches | None, linear: set[int]) -> None:
        self.pair, self._branches, self._linear = pair, branches, linear
        self._complex = mode == "complex_step"
        self.fallback = ComplexSteps(pair, branches) if mode == "auto" else None
        self.kink_free = branches is not None
        self._complex_steps = [
            complex_step_for(root_mean_square(host(value))) if value is not None else 0.0
            for value in pair.inputs
        ]
        self._slopes_by_complex_step: dict[int, tuple[Array, float]] = {}  # direction, slope

    def takes_one_step(self, k: int) -> bool:
        """Return True if input k takes one step, complex or linear, without truncation error."""
        return self._complex or k in self._linear

    def takes_complex_step(self, k: int) -> bool:
        """Return True if the single step of input k is complex, not linear."""
        return k not in self._linear

    def by_one_step(self, k: int, u: Array) -> Slope:
        """Return forward's slope along u by one complex or linear step."""
        douts, count = self.pair.douts, self.pair.count
        if k in self._linear:
            return linear_slope(self.pair.line({k: u}), douts, count)
        line = self.pair.line({k: u}, complex_step=True)
        slope = complex_slope(line, douts, count, self._complex_steps[k])
        self._slopes_by_complex_step.setdefault(k, (u, slope.value))
        return slope

    def refined(self, k: int, u: Array) -> Slope:
        """Return forward's slope along u by a complex step, with its truncation error."""
        line, douts = self.pair.line({k: u}, complex_step=True), self.pair.douts
        return refined_complex_slope(line, douts, self.pair.count, self._complex_steps[k])

    def differences(self, k: int, u: Array) -> Differences:
        """Return the differences along u, at steps of any size."""
        pair = self.pair
        start = (pair.outs, pair.cache)
        return Differences(pair.line({k: u}), pair.douts, pair.count, start, self._branches)

    def best(self, k: int, u: Array) -> Slope:
        """Return forward's slope along u by the most exact method available."""
        if self.takes_one_step(k):
            return self.by_one_step(k, u)
        by_complex_step = self.fallback.slope(k, u) if self.fallback else None
        return by_complex_step or largest_smooth_slope(self.differences(k, u))

    def gradient(self, k: int) -> Array:
        """Return the gradient of <dout, out> with respect to input k, 0 where no slope exists."""
        slopes = np.zeros(host(self.pair.inputs[k]).shape)
        for index, u, length in self.pair.entries(k):
            slope = self.best(k, u).value / length
            slopes[index] = slope if np.isfinite(slope) else 0.0
        return slopes

    def drops_imaginary_part(self, k: int) -> bool:
        """Return True if the complex step of input k disagrees with differences."""
        if k not in self._slopes_by_complex_step:
            return False
        u, expected = self._slopes_by_complex_step[k]
        differences = self.differences(k, u)
        slopes = (differences.at(h) or NO_SLOPE for h in STEPS)
        best = min((slope for slope in slopes if slope.smooth), key=_uncertainty, default=NO_SLOPE)
        if not _uncertainty(best) <= MAX_REL_TOLERANCE * abs(best.value):
            return False
        return abs(best.value - expected) > _uncertainty(best) + AGREEMENT_REL_TOL * abs(expected)


def _uncertainty(slope: Slope) -> float:
    """Return the error bound of a slope, possible kinks included."""
    return slope.error + slope.kink

"""The slopes of a pair's forward, computed as the mode of the check asks."""

import numpy as np

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
    largest_smooth,
    linear_slope,
    refined_complex_slope,
)
from minise.gradcheck.slopes.evidence import RESOLVED
from minise.gradcheck.slopes.pair import Pair
from minise.gradcheck.slopes.rounding import root_mean_square
from minise.ops.checks import Array

CLOSE = 2.0**-20  # of a slope, beside what a difference may lose: a part that abs drops is larger


class PairSlopes:
    """Slopes of <dout, out> where one input of a pair moves.

    Parameters
    ----------
    pair : Pair
        Forward, and where it is looked at.
    mode : {"auto", "directional", "complex_step", "jacobian"}
        "complex_step" for complex steps, all others for differences. "auto" has complex steps as a
        second way, where they can be believed.
    branches : callable, optional
        From a cache to the sides of its kinks.
    linear : set of int
        The inputs in which forward is linear: by one step of 1.

    Attributes
    ----------
    second : ComplexSteps or None
        The second way.
    kink_free : bool
        Whether no difference is taken across a kink, as branches are known.
    """

    def __init__(self, pair: Pair, mode: str, branches: Branches | None, linear: set[int]) -> None:
        self.pair, self._branches, self._linear = pair, branches, linear
        self._complex = mode == "complex_step"
        self.second = ComplexSteps(pair, branches) if mode == "auto" else None
        self.kink_free = branches is not None
        self._complex_steps = [
            complex_step_for(root_mean_square(host(value))) if value is not None else 0.0
            for value in pair.inputs
        ]
        self._steps: dict[int, tuple[Array, float]] = {}  # complex ones: direction and slope

    def is_exact(self, k: int) -> bool:
        """Tell whether slopes of input k are found by one step that leaves nothing out."""
        return self._complex or k in self._linear

    def is_complex(self, k: int) -> bool:
        """Tell whether that step is complex."""
        return k not in self._linear

    def by_one_step(self, k: int, u: Array) -> Slope:
        """Return forward's slope along u by such a step."""
        douts, count = self.pair.douts, self.pair.count
        if k in self._linear:
            return linear_slope(self.pair.line({k: u}), douts, count)
        line = self.pair.line({k: u}, complex_step=True)
        slope = complex_slope(line, douts, count, self._complex_steps[k])
        self._steps.setdefault(k, (u, slope.value))
        return slope

    def refined(self, k: int, u: Array) -> Slope:
        """Return forward's slope along u by a complex step, and what that leaves out."""
        line, douts = self.pair.line({k: u}, complex_step=True), self.pair.douts
        return refined_complex_slope(line, douts, self.pair.count, self._complex_steps[k])

    def differences(self, k: int, u: Array) -> Differences:
        """Return the differences along u, at steps of any size."""
        pair = self.pair
        start = (pair.outs, pair.cache)
        return Differences(pair.line({k: u}), pair.douts, pair.count, start, self._branches)

    def best(self, k: int, u: Array) -> Slope:
        """Return forward's slope along u, by the way that is most exact here."""
        if self.is_exact(k):
            return self.by_one_step(k, u)
        by_complex_step = self.second.slope(k, u) if self.second else None
        return by_complex_step or largest_smooth(self.differences(k, u))

    def gradient(self, k: int) -> Array:
        """Return forward's slope along every entry of input k; zero where there is none."""
        slopes = np.zeros(host(self.pair.inputs[k]).shape)
        for index, u, length in self.pair.entries(k):
            slope = self.best(k, u).value / length
            slopes[index] = slope if np.isfinite(slope) else 0.0
        return slopes

    def drops_a_part(self, k: int) -> bool:
        """Tell whether the complex step that input k took does not agree with differences."""
        if k not in self._steps:
            return False
        u, expected = self._steps[k]
        differences = self.differences(k, u)
        slopes = (differences.at(h) or NO_SLOPE for h in STEPS)
        best = min((slope for slope in slopes if slope.smooth), key=_uncertainty, default=NO_SLOPE)
        if not _uncertainty(best) <= RESOLVED * abs(best.value):
            return False
        return abs(best.value - expected) > _uncertainty(best) + CLOSE * abs(expected)


def _uncertainty(slope: Slope) -> float:
    return slope.error + slope.kink

"""Compare one gradient along a direction with slopes at steps of many sizes.

Short steps avoid kinks, long steps suppress rounding errors. A short step refutes a longer one if
its error bound is small against the difference between the two slopes. Where kinks are possible, a
gradient is called wrong only if three steps that span a factor of 64 agree on another slope.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from minise.gradcheck.slopes.differences import Slope

MAX_REL_TOLERANCE = 2.0**-10  # a larger tolerance, relative to the gradient, hides mistakes
MAX_REL_ROUNDING = 2.0**-3  # with more rounding, relative to the slope, a step is useless
LONGER_STEPS = tuple(2.0**k for k in range(-6, 70, 3))  # for gradients below forward's rounding
SHORTER_STEPS = tuple(2.0**-k for k in range(39, 400, 6))  # for kinks very close to the input


@dataclass(frozen=True)
class Evidence:
    """A gradient along a direction u and the slopes of forward along u."""

    exact: float  # <gradient, u> from backward
    backward_rounding: float  # bound on the rounding error of exact
    size: float = 0.0  # typical |<gradient, u>| over such directions, if known
    slopes: tuple[Slope, ...] = ()  # finite slopes, from the longest step to the shortest
    tried: int = 0  # number of steps
    crossed: int = 0  # number of steps that changed a branch

    def with_slope(self, slope: Slope | None) -> "Evidence":
        """Return the evidence with one more slope, or None for a step that changed a branch."""
        slopes = self.slopes
        if slope is not None and np.isfinite(slope.value):
            slopes = tuple(sorted((*slopes, slope), key=lambda other: -other.step))
        crossed = self.crossed + (slope is None)
        return replace(self, slopes=slopes, tried=self.tried + 1, crossed=crossed)

    def with_only(self, slope: Slope) -> "Evidence":
        """Return the evidence with one slope instead of all others."""
        return replace(self, slopes=(), tried=self.tried - len(self.slopes)).with_slope(slope)

    def with_noise(self, factor: float, minimum: float) -> "Evidence":
        """Return the evidence with the bounds on phi's rounding scaled, and at least a minimum."""
        slopes = (slope.with_noise(max(slope.noise * factor, minimum)) for slope in self.slopes)
        return replace(self, slopes=tuple(slopes))

    def with_backward_rounding(self, noise: float) -> "Evidence":
        """Return the evidence with a measured rounding error of <gradient, u> added."""
        return replace(self, backward_rounding=self.backward_rounding + noise)

    @property
    def best(self) -> Slope:
        """The slope with the smallest error bound, a smooth one if there is one."""
        return min(self.slopes, key=lambda slope: (not slope.smooth, slope.error))

    def gradient_size(self, slope: Slope) -> float:
        """Return the size of the gradient along u: the largest of all known values."""
        return max(abs(self.exact), abs(slope.value), self.size)

    def tolerance(self, slope: Slope) -> float:
        """Return the allowed difference between <gradient, u> and a slope."""
        return slope.error + self.backward_rounding

    def difference(self, slope: Slope) -> float:
        """Return the absolute difference between <gradient, u> and a slope."""
        return abs(self.exact - slope.value)

    def agrees(self, slope: Slope) -> bool:
        """Return True if the difference is within the tolerance."""
        return self.difference(slope) <= self.tolerance(slope)

    def resolves(self, slope: Slope) -> bool:
        """Return True if the slope is exact enough to expose a wrong gradient."""
        return slope.smooth and self.has_small_tolerance(slope)

    def has_small_tolerance(self, slope: Slope) -> bool:
        """Return True if the tolerance, kinks aside, is small against the gradient."""
        return self.tolerance(slope) <= MAX_REL_TOLERANCE * self.gradient_size(slope)

    @property
    def zero(self) -> bool:
        """Whether the gradient and all slopes are exactly zero."""
        flat = all(slope.smooth and not slope.value for slope in self.slopes)
        return self.exact == 0 and bool(self.slopes) and flat

    def confirming_slope(self) -> Slope | None:
        """Return a slope that confirms the gradient, or None.

        It must resolve the gradient, agree with it, and refute all smooth slopes that disagree: its
        step is shorter than theirs, and its tolerance at most a quarter of their difference.
        """
        others = [slope for slope in self.slopes if slope.smooth and not self.agrees(slope)]
        for slope in self.slopes:
            if self.resolves(slope) and self.agrees(slope):
                needed = 4 * self.tolerance(slope)
                if all(o.step > slope.step and needed <= self.difference(o) for o in others):
                    return slope
        return None

    def refuting_slopes(self, longest: float, short: float) -> Sequence[Slope]:
        """Return three slopes that agree with each other but not with the gradient, or ().

        None of the three may show a kink or have a step above `longest`. Every shorter step that
        can detect the difference must show at least half of it, and one of at most `short` must
        detect it.
        """
        shortest_first = self.slopes[::-1]
        for start in range(len(shortest_first) - 2):
            three, shorter = shortest_first[start : start + 3], shortest_first[:start]
            difference = min(map(self.difference, three))
            if three[-1].step > longest:
                return ()
            if not all(slope.smooth and self._detects(slope, difference) for slope in three):
                continue
            values = [slope.value for slope in three]
            uncertainty = max(slope.truncation + slope.kink for slope in three)
            if max(uncertainty, max(values) - min(values)) > difference / 4:
                continue
            detecting = [s for s in (*shorter, three[0]) if self._detects(s, difference)]
            consistent = all(self.difference(slope) >= difference / 2 for slope in detecting)
            if detecting[0].step <= short and consistent:
                return three
        return ()

    def most_exact_near(self, slope: Slope) -> Slope:
        """Return the slope with the smallest error bound among those close to a given slope.

        Close means within a quarter of the given slope's difference from the gradient.
        """
        radius = self.difference(slope) / 4
        return min(
            (other for other in self.slopes if abs(other.value - slope.value) <= radius),
            key=lambda other: other.error,
        )

    def _detects(self, slope: Slope, difference: float) -> bool:
        """Return True if a difference is well above the rounding errors of a slope."""
        return 8 * (slope.rounding + self.backward_rounding) <= difference

    def is_hidden_by(self, noise: float, h: float) -> bool:
        """Return True if the rounding error of phi would hide the slope over a step h."""
        largest = max(map(self.gradient_size, self.slopes))
        return 6 * noise > MAX_REL_ROUNDING * largest * h

    def needs_longer_steps(self) -> bool:
        """Return True if a step longer than all others may resolve the gradient better."""
        if not self.slopes or sum(map(self.resolves, self.slopes)) >= 3:
            return False
        longest = self.slopes[0]
        # below a step of 1, rounding that is not measured yet may look like a kink
        if longest.step >= 1 and not longest.smooth:
            return False
        tolerance = MAX_REL_TOLERANCE * self.gradient_size(longest)
        return longest.truncation <= longest.rounding + tolerance

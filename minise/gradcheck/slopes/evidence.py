"""What differences at steps of many sizes tell about a gradient along one direction.

Short steps tell more about kinks, long ones about rounding. So a short step may refute a long one,
if it resolves what the long one claims. And three steps that span a factor of 64 have to agree on
another slope before a gradient can be wrong.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from minise.gradcheck.slopes.differences import Slope

RESOLVED = 2.0**-10  # of a gradient: an allowance above this could hide a mistake
VISIBLE = 2.0**-3  # of a slope: with more rounding than this a step tells nothing
LONGER = tuple(2.0**k for k in range(-6, 70, 3))  # steps, for gradients below forward's rounding
SHORTER = tuple(2.0**-k for k in range(39, 400, 6))  # for kinks that are very near


@dataclass(frozen=True)
class Evidence:
    """A gradient along a direction beside forward's slopes there."""

    exact: float  # <gradient, u>
    own: float  # bound on its rounding
    size: float = 0.0  # of the gradient along such a direction, where more is known of it
    slopes: tuple[Slope, ...] = ()  # that are finite, from the longest step to the shortest
    tried: int = 0  # steps
    crossed: int = 0  # of them those that changed a branch

    def plus(self, slope: Slope | None) -> "Evidence":
        """Return this with what one more step tells; None of a step that changed a branch."""
        slopes = self.slopes
        if slope is not None and np.isfinite(slope.value):
            slopes = tuple(sorted((*slopes, slope), key=lambda other: -other.step))
        crossed = self.crossed + (slope is None)
        return replace(self, slopes=slopes, tried=self.tried + 1, crossed=crossed)

    def only(self, slope: Slope) -> "Evidence":
        """Return this with one slope in place of all."""
        return replace(self, slopes=(), tried=self.tried - len(self.slopes)).plus(slope)

    def with_noise(self, factor: float, least: float) -> "Evidence":
        """Return this with the rounding of phi as measured: times its bounds, and at least."""
        slopes = (slope.with_noise(max(slope.noise * factor, least)) for slope in self.slopes)
        return replace(self, slopes=tuple(slopes))

    def with_own(self, noise: float) -> "Evidence":
        """Return this with what was measured of the rounding of <gradient, u>."""
        return replace(self, own=self.own + noise)

    @property
    def best(self) -> Slope:
        """The slope with the least error, a smooth one if there is one."""
        return min(self.slopes, key=lambda slope: (not slope.smooth, slope.error))

    def size_by(self, slope: Slope) -> float:
        """Return how large the gradient is along the direction, as far as is known."""
        return max(abs(self.exact), abs(slope.value), self.size)

    def allowed(self, slope: Slope) -> float:
        """Return by how much the gradient and a slope may differ."""
        return slope.error + self.own

    def difference(self, slope: Slope) -> float:
        """Return by how much they do."""
        return abs(self.exact - slope.value)

    def agrees(self, slope: Slope) -> bool:
        """Tell whether that is allowed."""
        return self.difference(slope) <= self.allowed(slope)

    def resolves(self, slope: Slope) -> bool:
        """Tell whether the slope would show a gradient that is wrong."""
        return slope.smooth and self.is_small(slope)

    def is_small(self, slope: Slope) -> bool:
        """Tell whether what is allowed, kinks left aside, is small against the gradient."""
        return self.allowed(slope) <= RESOLVED * self.size_by(slope)

    @property
    def zero(self) -> bool:
        """Whether the gradient is zero and all steps see a slope of zero."""
        flat = all(slope.smooth and not slope.value for slope in self.slopes)
        return self.exact == 0 and bool(self.slopes) and flat

    def agreeing(self) -> Slope | None:
        """Return a slope that resolves the gradient and agrees, if it refutes those that do not.

        It does if its step is shorter, and its allowance a quarter of what they differ by.
        """
        others = [slope for slope in self.slopes if slope.smooth and not self.agrees(slope)]
        for slope in self.slopes:
            if self.resolves(slope) and self.agrees(slope):
                needed = 4 * self.allowed(slope)
                if all(o.step > slope.step and needed <= self.difference(o) for o in others):
                    return slope
        return None

    def refuting(self, longest: float, short: float) -> Sequence[Slope]:
        """Return three slopes that agree with each other, and not with the gradient; or none.

        None of the three may show a kink or have a step above `longest`; no shorter step that could
        see the difference may see less than half of it, and one that is `short` has to see it.
        """
        upwards = self.slopes[::-1]
        for start in range(len(upwards) - 2):
            three, shorter = upwards[start : start + 3], upwards[:start]
            off = min(map(self.difference, three))
            if three[-1].step > longest:
                return ()
            if not all(slope.smooth and self._sees(slope, off) for slope in three):
                continue
            values = [slope.value for slope in three]
            bend = max(slope.truncation + slope.kink for slope in three)
            if max(bend, max(values) - min(values)) > off / 4:
                continue
            seeing = [slope for slope in (*shorter, three[0]) if self._sees(slope, off)]
            if seeing[0].step <= short and all(self.difference(s) >= off / 2 for s in seeing):
                return three
        return ()

    def most_exact_near(self, slope: Slope) -> Slope:
        """Return the most exact slope of those that are far nearer to one than the gradient is."""
        near = self.difference(slope) / 4
        return min(
            (other for other in self.slopes if abs(other.value - slope.value) <= near),
            key=lambda other: other.error,
        )

    def _sees(self, slope: Slope, difference: float) -> bool:
        return 8 * (slope.rounding + self.own) <= difference

    def hides(self, noise: float, h: float) -> bool:
        """Tell whether rounding of phi hides all that a step could see, as far as is known."""
        largest = max(map(self.size_by, self.slopes))
        return 6 * noise > VISIBLE * largest * h

    def wants_longer_steps(self) -> bool:
        """Tell whether a step longer than all others may still resolve the gradient better."""
        if not self.slopes or sum(map(self.resolves, self.slopes)) >= 3:
            return False
        longest = self.slopes[0]
        if longest.step >= 1 and not longest.smooth:  # before, rounding may not be measured yet
            return False
        return longest.truncation <= longest.rounding + RESOLVED * self.size_by(longest)

"""From a gradient and runs of forward to a verdict: right, wrong, or could not be checked.

A gradient is right if it agrees with forward's slope along a random direction, to within what
arithmetic loses, and only if that allowance is small against it: otherwise a wrong one would have
agreed as well. It is wrong if the two differ by more than arithmetic and kinks together explain.
Whatever lies between could not be checked, for one of two reasons:

    rounding    forward loses more digits than a change of that size has, as in 1e20 + sin(x)
    a kink      no step is short enough to stay on the input's side of a kink, and long enough
                to be felt, as in a ReLU net whose weights and activations are about 1e-6

Most gradients are right at the first step. For the others a complex step is tried, where it can be
believed (complex_steps.py), and then differences at steps of all sizes (evidence.py). Where
branches are not told, the steps that speak against a gradient must also show no kink along other
random directions: along one of them two kinks on opposite sides of the input may cancel.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from minise.gradcheck.arrays import host
from minise.gradcheck.complex_steps import ComplexSteps
from minise.gradcheck.evidence import LONGER, SHORTER, Evidence
from minise.gradcheck.pair import Pair
from minise.gradcheck.report import KINK, RIGHT, ROUNDING, UNCHECKED, WRONG
from minise.gradcheck.rounding import EPS, SURE, TINIEST, noise_of, norm, rounding_of
from minise.gradcheck.slopes import (
    NO_SLOPE,
    STEPS,
    Branches,
    Differences,
    Slope,
    complex_slope,
    largest_smooth,
    linear_slope,
    phi,
)
from minise.ops.checks import Array

HOPELESS = 2.0**-13  # of a slope: a larger difference is not due to rounding
DIRECTIONS = 6  # more, along which a kink is looked for before a gradient is called wrong
LOCAL, SHORT = 2.0**-6, 2.0**-14  # steps, relative to the size of an input
UNKNOWN = 2.0**-36  # a step that is short beside an input of zeros
CLOSE = 2.0**-13  # of a slope: a part that abs or .real drops is larger


class Finding(NamedTuple):
    """A verdict about a gradient along one direction, and what it rests on."""

    verdict: str
    evidence: Evidence
    slope: Slope  # that decided

    @property
    def allowed(self) -> float:
        """By how much the gradient and the slope may differ."""
        return self.evidence.allowed(self.slope)

    @property
    def resolved(self) -> float:
        """The same as a share of the gradient; 0 for zero against zero."""
        size = self.evidence.size_by(self.slope)
        return 0.0 if self.verdict == RIGHT and not size else self.allowed / max(size, TINIEST)

    @property
    def reason(self) -> str:
        """Why the gradient could not be checked, or nothing if it was."""
        if self.verdict != UNCHECKED:
            return ""
        evidence = self.evidence
        resolved = any(evidence.is_small(one) for one in evidence.slopes)
        return KINK if resolved or not evidence.slopes else ROUNDING


class Judge:
    """Compares the gradients of a pair with forward's slopes.

    Parameters
    ----------
    pair : Pair
        With its gradients.
    mode : {"auto", "directional", "complex_step", "jacobian"}
        How slopes are found. "auto": by differences, and where those cannot tell by a complex
        step, if forward is seen to take one.
    branches : callable, optional
        From a cache to the sides of its kinks.
    linear : set of int
        The inputs in which forward is linear.
    """

    def __init__(self, pair: Pair, mode: str, branches: Branches | None, linear: set[int]) -> None:
        self.pair, self._branches, self._linear = pair, branches, linear
        self._complex = mode == "complex_step"
        self._second = ComplexSteps(pair, branches) if mode == "auto" else None
        self._steps: dict[int, tuple[Array, float]] = {}  # complex ones: direction and slope

    def compare(self, k: int, u: Array, size: float = 0.0, *, cheaply: bool = False) -> Finding:
        """Compare the gradient of input k with forward's slope along u.

        Parameters
        ----------
        k, u : int, ndarray
            The input, and a direction of its shape.
        size : float
            How large the gradient is along such directions, where more of them are compared.
        cheaply : bool
            Whether a gradient may be called wrong without a second look.
        """
        gradient = host(self.pair.gradients[k])
        length = norm((u,))
        rounding = rounding_of(self.pair.count, norm((gradient,)) * length)
        evidence = Evidence(float(np.vdot(gradient, u)), rounding, size)
        if self._complex or k in self._linear:
            return self._by_one_step(k, u, evidence.plus(self._one_step(k, u)), cheaply=cheaply)
        differences = self._differences(k, u)
        moved = abs(evidence.exact) * min(1.0, norm((host(self.pair.inputs[k]),)) / length)
        first = evidence.plus(differences.at(STEPS[0], moved))
        if slope := first.agreeing():
            return Finding(RIGHT, first, slope)
        if first.zero and self._input_size(k):  # a step far longer than the input may miss it
            first = first.plus(differences.at(STEPS[0] * self._input_size(k), moved))
        if first.zero:
            return self._zero(k, u, first)
        if self._second and (slope := self._second.slope(k, u)):
            return self._by_one_step(k, u, first.only(slope), cheaply=cheaply)
        if cheaply and first.slopes and not first.agrees(first.best):
            return Finding(WRONG, first, first.best)
        return self._by_all_steps(k, u, first, differences, moved)

    def slope(self, k: int, u: Array) -> Slope:
        """Return forward's slope along u, by the way that is most exact here."""
        if self._complex or k in self._linear:
            return self._one_step(k, u)
        by_complex_step = self._second.slope(k, u) if self._second else None
        return by_complex_step or largest_smooth(self._differences(k, u))

    def gradient(self, k: int) -> Array:
        """Return forward's slope along every entry of input k; zero where there is none."""
        slopes = np.zeros(host(self.pair.inputs[k]).shape)
        for place, u, length in self.pair.entries(k):
            slope = self.slope(k, u).value / length
            slopes[place] = slope if np.isfinite(slope) else 0.0
        return slopes

    def is_analytic(self) -> bool:
        """Tell whether a difference agrees with the complex steps that were taken, all at once."""
        if not self._steps:
            return True
        pair, expected = self.pair, sum(slope for _, slope in self._steps.values())
        size = sum(abs(slope) for _, slope in self._steps.values())
        line = pair.line({k: u for k, (u, _) in self._steps.items()})
        differences = Differences(line, pair.douts, pair.count, (pair.outs, pair.cache))
        told = [slope for h in STEPS[1:] if (slope := differences.at(h)) and slope.smooth]
        close = [abs(one.value - expected) <= one.error + one.kink + CLOSE * size for one in told]
        return any(close) or not close

    def _one_step(self, k: int, u: Array) -> Slope:
        """Return forward's slope by a step that leaves nothing out."""
        find = linear_slope if k in self._linear else complex_slope
        line = self.pair.line({k: u}, complex_step=k not in self._linear)
        slope = find(line, self.pair.douts, self.pair.count)
        if k not in self._linear:
            self._steps.setdefault(k, (u, slope.value))
        return slope

    def _differences(self, k: int, u: Array) -> Differences:
        pair = self.pair
        start = (pair.outs, pair.cache)
        return Differences(pair.line({k: u}), pair.douts, pair.count, start, self._branches)

    def _by_one_step(self, k: int, u: Array, evidence: Evidence, *, cheaply: bool) -> Finding:
        """Judge by a complex step, or by one of a forward that is linear."""
        slope = evidence.best
        if evidence.zero or evidence.agreeing():
            return Finding(RIGHT, evidence, slope)
        if cheaply or self._hopeless(u, evidence):
            return Finding(WRONG, evidence, slope)
        by_complex_step = k not in self._linear
        line = self.pair.line({k: u}, complex_step=by_complex_step, perturb=True)
        noise = noise_of(phi(line, self.pair.douts, complex_step=by_complex_step))
        exact = slope._replace(lost=slope.lost + noise)
        return self._measured(k, u, evidence.only(exact), sure=True)

    def _hopeless(self, u: Array, evidence: Evidence) -> bool:
        """Tell whether two numbers differ by far more than rounding can explain."""
        size, slope = evidence.size_by(evidence.best), evidence.best
        noise = self.pair.count * EPS * norm(self.pair.douts) * norm(self.pair.outs) * norm((u,))
        return evidence.difference(slope) > HOPELESS * size + SURE * noise

    def _by_all_steps(
        self, k: int, u: Array, evidence: Evidence, differences: Differences, moved: float
    ) -> Finding:
        """Judge by steps of many sizes, and by what is measured of rounding."""
        for h in (*STEPS[1:], *SHORTER):
            if evidence.slopes and evidence.hides(differences.noise, h):
                break
            evidence = evidence.plus(differences.at(h, moved))
            if slope := evidence.agreeing():
                return Finding(RIGHT, evidence, slope)
        for h in LONGER:
            if not evidence.wants_longer_steps():
                break
            with np.errstate(all="ignore"):  # so far away forward may overflow
                evidence = evidence.plus(differences.at(h, moved))
            if slope := evidence.agreeing():
                return Finding(RIGHT, evidence, slope)
        if not evidence.slopes:
            return Finding(UNCHECKED, evidence, NO_SLOPE)
        told = self._branches is not None
        evidence = evidence.with_noise(self._noise(k, u, evidence.best, differences.noise))
        if slope := evidence.agreeing():
            return Finding(RIGHT, evidence, slope)
        return self._measured(k, u, evidence, sure=told)

    def _noise(self, k: int, u: Array, best: Slope, bound: float) -> float:
        """Return the rounding of phi as it is measured, as a multiple of its bounds.

        The bounds are one at the input and that of the best slope. Each output is rounded once at
        least, whatever is measured.
        """
        pair = self.pair
        along = noise_of(phi(pair.line({k: u}), pair.douts), best.step)
        perturbed = noise_of(phi(pair.line({k: u}, perturb=True), pair.douts))
        products = tuple(dout * out for dout, out in zip(pair.douts, pair.outs, strict=True))
        least = rounding_of(1, norm(products))
        return max(along / best.noise, perturbed / bound, least / bound)

    def _measured(self, k: int, u: Array, evidence: Evidence, *, sure: bool) -> Finding:
        """Judge by what was measured of forward's rounding, and by backward's.

        sure tells that no kink can lie between the points of a step.
        """
        lost = noise_of(self.pair.gradient_along(k, u))
        evidence = evidence.with_own(lost)
        if slope := evidence.agreeing():
            return Finding(RIGHT, evidence, slope)
        best = evidence.best
        if evidence.agrees(best) and abs(evidence.exact) <= lost:  # zero but for rounding
            return self._zero(k, u, evidence)
        if sure and best.smooth and not evidence.agrees(best):
            return Finding(WRONG, evidence, best)
        three = () if sure else evidence.refuting(*self._local(k))
        if three and self._no_kink(k, u, evidence, three):
            return Finding(WRONG, evidence, evidence.most_exact_near(three[0]))
        return Finding(UNCHECKED, evidence, best)

    def _zero(self, k: int, u: Array, evidence: Evidence) -> Finding:
        """Judge a gradient of zero where no step shows a slope: out may be too large to show it."""
        hidden = self._second and self._second.sees_more_than_rounding(k, u)
        return Finding(UNCHECKED if hidden else RIGHT, evidence, evidence.best)

    def _local(self, k: int) -> tuple[float, float]:
        """Return the longest step that is local, and one that is short for sure.

        Far from an input that is 1e-6 a net may be flat: then all long steps agree, and tell
        nothing of the slope at the input. How near is near shows the size of the input's entries;
        where all are zero it is not known.
        """
        size = self._input_size(k)
        return (LOCAL * size, SHORT * size) if size else (LOCAL, UNKNOWN)

    def _input_size(self, k: int) -> float:
        """Return the root mean square of an input's entries, or 1 if it is larger."""
        value = host(self.pair.inputs[k])
        return min(1.0, norm((value,)) / float(np.sqrt(value.size)))

    def _no_kink(self, k: int, u: Array, evidence: Evidence, three: Sequence[Slope]) -> bool:
        """Tell whether no other direction shows a kink that could explain the difference."""
        rng = np.random.default_rng(k)
        scale = np.maximum(abs(host(self.pair.inputs[k])), 1)
        off = min(map(evidence.difference, three))
        for _ in range(DIRECTIONS):
            other = np.asarray(rng.standard_normal(u.shape) * scale)
            limit = off / 4 * max(1.0, norm((other,)) / norm((u,)))
            differences = self._differences(k, other)
            for one in three:
                slope = (differences.at(one.step) or NO_SLOPE).with_noise(one.noise)
                if not slope.smooth or slope.truncation + slope.kink > limit:
                    return False
        return True

"""Decide from a gradient and runs of forward: right, wrong, or could not be checked.

A gradient is right if it agrees with forward's slope along a random direction, to within what
arithmetic loses, and only if that allowance is small against the gradient: otherwise a wrong
gradient would have agreed as well. It is wrong if the two differ by more than arithmetic and kinks
together explain. Whatever lies between could not be checked, for one of two reasons:

    rounding    forward loses more digits than a change of that size has, as in 1e20 + sin(x)
    a kink      no step is short enough to stay on the input's side of a kink, and long enough
                to be felt, as in a ReLU net whose weights and activations are about 1e-6

Most gradients are right at the first step. For the others a complex step is tried, where it can be
believed (slopes/complex_steps.py), and then differences at steps of all sizes (slopes/evidence.py).
Where branches are not passed, the steps that speak against a gradient must also show no kink along
other random directions: along one of them two kinks on opposite sides of the input may cancel.
"""

import functools
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from minise.gradcheck.report import KINK, RIGHT, ROUNDING, UNCHECKED, WRONG
from minise.gradcheck.slopes.arrays import host
from minise.gradcheck.slopes.differences import NO_SLOPE, STEPS, Differences, Slope, phi
from minise.gradcheck.slopes.evidence import LONGER, RESOLVED, SHORTER, Evidence
from minise.gradcheck.slopes.pair_slopes import PairSlopes
from minise.gradcheck.slopes.rounding import (
    IRREGULAR,
    POINTS,
    SPACINGS,
    TINIEST,
    coarse_noise,
    noise_of,
    norm,
    root_mean_square,
    rounding_of,
    spread_of,
)
from minise.ops.checks import Array

DIRECTIONS = 6  # more, along which a kink is looked for before a gradient is called wrong
LOCAL, SHORT = 2.0**-6, 2.0**-14  # steps, relative to the size of an input
MANY = 4000  # numbers of a pair
CLEAR = 2.0**-4  # of a gradient: no rounding makes such a difference, if it is
LARGE = 2.0**-14  # of the largest gradient around
UNKNOWN = 2.0**-36  # a step that is short beside an input of zeros


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
        zero = self.verdict == RIGHT and size <= self.allowed
        return 0.0 if zero else self.allowed / max(size, TINIEST)

    @property
    def reason(self) -> str:
        """Why the gradient could not be checked, or nothing if it was."""
        if self.verdict != UNCHECKED:
            return ""
        seen = np.isfinite(self.slope.value) and not self.evidence.is_small(self.slope)
        return ROUNDING if seen else KINK


class Judge:
    """Compares the gradients of a pair with forward's slopes."""

    def __init__(self, slopes: PairSlopes) -> None:
        self.slopes, self.pair, self._second = slopes, slopes.pair, slopes.second

    @functools.cached_property
    def _largest(self) -> float:
        """The largest slope along any input's directions, as its gradient has it."""
        pairs = zip(map(host, self.pair.inputs), map(host, self.pair.gradients), strict=True)
        return max(
            norm((gradient,)) * norm((np.maximum(abs(value), 1),))
            for value, gradient in pairs
            if gradient is not None and value is not None and gradient.dtype.kind == "f"
        )

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
        if self.slopes.is_exact(k):
            evidence = evidence.plus(self.slopes.by_one_step(k, u))
            return self._by_one_step(k, u, evidence, cheaply=cheaply)
        differences = self.slopes.differences(k, u)
        moved = abs(evidence.exact) * min(1.0, norm((host(self.pair.inputs[k]),)) / length)
        first = evidence.plus(differences.at(STEPS[0], moved))
        if slope := first.agreeing():
            return Finding(RIGHT, first, slope)
        if first.zero and self._input_size(k):  # a step far longer than the input may miss it
            first = first.plus(differences.at(STEPS[0] * self._input_size(k), moved))
        if first.zero:
            return self._zero(k, u, first, 0.0)
        if self._second and (slope := self._second.slope(k, u)):
            return self._by_one_step(k, u, first.only(slope), cheaply=cheaply)
        if cheaply and first.slopes and not first.agrees(first.best):
            return Finding(WRONG, first, first.best)
        return self._by_all_steps(k, u, first, differences, moved)

    def _by_one_step(self, k: int, u: Array, evidence: Evidence, *, cheaply: bool) -> Finding:
        """Judge by a complex step, or by one of a forward that is linear."""
        slope = evidence.best
        if evidence.zero or evidence.agreeing():
            return Finding(RIGHT, evidence, slope)
        if cheaply or self._is_clear(u, evidence):
            return Finding(WRONG, evidence, slope)
        if self.slopes.is_complex(k):
            slope = self.slopes.refined(k, u)
            line = self.pair.line({k: u}, complex_step=True, perturb=True)
            noise = spread_of(phi(line, self.pair.douts, slope.step))
        else:
            noise = noise_of(phi(self.pair.line({k: u}, perturb=True), self.pair.douts))
        return self._measured(
            k, u, evidence.only(slope._replace(lost=slope.lost + noise)), sure=True
        )

    def _by_all_steps(
        self, k: int, u: Array, evidence: Evidence, differences: Differences, moved: float
    ) -> Finding:
        """Judge by steps of many sizes, and by what is measured of rounding."""
        local = [h * self._input_size(k) for h in STEPS]
        for h in (*STEPS[1:], *(h for h in local if 0 < h < STEPS[-1]), *SHORTER):
            if evidence.slopes and evidence.hides(differences.noise, h):
                break
            evidence = evidence.plus(differences.at(h, moved))
            if slope := evidence.agreeing():
                return Finding(RIGHT, evidence, slope)
        if not evidence.slopes:
            return Finding(UNCHECKED, evidence, NO_SLOPE)
        factor, least = self._noise(k, u, evidence.best, differences)
        measured = evidence.with_noise(factor, least)
        for h in LONGER:
            if measured.agreeing() or not measured.wants_longer_steps():
                break
            with np.errstate(all="ignore"):  # so far away forward may overflow
                slope = differences.at(h, moved) or NO_SLOPE
            if not np.isfinite(slope.value):
                break
            evidence = evidence.plus(slope)
            measured = evidence.with_noise(factor, least)
        if slope := measured.agreeing():
            return Finding(RIGHT, measured, slope)
        if self.slopes.kink_free:
            measured = evidence.with_noise(1.0, least)
        moves = any(slope.value and evidence.resolves(slope) for slope in evidence.slopes)
        return self._measured(k, u, measured, sure=self.slopes.kink_free, moves=moves)

    def _noise(
        self, k: int, u: Array, best: Slope, differences: Differences
    ) -> tuple[float, float]:
        """Return the rounding of phi as it is measured, where it is less than its bounds and more.

        That is a factor of at most 1 for the bounds; and if something cancels inside of forward,
        which the size of out does not tell, what its rounding is at least, at any step.
        """
        pair = self.pair
        line = phi(pair.line({k: u}), pair.douts)
        perturbed = noise_of(phi(pair.line({k: u}, perturb=True), pair.douts))
        products = tuple(dout * out for dout, out in zip(pair.douts, pair.outs, strict=True))
        once = rounding_of(1, norm(products))  # each output is rounded once at least
        measured = (
            (noise_of(line, (IRREGULAR * best.step / 2 / POINTS,)), best.noise),
            (max(perturbed, once), differences.noise),
        )
        factor = max(noise / bound for noise, bound in measured)
        more = [noise for noise, bound in measured if noise > bound]
        with suppress(Exception), np.errstate(all="ignore"):  # outside of forward's domain
            more.append(coarse_noise(line, differences.bound))
        return min(1.0, factor), max(more, default=0.0)

    def _measured(
        self, k: int, u: Array, evidence: Evidence, *, sure: bool, moves: bool = False
    ) -> Finding:
        """Judge by what was measured of forward's rounding, and by backward's.

        sure tells that no kink can lie between the points of a step; moves, that some step would
        resolve a slope if rounding were no more than its bounds.
        """
        gradient = self.pair.gradient_along(k, u)
        spread = spread_of(gradient)
        evidence = evidence.with_own(spread)
        # a longer way leads a large net over kinks, which look like rounding
        spacings = SPACINGS if self.pair.count <= MANY else SPACINGS[:1]
        evidence = evidence.with_own(noise_of(gradient, spacings))
        if slope := evidence.agreeing():
            return Finding(RIGHT, evidence, slope)
        best = evidence.best
        least = evidence.own if evidence.exact == 0 else rounding_of(self.pair.count, self._largest)
        flat = best.smooth and abs(best.value) <= max(best.error, least)
        if flat and not moves and abs(evidence.exact) <= spread:  # zero, but for rounding
            return self._zero(k, u, evidence, spread)
        if sure and best.smooth and not evidence.agrees(best):
            return Finding(WRONG, evidence, best)
        three = () if sure else evidence.refuting(*self._local(k))
        if three and self._no_kink(k, u, evidence, three):
            return Finding(WRONG, evidence, evidence.most_exact_near(three[0]))
        local = [slope for slope in evidence.slopes if slope.step <= STEPS[0]]
        return Finding(UNCHECKED, evidence, min(local or [best], key=lambda slope: slope.error))

    def _is_clear(self, u: Array, evidence: Evidence) -> bool:
        """Tell whether a gradient is far off that is too large to be what cancellation leaves."""
        gradients = (host(gradient) for gradient in self.pair.gradients if gradient is not None)
        around = max(norm(self.pair.douts), *(norm((gradient,)) for gradient in gradients))
        size = evidence.size_by(evidence.best)
        off = evidence.difference(evidence.best)
        large = size > LARGE * around * norm((u,))
        return large and off > max(CLEAR * size, evidence.allowed(evidence.best))

    def _zero(self, k: int, u: Array, evidence: Evidence, lost: float) -> Finding:
        """Judge a gradient of zero where no step shows a slope: out may be too large to show it.

        Then a complex step does, and more of it than what backward loses to rounding; or long steps
        show a slope that forward's rounding would hide from short ones.
        """
        hidden = self._second.surplus(k, u) if self._second else 0.0
        if hidden and not lost:
            lost = spread_of(self.pair.gradient_along(k, u))
        believed = self._second is not None and self._second.slope(k, u) is not None
        if hidden <= lost and not believed and not self.slopes.is_exact(k):
            differences = self.slopes.differences(k, u)
            slope = differences.long_slope(far=evidence.exact == 0)
            hidden = lost + slope if RESOLVED * slope < evidence.best.error else 0.0
        verdict = UNCHECKED if hidden > lost else RIGHT
        return Finding(verdict, evidence, evidence.best)

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
        return min(1.0, root_mean_square(host(self.pair.inputs[k])))

    def _no_kink(self, k: int, u: Array, evidence: Evidence, three: Sequence[Slope]) -> bool:
        """Tell whether no other direction shows a kink that could explain the difference."""
        rng = np.random.default_rng(k)
        scale = np.maximum(abs(host(self.pair.inputs[k])), 1)
        off = min(map(evidence.difference, three))
        for _ in range(DIRECTIONS):
            other = np.asarray(rng.standard_normal(u.shape) * scale)
            tolerance = off / 4 * max(1.0, norm((other,)) / norm((u,)))
            differences = self.slopes.differences(k, other)
            for refuting in three:
                slope = (differences.at(refuting.step) or NO_SLOPE).with_noise(refuting.noise)
                if not slope.smooth or slope.truncation + slope.kink > tolerance:
                    return False
        return True

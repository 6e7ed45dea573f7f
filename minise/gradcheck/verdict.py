"""Decide whether a gradient is right, wrong, or could not be checked.

The gradient is compared with the slope of forward, its derivative along a random direction. It is
right if the two agree within a bound on the numerical errors (the tolerance), and the tolerance is
small against the gradient: with a large tolerance a wrong gradient would agree as well. It is wrong
if the two differ by more than numerical errors and kinks can explain. Otherwise the gradient could
not be checked, for one of two reasons:

    rounding    forward rounds away changes of the gradient's size, as in 1e20 + sin(x)
    a kink      every step is either so long that it crosses a kink, or so short that rounding
                hides it, as in a ReLU net whose weights and activations are about 1e-6

Most gradients are confirmed by the first step. For the others, a complex step is tried if it can be
trusted (slopes/complex_steps.py), then differences at steps of all sizes (slopes/evidence.py).
Without known branches, a gradient is called wrong only if the refuting steps show no kink along
other random directions either: along a single direction, two kinks on opposite sides of the input
may cancel.
"""

import functools
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from minise.checks import Array
from minise.gradcheck.report import KINK, RIGHT, ROUNDING, UNCHECKED, WRONG
from minise.gradcheck.slopes.arrays import host
from minise.gradcheck.slopes.differences import NO_SLOPE, STEPS, Differences, Slope, phi
from minise.gradcheck.slopes.evidence import (
    LONGER_STEPS,
    MAX_REL_TOLERANCE,
    SHORTER_STEPS,
    Evidence,
)
from minise.gradcheck.slopes.pair_slopes import PairSlopes
from minise.gradcheck.slopes.rounding import (
    IRREGULAR_FACTOR,
    NOISE_POINTS,
    SMALLEST_SUBNORMAL,
    SPACINGS,
    coarse_noise,
    noise_of,
    noise_under_perturbation,
    norm,
    root_mean_square,
    rounding_of,
)

KINK_SEARCH_DIRECTIONS = 6  # further directions to search for kinks before the verdict "wrong"
LOCAL_REL_STEP = 2.0**-6  # longest local step, relative to the input's size
SHORT_REL_STEP = 2.0**-14  # a step certainly short enough, relative to the input's size
SHORT_STEP_AT_ZERO = 2.0**-36  # a step certainly short enough if the input is zero
MAX_COUNT_FOR_LONG_SPACINGS = 4000  # entries of a pair
CLEAR_REL_ERROR = 2.0**-4  # rounding never causes such an error in a large gradient
LARGE_REL_SIZE = 2.0**-14  # of a large gradient, relative to the largest gradient or dout


class Finding(NamedTuple):
    """A verdict on a gradient along one direction, with its evidence."""

    verdict: str
    evidence: Evidence
    slope: Slope  # the decisive slope

    @property
    def tolerance(self) -> float:
        """The allowed difference between the gradient and the slope."""
        return self.evidence.tolerance(self.slope)

    @property
    def resolved(self) -> float:
        """The tolerance relative to the gradient; 0 if both derivatives are zero."""
        size = self.evidence.gradient_size(self.slope)
        zero = self.verdict == RIGHT and size <= self.tolerance
        return 0.0 if zero else self.tolerance / max(size, SMALLEST_SUBNORMAL)

    @property
    def reason(self) -> str:
        """Why the gradient could not be checked, or "" if it was."""
        if self.verdict != UNCHECKED:
            return ""
        is_finite = np.isfinite(self.slope.value)
        return ROUNDING if is_finite and not self.evidence.has_small_tolerance(self.slope) else KINK


class Judge:
    """Compares the gradients of a pair with slopes of forward."""

    def __init__(self, slopes: PairSlopes) -> None:
        self.slopes, self.pair, self._fallback = slopes, slopes.pair, slopes.fallback

    @functools.cached_property
    def _largest(self) -> float:
        """The largest directional derivative of any input, estimated from its gradient."""
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
        k : int
            Index of the input.
        u : ndarray
            A direction of the input's shape.
        size : float
            Typical size of <gradient, u> over several such directions, if known.
        cheaply : bool
            Whether a gradient may be called wrong without further, more expensive steps.
        """
        gradient = host(self.pair.gradients[k])
        length = norm((u,))
        rounding = rounding_of(self.pair.count, norm((gradient,)) * length)
        evidence = Evidence(float(np.vdot(gradient, u)), rounding, size)
        if self.slopes.takes_one_step(k):
            evidence = evidence.with_slope(self.slopes.by_one_step(k, u))
            return self._judge_one_step(k, u, evidence, cheaply=cheaply)
        differences = self.slopes.differences(k, u)
        along_input = abs(evidence.exact) * min(1.0, norm((host(self.pair.inputs[k]),)) / length)
        first = evidence.with_slope(differences.at(STEPS[0], along_input))
        if slope := first.confirming_slope():
            return Finding(RIGHT, first, slope)
        if first.zero and self._input_size(
            k
        ):  # a step far longer than the input may miss its slope
            h = STEPS[0] * self._input_size(k)
            first = first.with_slope(differences.at(h, along_input))
        if first.zero:
            return self._judge_zero(k, u, first, 0.0)
        if self._fallback and (slope := self._fallback.slope(k, u)):
            return self._judge_one_step(k, u, first.with_only(slope), cheaply=cheaply)
        if cheaply and first.slopes and not first.agrees(first.best):
            return Finding(WRONG, first, first.best)
        return self._judge_many_steps(k, u, first, differences, along_input)

    def _judge_one_step(self, k: int, u: Array, evidence: Evidence, *, cheaply: bool) -> Finding:
        """Judge by one complex step, or by one step of a linear forward."""
        slope = evidence.best
        if evidence.zero or evidence.confirming_slope():
            return Finding(RIGHT, evidence, slope)
        if cheaply or self._is_clearly_wrong(u, evidence):
            return Finding(WRONG, evidence, slope)
        if self.slopes.takes_complex_step(k):
            slope = self.slopes.refined(k, u)
            line = self.pair.line({k: u}, complex_step=True, perturb=True)
            noise = noise_under_perturbation(phi(line, self.pair.douts, slope.step))
        else:
            noise = noise_of(phi(self.pair.line({k: u}, perturb=True), self.pair.douts))
        slope = slope._replace(other_rounding=slope.other_rounding + noise)
        return self._judge_measured(k, u, evidence.with_only(slope), kink_free=True)

    def _judge_many_steps(
        self, k: int, u: Array, evidence: Evidence, differences: Differences, along_input: float
    ) -> Finding:
        """Judge by differences at many step sizes and by measured rounding errors."""
        local = [h * self._input_size(k) for h in STEPS]
        for h in (*STEPS[1:], *(h for h in local if 0 < h < STEPS[-1]), *SHORTER_STEPS):
            if evidence.slopes and evidence.is_hidden_by(differences.noise, h):
                break
            evidence = evidence.with_slope(differences.at(h, along_input))
            if slope := evidence.confirming_slope():
                return Finding(RIGHT, evidence, slope)
        if not evidence.slopes:
            return Finding(UNCHECKED, evidence, NO_SLOPE)
        factor, minimum = self._noise(k, u, evidence.best, differences)
        measured = evidence.with_noise(factor, minimum)
        for h in LONGER_STEPS:
            if measured.confirming_slope() or not measured.needs_longer_steps():
                break
            with np.errstate(all="ignore"):  # this far away forward may overflow
                slope = differences.at(h, along_input) or NO_SLOPE
            if not np.isfinite(slope.value):
                break
            evidence = evidence.with_slope(slope)
            measured = evidence.with_noise(factor, minimum)
        if slope := measured.confirming_slope():
            return Finding(RIGHT, measured, slope)
        if self.slopes.kink_free:
            measured = evidence.with_noise(1.0, minimum)
        resolved = any(slope.value and evidence.resolves(slope) for slope in evidence.slopes)
        return self._judge_measured(
            k, u, measured, kink_free=self.slopes.kink_free, resolved=resolved
        )

    def _noise(
        self, k: int, u: Array, best: Slope, differences: Differences
    ) -> tuple[float, float]:
        """Return a factor that scales the bounds on phi's rounding, and a minimum for them.

        The factor, at most 1, tightens the bounds where the measured rounding is below them. The
        minimum is the measured rounding where it exceeds them: terms cancel inside forward, which
        the size of out does not show.
        """
        pair = self.pair
        line = phi(pair.line({k: u}), pair.douts)
        perturbed = noise_of(phi(pair.line({k: u}, perturb=True), pair.douts))
        products = tuple(dout * out for dout, out in zip(pair.douts, pair.outs, strict=True))
        once = rounding_of(1, norm(products))  # each output is rounded at least once
        spacing = IRREGULAR_FACTOR * best.step / 2 / NOISE_POINTS
        measured = (
            (noise_of(line, (spacing,)), best.noise),
            (max(perturbed, once), differences.noise),
        )
        factor = max(noise / bound for noise, bound in measured)
        excess = [noise for noise, bound in measured if noise > bound]
        with suppress(Exception), np.errstate(all="ignore"):  # outside forward's domain
            excess.append(coarse_noise(line, differences.bound))
        return min(1.0, factor), max(excess, default=0.0)

    def _judge_measured(
        self, k: int, u: Array, evidence: Evidence, *, kink_free: bool, resolved: bool = False
    ) -> Finding:
        """Judge by the measured rounding errors of forward and of backward.

        Parameters
        ----------
        k, u, evidence
            The input, the direction, and the slopes with forward's measured rounding.
        kink_free : bool
            Whether no kink can lie between the points of a step.
        resolved : bool
            Whether some step resolves a nonzero slope under the bounds on rounding.
        """
        gradient = self.pair.gradient_along(k, u)
        noise = noise_under_perturbation(gradient)
        evidence = evidence.with_backward_rounding(noise)
        # over longer spacings a large net crosses kinks, which look like rounding
        few = self.pair.count <= MAX_COUNT_FOR_LONG_SPACINGS
        spacings = SPACINGS if few else SPACINGS[:1]
        evidence = evidence.with_backward_rounding(noise_of(gradient, spacings))
        if slope := evidence.confirming_slope():
            return Finding(RIGHT, evidence, slope)
        best, minimum = evidence.best, evidence.backward_rounding
        if evidence.exact != 0:
            minimum = rounding_of(self.pair.count, self._largest)
        flat = best.smooth and abs(best.value) <= max(best.error, minimum)
        if flat and not resolved and abs(evidence.exact) <= noise:  # zero up to rounding
            return self._judge_zero(k, u, evidence, noise)
        if kink_free and best.smooth and not evidence.agrees(best):
            return Finding(WRONG, evidence, best)
        refuting = () if kink_free else evidence.refuting_slopes(*self._local_steps(k))
        if refuting and self._has_no_kink(k, u, evidence, refuting):
            return Finding(WRONG, evidence, evidence.most_exact_near(refuting[0]))
        local = [slope for slope in evidence.slopes if slope.step <= STEPS[0]]
        return Finding(UNCHECKED, evidence, min(local or [best], key=lambda slope: slope.error))

    def _is_clearly_wrong(self, u: Array, evidence: Evidence) -> bool:
        """Return True if the error is too large to be the rounding error of a cancellation."""
        gradients = (host(gradient) for gradient in self.pair.gradients if gradient is not None)
        largest = max(norm(self.pair.douts), *(norm((gradient,)) for gradient in gradients))
        size = evidence.gradient_size(evidence.best)
        error = evidence.difference(evidence.best)
        is_large = size > LARGE_REL_SIZE * largest * norm((u,))
        return is_large and error > max(CLEAR_REL_ERROR * size, evidence.tolerance(evidence.best))

    def _judge_zero(self, k: int, u: Array, evidence: Evidence, noise: float) -> Finding:
        """Judge a zero gradient where no step shows a slope, which a large out may hide.

        The gradient could not be checked if a slope exists after all: a complex step shows one
        above backward's rounding error, or long steps show one that forward's rounding would hide
        from short steps.
        """
        hidden = self._fallback.excess_over_rounding(k, u) if self._fallback else 0.0
        if hidden and not noise:
            noise = noise_under_perturbation(self.pair.gradient_along(k, u))
        trusted = self._fallback is not None and self._fallback.slope(k, u) is not None
        if hidden <= noise and not trusted and not self.slopes.takes_one_step(k):
            differences = self.slopes.differences(k, u)
            slope = differences.long_slope(far=evidence.exact == 0)
            hidden = noise + slope if MAX_REL_TOLERANCE * slope < evidence.best.error else 0.0
        verdict = UNCHECKED if hidden > noise else RIGHT
        return Finding(verdict, evidence, evidence.best)

    def _local_steps(self, k: int) -> tuple[float, float]:
        """Return the longest step that counts as local, and a step that is certainly short.

        Far from an input of magnitude 1e-6 a net may be flat; then all long steps agree, but not
        with the slope at the input. The scale is the magnitude of the input's entries; it is
        unknown if all are zero.
        """
        size = self._input_size(k)
        if not size:
            return LOCAL_REL_STEP, SHORT_STEP_AT_ZERO
        return LOCAL_REL_STEP * size, SHORT_REL_STEP * size

    def _input_size(self, k: int) -> float:
        """Return the root mean square of an input's entries, but at most 1."""
        return min(1.0, root_mean_square(host(self.pair.inputs[k])))

    def _has_no_kink(self, k: int, u: Array, evidence: Evidence, refuting: Sequence[Slope]) -> bool:
        """Return True if no other direction shows a kink that could explain the difference."""
        rng = np.random.default_rng(k)
        scale = np.maximum(abs(host(self.pair.inputs[k])), 1)
        difference = min(map(evidence.difference, refuting))
        for _ in range(KINK_SEARCH_DIRECTIONS):
            other = np.asarray(rng.standard_normal(u.shape) * scale)
            tolerance = difference / 4 * max(1.0, norm((other,)) / norm((u,)))
            differences = self.slopes.differences(k, other)
            for refuted_by in refuting:
                slope = (differences.at(refuted_by.step) or NO_SLOPE).with_noise(refuted_by.noise)
                if not slope.smooth or slope.truncation + slope.kink > tolerance:
                    return False
        return True

"""The derivative of one line alone: how fast each entry that it gives changes with what it reads.

The derivative is taken from the line itself, by complex steps. Lines that complex numbers break (in
a user's file, say) give another slope than a difference along a random direction, and are then
differentiated by central differences.
"""

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from minise.checks import Array
from minise.gradcheck.slopes.rounding import EPS
from minise.tracing.instrument import Instrumented, Line, Scope
from minise.tracing.leaves import Leaf, with_array
from minise.tracing.perturb import PerturbedRun, perturb_line

Pick = Callable[[Any], Any]  # from what a line gives, perhaps several arrays, to the array meant

REL_STEP = EPS ** (1 / 3)  # of a central difference, relative to the size of the array
REL_TOL = EPS ** (1 / 3)  # a difference has up to two thirds of all digits, a wrong slope none
DRAWS = 4  # of other numbers, of which some change a sign
REL_DISTANCE = 0.1  # of the points at which complex steps are compared with differences
MAX_TERMS = 4  # arrays of which a line may be the sum


def derivative(
    code: Instrumented, line: Line, scope: Scope, leaf: Leaf, pick: Pick
) -> tuple[Array, bool]:
    """Return the Jacobian of a line's array with respect to an array that the line reads.

    Parameters
    ----------
    code : Instrumented
        The function that the line belongs to.
    line, scope
        The line, and the names that it ran with.
    leaf : Leaf
        The array that it reads.
    pick : callable
        Takes the array that is meant from what the line gives.

    Returns
    -------
    jacobian : ndarray of shape (entries given, entries read)
    exact : bool
        Whether the Jacobian is exact but for rounding; a difference is right to two thirds of all
        digits.
    """
    run = perturb_line(code, line, scope, leaf, lambda result: np.ravel(pick(result)))
    value = leaf.value
    units = list(np.eye(value.size).reshape(-1, *value.shape))
    try:
        exact = np.stack([run.slope(u) for u in units], axis=1)
        if not np.any(value) or _is_analytic(run, value):
            return exact, True
    except (TypeError, ValueError):
        pass
    h = REL_STEP * max(1.0, float(np.max(abs(value))))
    return np.stack([_difference(run, u, h) for u in units], axis=1), False


def _difference(run: PerturbedRun, u: Array, h: float) -> Array:
    """Return a central difference; at a jump, as of a condition, the slope of the smooth side."""
    here, after, before, half_after, half_before = (
        run.output(t, u) for t in (0.0, h, -h, h / 2, -h / 2)
    )
    sides = np.stack([after - here, here - before])
    halves = np.stack([half_after - here, here - half_before])
    jumps = 4 * abs(halves) > 3 * abs(sides)  # half as far, but no smaller by half
    jumps &= abs(sides) > REL_TOL
    smooth = np.where(jumps[0], sides[1], sides[0])
    mean = np.where(jumps.any(axis=0), smooth, (after - before) / 2)
    return np.asarray(np.where(jumps.all(axis=0), 0, mean) / h)


def _is_analytic(run: PerturbedRun, value: Array) -> bool:
    """Tell whether complex steps agree with differences at a point near to a value.

    Not at the value itself, which may lie at a kink, or be a zero at the edge of a condition, which
    a difference would step across.
    """
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        near = value * (1 + rng.uniform(-REL_DISTANCE, REL_DISTANCE, value.shape))
        near = np.where(value == 0, rng.uniform(-REL_DISTANCE, REL_DISTANCE, value.shape), near)
        u = rng.standard_normal(value.shape)
        h = REL_STEP * max(1.0, float(np.max(abs(near))))
        with np.errstate(all="ignore"):
            difference = (run.output(h, u, near) - run.output(-h, u, near)) / (2 * h)
            exact = run.slope(u, near)
        size = 1 + float(np.max(abs(exact), initial=0.0))
        if np.all(abs(exact - difference) <= REL_TOL * size):
            return True
    return False


def matters(
    code: Instrumented, line: Line, scope: Scope, leaf: Leaf, value: Array, pick: Pick
) -> bool:
    """Tell whether the numbers of a leaf change what the line gives; its shape alone does not.

    The numbers of a condition (where h <= 0) do, though every derivative in them is zero.
    """
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        other = rng.standard_normal(leaf.value.shape) * (1 + abs(leaf.value))
        with np.errstate(all="ignore"):
            result = np.asarray(pick(code.again(line, with_array(scope, leaf, other))))
        if not np.array_equal(result, value, equal_nan=True):
            return True
    return False


def summed(
    code: Instrumented, line: Line, scope: Scope, leaves: Sequence[Leaf], value: Array, pick: Pick
) -> tuple[Leaf, ...]:
    """Return the leaves over which the line is one sum of entry times derivative, or none.

    A line that doubles when some of its arrays are doubled is, by Euler's theorem, the sum of
    each entry of those times the derivative in it. The first such arrays are taken, in the order
    of `leaves`, one alone before two.
    """
    for count in range(1, min(len(leaves), MAX_TERMS) + 1):
        for some in itertools.combinations(leaves, count):
            twice = dict(scope)
            for leaf in some:
                twice = with_array(twice, leaf, 2 * leaf.value)
            doubled = np.asarray(pick(code.again(line, twice)))
            rounding = 4 * EPS * (float(np.max(abs(value), initial=0.0)) + np.finfo(float).tiny)
            if doubled.shape == value.shape and np.all(abs(doubled - 2 * value) <= rounding):
                return some
    return ()

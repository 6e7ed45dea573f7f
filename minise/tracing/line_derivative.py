"""Compute the Jacobian of a single line: of an array it computes with respect to one it reads.

The line runs with complex steps. For a line that is wrong for complex numbers (in a user's file,
for example), the complex slope differs from a central difference along a random direction; such a
line is differentiated by central differences.
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

Pick = Callable[[Any], Any]  # from the value of a line, perhaps several arrays, to one array

REL_STEP = EPS ** (1 / 3)  # of a central difference, relative to the largest entry
REL_TOL = EPS ** (1 / 3)  # the error of a central difference; that of a wrong slope is far larger
DRAWS = 4  # random arrays to try; some change the signs of entries
REL_DISTANCE = 0.1  # to the points at which complex steps are compared with differences
MAX_TERMS = 4  # largest number of arrays in a group that `homogeneous_leaves` tries


def derivative(
    code: Instrumented, line: Line, scope: Scope, leaf: Leaf, pick: Pick
) -> tuple[Array, bool]:
    """Return the Jacobian of a line's array with respect to an array that the line reads.

    Parameters
    ----------
    code : Instrumented
        The function that contains the line.
    line, scope
        The line, and the local variables before it ran.
    leaf : Leaf
        The array that the line reads.
    pick : callable
        Selects the array to differentiate from the value of the line.

    Returns
    -------
    jacobian : ndarray of shape (entries computed, entries read)
    exact : bool
        True if the Jacobian is from complex steps, exact up to rounding; False if it is from
        central differences, which are accurate to about two thirds of the digits.
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
    """Return a central difference; at a jump (of a condition), the slope on the smooth side."""
    here, after, before, half_after, half_before = (
        run.output(t, u) for t in (0.0, h, -h, h / 2, -h / 2)
    )
    sides = np.stack([after - here, here - before])
    halves = np.stack([half_after - here, here - half_before])
    jumps = 4 * abs(halves) > 3 * abs(sides)  # half the step does not halve the difference
    jumps &= abs(sides) > REL_TOL
    smooth = np.where(jumps[0], sides[1], sides[0])
    mean = np.where(jumps.any(axis=0), smooth, (after - before) / 2)
    return np.asarray(np.where(jumps.all(axis=0), 0, mean) / h)


def _is_analytic(run: PerturbedRun, value: Array) -> bool:
    """Return True if complex steps agree with central differences at a random point near a value.

    The value itself may lie on a kink, or be a zero on the boundary of a condition, which a central
    difference would cross.
    """
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        point = value * (1 + rng.uniform(-REL_DISTANCE, REL_DISTANCE, value.shape))
        point = np.where(value == 0, rng.uniform(-REL_DISTANCE, REL_DISTANCE, value.shape), point)
        u = rng.standard_normal(value.shape)
        h = REL_STEP * max(1.0, float(np.max(abs(point))))
        with np.errstate(all="ignore"):
            difference = (run.output(h, u, point) - run.output(-h, u, point)) / (2 * h)
            exact = run.slope(u, point)
        size = 1 + float(np.max(abs(exact), initial=0.0))
        if np.all(abs(exact - difference) <= REL_TOL * size):
            return True
    return False


def depends_on_values(
    code: Instrumented, line: Line, scope: Scope, leaf: Leaf, value: Array, pick: Pick
) -> bool:
    """Return True if the line's value depends on the values of a leaf, not only on its shape.

    It depends on the values in a condition (where h <= 0), although their derivatives are zero.
    """
    rng = np.random.default_rng(0)
    for _ in range(DRAWS):
        other = rng.standard_normal(leaf.value.shape) * (1 + abs(leaf.value))
        with np.errstate(all="ignore"):
            result = np.asarray(pick(code.run_line(line, with_array(scope, leaf, other))))
        if not np.array_equal(result, value, equal_nan=True):
            return True
    return False


def homogeneous_leaves(
    code: Instrumented, line: Line, scope: Scope, leaves: Sequence[Leaf], value: Array, pick: Pick
) -> tuple[Leaf, ...]:
    """Return the first leaves in which the line is homogeneous of degree 1, or ().

    The value of such a line doubles if these arrays are doubled; by Euler's theorem it equals the
    sum over their entries of entry times derivative. Smaller groups come first, then the order of
    `leaves`.
    """
    for count in range(1, min(len(leaves), MAX_TERMS) + 1):
        for group in itertools.combinations(leaves, count):
            doubled_scope = dict(scope)
            for leaf in group:
                doubled_scope = with_array(doubled_scope, leaf, 2 * leaf.value)
            doubled = np.asarray(pick(code.run_line(line, doubled_scope)))
            rounding = 4 * EPS * (float(np.max(abs(value), initial=0.0)) + np.finfo(float).tiny)
            if doubled.shape == value.shape and np.all(abs(doubled - 2 * value) <= rounding):
                return group
    return ()

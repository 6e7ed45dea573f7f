"""Whether contestants compute the same: of what each computes first, one number to compare.

A training step is known by its loss. Of an array (logits, or the output of an op or a block) every
number is added with a random sign, so that a single one that differs shows.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np


class Disagreement(Exception):
    """The contestants do not do the same work, or minise itself cannot do it."""


class First(NamedTuple):
    """What tells one first result from another."""

    figure: float
    scale: float  # what an error of figure is measured by


def first_of(result: Any) -> First:
    """Return the figure of a loss or an array.

    Signs are drawn from one seed, and the sum is divided by the root of their number, so that the
    figure is about as large as one number of the array.

    Examples
    --------
    >>> first_of(2.5)
    First(figure=2.5, scale=2.5)
    >>> first_of(np.full((2, 3), 4.0)).scale
    4.0
    """
    array = np.asarray(result)
    if array.ndim == 0:
        return First(float(array), abs(float(array)))
    signs = np.random.default_rng(0).integers(0, 2, array.shape, np.int8) * np.int8(2) - np.int8(1)
    root = np.sqrt(array.size)
    scale = float(np.linalg.norm(array.ravel()) / root)
    return First(float(np.sum(array * signs, dtype=np.float64) / root), scale)


def check_firsts(what: str, firsts: Mapping[str, First], base: str, dtype: str) -> None:
    """Raise Disagreement unless all contestants agree with base to half of their digits."""
    for name, first in firsts.items():
        expected = firsts[base]
        if not abs(first.figure - expected.figure) <= np.sqrt(np.finfo(dtype).eps) * expected.scale:
            raise Disagreement(
                f"{what}: the first result of {name} is {first.figure:.6f}, but that of {base} "
                f"{expected.figure:.6f} (of an array: a sum of its numbers with random signs); "
                "they do not compute the same"
            )

"""Named mistakes in a backward pass, and functions to build them.

A gradient check that has never failed proves nothing: each mistake is a wrong backward that a check
must catch.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from minise.checks import Array, Pair
from minise.contract.case import Case
from minise.ops.reference.windows import Windows, pad, window, windows_of

Gradients: TypeAlias = tuple[Any, ...]
Wrong: TypeAlias = Callable[[Gradients, Array, Any], Gradients]


class Mistake(NamedTuple):
    """A wrong backward, and a case in which its gradients are wrong.

    `wrong(g, d, c)` gets the correct gradients g, dout d and the cache c, and returns wrong
    gradients. The kinds are those of minise/gradcheck/diagnose.py, such as "sign", or "unknown" if
    no pattern matches.
    """

    case: Case
    wrong: Wrong
    kinds: set[str]  # acceptable diagnoses: each points the author to the mistake
    integers: bool = False  # draw small integers, to get ties


def put(g: Gradients, k: int, value: Any) -> Gradients:
    """Return a copy of the gradients with the k-th replaced."""
    return (*g[:k], value, *g[k + 1 :])


def scaled(k: int, factor: float | Callable[[Array, Any], float]) -> Wrong:
    """Return a wrong backward that multiplies the k-th gradient by a factor, or by factor(d, c)."""
    return lambda g, d, c: put(g, k, g[k] * (factor(d, c) if callable(factor) else factor))


def windows(c: Any, kernel: Pair, dilation: Pair = (1, 1)) -> Windows:
    """Return the windows of a convolution or a pooling op, from its cache."""
    ceil_mode = getattr(c, "ceil_mode", False)
    return windows_of(c.x.shape[2:], kernel, c.stride, c.padding, dilation, ceil_mode)


def assigned(shares: Iterable[Array], c: Any, kernel: Pair, dilation: Pair = (1, 1)) -> Array:
    """Return the padded dx with the share of each kernel offset assigned instead of accumulated."""
    where = windows(c, kernel, dilation)
    dpadded = np.zeros_like(pad(c.x, where))
    for (i, j), share in zip(where.offsets(), shares, strict=True):
        window(dpadded, where, i, j)[...] = share
    return dpadded


def cropped(dpadded: Array, c: Any, top: int, left: int) -> Array:
    """Return the window of an array that has the rows and columns of x and starts at top, left."""
    H, W = c.x.shape[2:]
    return dpadded[..., top : top + H, left : left + W]

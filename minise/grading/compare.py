"""Compare a gradient with the right one: its numbers, and what its shape says."""

from itertools import combinations
from math import floor, log10
from typing import Any, TypeGuard

import numpy as np

from minise.checks import Array
from minise.gradcheck.slopes.rounding import EPS

IMAGES, CHANNELS = 4, 1  # axes of images (N, C, H, W), and which one is the channels'
HALF = EPS**0.5  # of the digits: rounding never takes so many, a mistake always does


def floats(value: Any) -> TypeGuard[Array]:
    """Tell whether a value is an array of real numbers."""
    return isinstance(value, np.ndarray | np.generic) and value.dtype.kind == "f"


def close(value: Any, right: Array) -> bool:
    """Tell whether two gradients agree to half of all digits of the largest entry."""
    apart = np.reshape(value, np.shape(right)) - right
    return bool(np.max(abs(apart)) <= HALF * max(float(np.max(abs(right))), HALF))


def may_become(value: Any, right: Array) -> bool:
    """Tell whether a later sum, or broadcasting, can still make a value the right gradient."""
    if not floats(value):
        return False
    if np.size(value) < right.size:
        try:
            return close(np.broadcast_to(value, right.shape), right)
        except ValueError:
            return False
    return _adds_up(value, right)


def _adds_up(value: Array, right: Array) -> bool:
    axes = range(np.ndim(value))
    for count in axes:
        for some in combinations(axes, count + 1):
            total = np.asarray(value.sum(axis=some))
            if total.size == right.size and close(total, right):
                return True
    return False


def told(given: float, right: float, wanted: str) -> str:
    """Return two numbers that differ, with as many digits as show it, `wanted` between them."""
    apart = abs(given - right) / max(abs(given), abs(right))
    digits = max(6, 2 - floor(log10(apart))) if apart > 0 else 6
    if digits == 6:
        return f"{given + 0.0:.6g}, {wanted} {right + 0.0:.6g}"
    return f"{given:#.{digits}g}, {wanted} {right:#.{digits}g}, apart by {apart:.0e} of it"


def misfit(name: str, of: str, value: Array, right: Array) -> str:
    """Return what is wrong with a shape, or nothing if it is that of the right gradient."""
    if np.shape(value) == right.shape:
        return ""
    text = f"{name} has shape {np.shape(value)}, expected {right.shape}, that of {of}"
    advice = _advice(value, right)
    return f"{text}: {advice}" if advice else text


def _advice(value: Array, right: Array) -> str:
    """Return how a shape may be mended."""
    more = np.ndim(value) - right.ndim
    if not np.ndim(value):
        return "are too many axes summed?"
    if np.size(value) != right.size:
        axes = _to_sum(np.shape(value), right.shape)
        if right.any() and may_become(value, right) and np.size(value) > right.size:
            return "a sum is missing"
        if axes:
            over = f"axes {axes}" if len(axes) > 1 else f"axis {axes[0]}"
            return f"is a sum over {over} missing?"
        if more > 1:
            return f"{more} axes too many: is a sum missing?"
        if np.size(value) > right.size:
            many = "an axis too many" if more > 0 else "too large"
            return f"{many}: is [:, None, None] or keepdims=True missing or doubled?"
        return ""
    if right.ndim == 2 and np.shape(value) == right.shape[::-1]:
        return "transpose it" if close(np.transpose(value), right) else ""
    if more and [n for n in np.shape(value) if n > 1] == [n for n in right.shape if n > 1]:
        if more > 0:
            return "is keepdims=True or [:, None, None] one too many, or a sum missing?"
        return "is keepdims=True or [:, None, None] missing?"
    return "reshape it" if right.any() and close(value, right) else ""


def _to_sum(shape: tuple[int, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes without which a shape is the wanted one, if it can be told.

    Of images several may do, where sizes are 1: rather not the channels'.
    """
    axes = range(len(shape))
    found = [
        some
        for some in combinations(axes, max(0, len(shape) - len(wanted)))
        if tuple(shape[a] for a in axes if a not in some) == wanted
    ]
    if len(found) > 1 and len(shape) != IMAGES:
        return ()
    return min(found, key=lambda some: CHANNELS in some, default=())

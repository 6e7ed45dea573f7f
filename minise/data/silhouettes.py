"""Ten silhouettes as signed distances: below 0 inside, above 0 outside, in units of the radius.

Each silhouette fits the unit circle around the origin, and is a function of the coordinates of all
pixels. Union is min and intersection is max: the distance is exact along every edge, and may be too
small outside a corner, which only softens the shadow there. Only + - * / sqrt abs min max are
applied to pixels, which IEEE 754 rounds alike on every machine, so the images are the same.
"""

from collections.abc import Callable, Iterator
from math import cos, pi, sin, sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[Any]


def disc(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a full circle."""
    return _circle(x, y, 0.92)


def ring(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a band along a circle."""
    return abs(_circle(x, y, 0.74)) - 0.22


def triangle(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a triangle of equal sides."""
    a, b, c = _sides(x, y, 3, 0.51)
    return _tipped(x, y, np.maximum(np.maximum(a, b), c))


def square(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a square."""
    return _box(x, y, 0.7, 0.7)


def star(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a star: points outside at most one side of a pentagon."""
    first, *others = _sides(x, y, 5, 0.345)
    second = np.full_like(first, -np.inf)
    for side in others:
        second = np.maximum(second, np.minimum(first, side))
        first = np.maximum(first, side)
    return _tipped(x, y, second)


def cross(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to two bars at right angles."""
    return np.minimum(_box(x, y, 0.95, 0.29), _box(x, y, 0.29, 0.95))


def crescent(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a disc minus another disc."""
    outer, bite, offset = 0.98, 0.76, 0.52
    tip_x = (outer**2 - bite**2 + offset**2) / (2 * offset)  # where the two circles cross
    tip_y = sqrt(outer**2 - tip_x**2)
    y = abs(y)
    body = np.maximum(_circle(x, y, outer), -_circle(x - offset, y, bite))
    # body is the distance to the full circles: without the tips, the bite would have a shadow
    facing_tip = x * tip_y - y * tip_x > offset * np.maximum(tip_y - y, 0)
    return np.where(facing_tip, _circle(x - tip_x, y - tip_y, 0), body)


def heart(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a square with a disc on each of two sides."""
    half = 0.54
    x, y = x + 0.09, y + 0.09
    lobes = np.minimum(_circle(x - half, y, half), _circle(x, y - half, half))
    return np.minimum(_box(x, y, half, half), lobes)


def arrow(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to a triangular head on a shaft."""
    head = np.maximum(cos(0.7) * abs(y) + sin(0.7) * (x - 1), -0.02 - x)
    return np.minimum(head, _box(x + 0.46, y, 0.5, 0.23))


def leaf(x: Floats, y: Floats) -> Floats:
    """Return the signed distance to the intersection of two discs."""
    return np.maximum(_circle(x, y - 0.68, 1.2), _circle(x, y + 0.68, 1.2))


SILHOUETTES: dict[str, Callable[[Floats, Floats], Floats]] = {
    shape.__name__: shape
    for shape in (disc, ring, triangle, square, star, cross, crescent, heart, arrow, leaf)
}


def _circle(x: Floats, y: Floats, radius: float) -> Floats:
    return np.sqrt(x * x + y * y) - radius


def _box(x: Floats, y: Floats, half_width: float, half_height: float) -> Floats:
    return np.maximum(abs(x) - half_width, abs(y) - half_height)


def _sides(x: Floats, y: Floats, count: int, apothem: float) -> Iterator[Floats]:
    """Yield the signed distance from each side of a regular polygon."""
    for k in range(count):
        turn = 2 * pi * k / count
        yield x * cos(turn) + y * sin(turn) - apothem


def _tipped(x: Floats, y: Floats, body: Floats) -> Floats:
    """Clip a body's tips at the unit circle; beyond it, its lines would continue as shadow."""
    return np.maximum(body, _circle(x, y, 1))

"""Six patterns, each a number in 0..1 a pixel: how far one colour has gone over into another."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[Any]

NODES = 6  # of the grid between which clouds are drawn, along each side


def plain(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """One colour."""
    return np.zeros_like(p)


def gradient(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """From one colour to the other across four periods."""
    return np.clip(0.5 + p / 4, 0, 1)


def stripes(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """As wide as the gaps between them."""
    return np.clip(0.5 + 3 * _wave(p), 0, 1)


def dots(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """One each period, in rows."""
    across, along = p - np.floor(p) - 0.5, q - np.floor(q) - 0.5
    return np.clip(0.5 + 6 * (0.3 - np.sqrt(across * across + along * along)), 0, 1)


def checks(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """Two squares a period."""
    return np.clip(0.5 + 12 * _wave(p) * _wave(q), 0, 1)


def clouds(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """Random heights at the nodes (n, NODES, NODES) of a grid over the image, smooth between."""
    weights = _weights(p.shape[-1])
    rows = np.zeros((len(nodes), len(weights), NODES), nodes.dtype)
    out = np.zeros_like(p)
    for k in range(NODES):
        rows += weights[:, k, None] * nodes[:, None, k, :]
    for k in range(NODES):
        out += rows[:, :, k, None] * weights[:, k]
    return out


PATTERNS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    pattern.__name__: pattern for pattern in (plain, gradient, stripes, dots, checks, clouds)
}


def _wave(p: Floats) -> Floats:
    """Return a triangular wave of period 1 between -0.5 and 0.5."""
    return abs(2 * (p - np.floor(p)) - 1) - 0.5


def _weights(size: int) -> Floats:
    """Return how much each node counts at each of size pixels, shape (size, NODES)."""
    place = np.linspace(0, NODES - 1, size, dtype=np.float32)[:, None]
    away = np.clip(abs(place - np.arange(NODES, dtype=np.float32)), 0, 1)
    return 1 - away * away * (3 - 2 * away)

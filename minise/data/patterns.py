"""Six patterns: for each pixel a mixing weight in 0..1 between two colours.

p and q are a pixel's rotated coordinates in periods; nodes are random heights for clouds.
"""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Floats: TypeAlias = NDArray[Any]

NODES = 6  # per side of the grid of random heights from which clouds are interpolated


def plain(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """Return 0 for every pixel: one colour."""
    return np.zeros_like(p)


def gradient(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """Return a linear gradient across four periods."""
    return np.clip(0.5 + p / 4, 0, 1)


def stripes(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """Return parallel stripes, as wide as the gaps between them."""
    return np.clip(0.5 + 3 * _wave(p), 0, 1)


def dots(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """Return dots in rows, one per period."""
    across, along = p - np.floor(p) - 0.5, q - np.floor(q) - 0.5
    return np.clip(0.5 + 6 * (0.3 - np.sqrt(across * across + along * along)), 0, 1)


def checks(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """Return a checkerboard with two squares per period."""
    return np.clip(0.5 + 12 * _wave(p) * _wave(q), 0, 1)


def clouds(p: Floats, q: Floats, nodes: Floats) -> Floats:
    """Return a smooth interpolation of the heights on a grid, nodes (n, NODES, NODES)."""
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
    """Return the interpolation weights of the nodes along one side, shape (size, NODES)."""
    position = np.linspace(0, NODES - 1, size, dtype=np.float32)[:, None]
    distance = np.clip(abs(position - np.arange(NODES, dtype=np.float32)), 0, 1)
    return 1 - distance * distance * (3 - 2 * distance)

"""How parameters start: normal numbers of a variance that keeps a signal's size.

A sum of F products has F times the variance of one, so weights of variance 1 / F keep it; where a
ReLU follows, which halves the mean square, 2 / F does. F is the fan-in: how many inputs an output
adds up.

Source: He et al., "Delving Deep into Rectifiers", arXiv:1502.01852.
"""

import math
from typing import Any

import numpy as np

from minise.checks import Array
from minise.ops.backend import Backend

RELU, LINEAR = 2.0, 1.0  # variance of a weight times its fan-in, by what follows


def he_normal(
    shape: tuple[int, ...], gain: float, ops: Backend, rng: np.random.Generator, dtype: Any
) -> Array:
    """Return weights (outputs, inputs, …) of variance gain / fan-in, drawn from rng.

    They are drawn in float64 and then rounded, so that every dtype starts from the same net.
    """
    fan_in = math.prod(shape[1:])
    return ops.asarray(rng.standard_normal(shape) * math.sqrt(gain / fan_in), dtype)


def constant(value: float, size: int, ops: Backend, dtype: Any) -> Array:
    """Return a vector of one value."""
    return ops.asarray(np.full(size, value), dtype)

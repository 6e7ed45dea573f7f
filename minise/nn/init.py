"""Initial parameters: normal numbers whose variance preserves the variance of the signal.

A sum of F independent products has F times the variance of one product, so weights of variance
1 / F preserve the variance; before a ReLU, which halves the mean square, 2 / F does. F is the
fan-in, the number of inputs that each output sums.

Source: He et al., "Delving Deep into Rectifiers", arXiv:1502.01852.
"""

import math
from typing import Any

import numpy as np

from minise.checks import Array
from minise.ops.backend import Backend, shaped

RELU_GAIN, LINEAR_GAIN = 2.0, 1.0  # weight variance times fan-in, with and without a ReLU after it


def he_normal(
    shape: tuple[int, ...], gain: float, ops: Backend, rng: np.random.Generator, dtype: Any
) -> Array:
    """Return weights (outputs, inputs, …) of variance gain / fan-in, drawn from rng.

    They are drawn in float64 and then rounded, so that nets of every dtype start alike. A back end
    that computes shapes only (minise/ops/cost) draws nothing.
    """
    if (undrawn := shaped(ops, shape, dtype)) is not None:
        return undrawn
    fan_in = math.prod(shape[1:])
    return ops.asarray(rng.standard_normal(shape) * math.sqrt(gain / fan_in), dtype)


def constant(value: float, size: int, ops: Backend, dtype: Any) -> Array:
    """Return a vector of `size` equal values."""
    if (undrawn := shaped(ops, (size,), dtype)) is not None:
        return undrawn
    return ops.asarray(np.full(size, value), dtype)

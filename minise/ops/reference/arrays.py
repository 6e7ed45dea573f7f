"""What nn and train need to know of an array library: how to make, read and update an array.

These are no ops and stand outside their contract; `sgd_update` is the one function of a back end
that writes in place.
"""

from typing import Any

import numpy as np

from minise.checks import Array


def asarray(values: Any, dtype: Any = None) -> Array:
    """Return values as an array of this back end."""
    return np.asarray(values, dtype)


def asnumpy(array: Array) -> Array:
    """Return an array of this back end as a NumPy array."""
    return array


def sgd_update(
    param: Array,
    grad: Array,
    velocity: Array,
    *,
    rate: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """Update a parameter and its velocity in place by one step of SGD with momentum.

    Parameters
    ----------
    param, velocity : ndarray of one shape
        Both are written; the velocity starts at 0.
    grad : ndarray of the same shape
        Gradient of the loss with respect to param.
    rate, momentum, weight_decay : float
        Learning rate; share of the old velocity that stays; strength of the pull towards 0.
    nesterov : bool
        Whether to look one step of momentum ahead.

    Notes
    -----
    PyTorch's formula, in which the rate multiplies the velocity and not the gradient in it::

        g        = grad + weight_decay * param
        velocity = momentum * velocity + g
        param    = param - rate * (g + momentum * velocity if nesterov else velocity)
    """
    g = grad + weight_decay * param
    velocity *= momentum
    velocity += g
    param -= rate * (g + momentum * velocity if nesterov else velocity)

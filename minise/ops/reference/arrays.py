"""Create, read and update arrays: the array functions that nn and train need from a back end.

They are not ops, and the contract of ops does not apply. `sgd_update` is the only function of a
back end that modifies its arguments.
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
        Both are updated in place; the velocity starts at 0.
    grad : ndarray of the same shape
        Gradient of the loss with respect to param.
    rate, momentum, weight_decay : float
        Learning rate; factor of the old velocity; coefficient of the L2 penalty.
    nesterov : bool
        Use Nesterov momentum.

    Notes
    -----
    PyTorch's formula, where the learning rate is a factor of the velocity, not of the gradient::

        g        = grad + weight_decay * param
        velocity = momentum * velocity + g
        param    = param - rate * (g + momentum * velocity if nesterov else velocity)
    """
    g = grad + weight_decay * param
    velocity *= momentum
    velocity += g
    param -= rate * (g + momentum * velocity if nesterov else velocity)

"""The derivative of a loss along a direction, from backward and from forward."""

from collections.abc import Callable
from typing import Any

from minise.checks import Array


def slopes(
    forward: Callable[[Any], Any],
    backward: Callable[[Any, Any], Any],
    x: Array,
    dout: Array,
    u: Array,
    h: float = 1e-5,
) -> tuple[float, float]:
    """Return the derivative of ⟨dout, out⟩ along a direction u, computed in two ways.

    Parameters
    ----------
    forward : callable
        forward(x) returns out, cache.
    backward : callable
        backward(dout, cache) returns dx.
    x, u : ndarray of the same shape
        The input and a direction.
    dout : ndarray of out's shape
        The gradient of the loss ⟨dout, out⟩ with respect to out.
    h : float
        Step of the central difference.

    Returns
    -------
    by_backward : float
        ⟨dx, u⟩, with dx from backward.
    by_forward : float
        The central difference of ⟨dout, out⟩ along u.

    Examples
    --------
    >>> import numpy as np
    >>> a = np.array([3.0])
    >>> by_backward, by_forward = slopes(
    ...     lambda x: (x * x, x), lambda dout, x: 2 * x * dout, a, np.ones(1), np.ones(1)
    ... )
    >>> print(f"{by_backward:.3f} {by_forward:.3f}")
    6.000 6.000
    """
    _, cache = forward(x)
    by_backward = (backward(dout, cache) * u).sum()
    change = forward(x + h * u)[0] - forward(x - h * u)[0]
    by_forward = (dout * change).sum() / (2 * h)
    return float(by_backward), float(by_forward)

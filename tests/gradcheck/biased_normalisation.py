"""A bias before a normalisation, whose gradient is zero up to rounding."""

import numpy as np


def normalised(x, bias):
    """Normalise the columns of x + bias."""
    y = x + bias
    centred = y - y.mean(axis=0)
    rstd = 1 / np.sqrt((centred * centred).mean(axis=0) + 1e-5)
    return centred * rstd, (centred * rstd, rstd)


def normalised_backward(dout, cache):
    xhat, rstd = cache
    dx = rstd * (dout - dout.mean(axis=0) - xhat * (dout * xhat).mean(axis=0))
    return dx, dx.sum(axis=0)

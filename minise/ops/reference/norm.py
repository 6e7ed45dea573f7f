"""Batch normalisation: every channel gets mean 0 and variance 1 over the batch, then gamma, beta.

    mean    = mean of x over N, H, W                (C,)      in training; else running_mean
    centred = x - mean
    var     = mean of centred ** 2 over N, H, W     (C,)      in training; else running_var
    rstd    = 1 / sqrt(var + eps)
    xhat    = centred * rstd
    out     = gamma * xhat + beta

In training mean and var depend on every pixel of the channel, so x reaches out by three paths:
directly, through var and through mean, and every pixel changes every output of its channel.
Backward adds three terms: the first two are summed in dcentred, the gradient of centred, and dmean
is added in dx. In evaluation mean and var are constants, and only the direct path remains.
The variance is the mean of centred squares, never mean(x ** 2) - mean ** 2: with a mean of 1000
and a deviation of 1 the latter has no correct digit left in float32.

Source: Ioffe and Szegedy, "Batch Normalization", arXiv:1502.03167. As in PyTorch, the biased
variance normalises and the unbiased one goes into running_var, and
``running += momentum * (batch - running)``, computed as a weighted sum, which does not subtract a
large running value and add it back: with momentum 1 the running statistics are the batch's.
"""

from typing import NamedTuple

import numpy as np

from minise.checks import Array
from minise.ops.reference.sums import mean_over, sum_over
from minise.ops.shapes import check_arrays, check_batch_norm, check_gradient

SHAPES = {
    "batch_norm2d": "x: N C H W, gamma: C, beta: C; running_mean: C, running_var: C",
}
AXES = (0, 2, 3)  # all but the channels


class BatchNorm2dCache(NamedTuple):
    """What backward needs from forward, and the running statistics after it.

    It is the field ``norm`` of the fused ops' caches.
    """

    x: Array  # (N, C, H, W)
    gamma: Array  # (C,)
    beta: Array  # (C,)
    mean: Array  # (C,)  of the batch, or in evaluation running_mean
    rstd: Array  # (C,)  1 / sqrt(var + eps), with the matching var
    running_mean: Array  # (C,)  updated, for the next call
    running_var: Array  # (C,)
    training: bool
    momentum: float
    eps: float


def batch_norm2d_forward(
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNorm2dCache]:
    """Normalise every channel over the batch, then scale and shift it.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Feature maps. In training N * H * W must be above 1.
    gamma, beta : ndarray of shape (C,)
        Scale and shift of each channel.
    running_mean, running_var : ndarray of shape (C,)
        Mean and variance in evaluation; in training they are only updated.
    training : bool
        True to normalise with the batch's mean and variance.
    momentum : float
        Share of the batch in the new running statistics, 0..1.
    eps : float
        Added to the variance, above 0.

    Returns
    -------
    out : ndarray of shape (N, C, H, W)
        A new array, in the dtype of x.
    cache : BatchNorm2dCache
        For batch_norm2d_backward; its running_mean and running_var are updated.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or settings are wrong, or there is only one value per channel.
    """
    arrays = x, gamma, beta, running_mean, running_var
    check_arrays("batch_norm2d", SHAPES["batch_norm2d"], *arrays, complex_step=True)
    check_batch_norm("batch_norm2d", x, training, momentum, eps)
    momentum = float(momentum)  # a NumPy float64 would promote float32 arrays to float64
    eps = float(eps)
    count = x.size // len(gamma)
    mean = mean_over(x, AXES) if training else running_mean
    centred = x - mean[:, None, None]
    var = mean_over(centred * centred, AXES) if training else running_var
    rstd = 1 / np.sqrt(var + eps)
    xhat = centred * rstd[:, None, None]
    out = gamma[:, None, None] * xhat + beta[:, None, None]
    step = momentum if training else 0
    unbiased = var * (count / max(1, count - 1))
    new_mean = (1 - step) * running_mean + step * mean
    new_var = (1 - step) * running_var + step * unbiased
    return out, BatchNorm2dCache(
        x, gamma, beta, mean, rstd, new_mean, new_var, training, momentum, eps
    )


def batch_norm2d_backward(dout: Array, cache: BatchNorm2dCache) -> tuple[Array, ...]:
    """Return the gradients of the loss with respect to x, gamma and beta.

    Parameters
    ----------
    dout : ndarray of shape (N, C, H, W)
        Gradient of the loss with respect to out.
    cache : BatchNorm2dCache
        As forward returned it.

    Returns
    -------
    dx, dgamma, dbeta : ndarray
        With the shapes of x, gamma, beta.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out.

    Notes
    -----
    With M = N * H * W, this function computes in training::

        dx = gamma * rstd * (dout - mean(dout) - xhat * mean(dout * xhat))

    which is zero for dout = 1 and, up to eps, for dout = xhat. Both means are over the whole
    channel, so that every pixel's dx depends on every pixel's dout.
    """
    check_gradient("batch_norm2d", dout, cache.x)
    x, gamma, _, mean, rstd, *_ = cache
    M = x.size // len(gamma)
    # why: Recomputed, not a gradient: forward keeps x, mean and rstd, and centred follows from
    #      them.
    centred = x - mean[:, None, None]
    # why: Recomputed, not a gradient: gamma multiplied xhat in forward, so dgamma needs its values,
    #      which forward does not keep.
    xhat = centred * rstd[:, None, None]

    # forward: out = gamma * xhat + beta
    # why: One beta is added to every pixel of its channel in every image, so its gradient sums dout
    #      over n, i and j.
    dbeta = sum_over(dout, AXES)
    # why: One gamma multiplies xhat at every pixel of its channel in every image: each contributes
    #      dout times xhat, the slope of gamma * xhat in gamma, and the contributions add up.
    dgamma = sum_over(dout * xhat, AXES)
    # why: gamma is the slope of gamma * xhat + beta in xhat, and each xhat is in one entry of out
    #      only, so there is no sum.
    dxhat = dout * gamma[:, None, None]

    # forward: xhat = centred * rstd
    # why if cache.training: This is the direct route of three, with rstd held fixed: the slope of
    #      centred * rstd in centred is then rstd.
    # why: rstd is the slope of centred * rstd in centred; in evaluation it comes from running_var,
    #      which does not depend on x, so this is the only route.
    dcentred_direct = dxhat * rstd[:, None, None]

    # forward: xhat = centred * rstd
    # why: One rstd multiplies centred at every pixel of its channel, so its gradient is the sum of
    #      dxhat * centred; with dxhat = gamma * dout and centred = xhat / rstd that sum is gamma *
    #      dgamma / rstd, and dgamma is known.
    drstd = gamma * dgamma / rstd

    # forward: rstd = (var + eps) ** -0.5
    # why: The slope of (var + eps) ** -0.5 in var is -0.5 (var + eps) ** -1.5, and that is -0.5
    #      rstd ** 3: a larger variance makes rstd smaller.
    dvar = -0.5 * rstd**3 * drstd

    # forward: var = mean_over(centred * centred, AXES) if training else running_var
    # why: This is the route through the variance: var is the sum of centred ** 2 over the M pixels
    #      of the channel, divided by M, so its slope in one of them is 2 centred / M.
    dcentred_var = (2 / M * dvar)[:, None, None] * centred
    # why if cache.training: centred is read twice, as a factor of xhat and in the variance, so the
    #      gradients of both routes add up.
    # why: In evaluation the variance is running_var, a constant: nothing flows through it, and the
    #      direct route is all there is.
    dcentred = dcentred_direct + dcentred_var if cache.training else dcentred_direct

    # forward: centred = x - mean
    # why: The mean is subtracted at every pixel of its channel, so dmean is minus the sum of
    #      dcentred. The variance's part of that sum is 0, because centred sums to 0 over the
    #      channel; the direct part is the sum of dout * gamma * rstd, and dbeta is the sum of dout.
    dmean = -gamma * rstd * dbeta

    # forward: mean = mean_over(x, AXES) if training else running_mean
    # why if cache.training: x reaches out through centred, with slope 1, and through the mean, of
    #      which each of the M pixels of the channel is a share of 1 / M: both gradients add up.
    # why: In evaluation the mean is running_mean, a constant, so x reaches out through centred
    #      alone, with slope 1.
    dx = dcentred + dmean[:, None, None] / M if cache.training else dcentred
    return dx, dgamma, dbeta

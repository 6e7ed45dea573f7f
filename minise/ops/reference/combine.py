"""Ops that join, scale and permute: add, concat, channel scale, channel shuffle, dropout, shake.

Their forward and backward passes:

    add              out = a + b                       dout to both
    concat           out = xs along the channels       a slice of dout to each of xs
    channel_scale    out = x * s, s per channel        dx = dout * s, ds = sum of dout * x
    channel_shuffle  out = channels permuted           the inverse permutation of dout
    dropout          out = x / (1 - p) where kept      dout / (1 - p) where kept
    shake            out = alpha x1 + (1 - alpha) x2   beta dout, (1 - beta) dout: on purpose
"""

from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array, check_divisor, check_integer, check_number
from minise.ops.reference.sums import sum_over
from minise.ops.shapes import Kind, check_arrays, check_gradient

SHAPES = {
    "add": "a: ..., b: ...",
    "concat": "*xs: N _ H W",
    "channel_scale": "x: N C H W, s: N C",
    "channel_shuffle": "x: N C H W",
    "dropout": "x: ..., mask: ... bool",
    "shake": "x1: N C H W, x2: N C H W; alpha: N, beta: N",
}


class AddCache(NamedTuple):
    """What backward needs from forward."""

    shape: tuple[int, ...]  # of a, b and out
    out_dtype: np.dtype[Any]


class ConcatCache(NamedTuple):
    """What backward needs from forward."""

    channels: tuple[int, ...]  # of each of xs
    shape: tuple[int, ...]  # of out: (N, C, H, W)
    out_dtype: np.dtype[Any]


class ChannelScaleCache(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (N, C, H, W)
    s: Array  # (N, C)


class ChannelShuffleCache(NamedTuple):
    """What backward needs from forward."""

    shape: tuple[int, ...]  # of x and out: (N, C, H, W)
    out_dtype: np.dtype[Any]
    groups: int


class DropoutCache(NamedTuple):
    """What backward needs from forward."""

    mask: Array  # of the shape of x, boolean
    out_dtype: np.dtype[Any]
    p: float


class ShakeCache(NamedTuple):
    """What backward needs from forward: neither of the images, nor alpha."""

    beta: Array  # (N,)
    shape: tuple[int, int, int, int]  # of x1, x2 and out


def add_forward(a: Array, b: Array) -> tuple[Array, AddCache]:
    """Return a + b, such as a branch plus its shortcut.

    Parameters
    ----------
    a, b : ndarray of the same shape
        Any shape, without broadcasting.

    Returns
    -------
    out : ndarray of the same shape
        A new array, in the dtype of a.
    cache : AddCache
        For add_backward.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree.
    """
    check_arrays("add", SHAPES["add"], a, b, complex_step=True)
    out = a + b
    return out, AddCache(out.shape, out.dtype)


def add_backward(dout: Array, cache: AddCache) -> tuple[Array, Array]:
    """Return da and db, both dout itself.

    Raises ValueError or TypeError if dout does not have the shape and dtype of out.
    """
    check_gradient("add", dout, Kind(*cache))

    # forward: out = a + b
    # why: a and b each enter out with slope 1, entry by entry, so both get dout as it is: a sum
    #      hands its gradient on to every term.
    return dout, dout


def concat_forward(*xs: Array) -> tuple[Array, ConcatCache]:
    """Concatenate images along the channels.

    Parameters
    ----------
    *xs : ndarray of shape (N, C, H, W)
        One or more; C may differ.

    Returns
    -------
    out : ndarray of shape (N, sum of the C, H, W)
        A new array, in the dtype of the first.
    cache : ConcatCache
        For concat_backward.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree, or xs is empty.
    """
    check_arrays("concat", SHAPES["concat"], *xs, complex_step=True)
    out = np.concatenate(xs, axis=1)  # = the channels of all xs, one after the other
    return out, ConcatCache(tuple(x.shape[1] for x in xs), out.shape, out.dtype)


def concat_backward(dout: Array, cache: ConcatCache) -> tuple[Array, ...]:
    """Return the slice of dout for each of xs, as views.

    Raises ValueError or TypeError if dout does not have the shape and dtype of out.
    """
    check_gradient("concat", dout, Kind(cache.shape, cache.out_dtype))
    # why: Not a gradient: these are the places in out where the channels of one input end.
    ends = np.cumsum(cache.channels)  # = channels of xs[0], of the first two, …

    # forward: out = xs along the channels
    # why: Every number of every input is copied to one place of out, with slope 1, so its gradient
    #      is dout at that place.
    return tuple(np.split(dout, ends[:-1], axis=1))  # = dout at the channels of this input


def channel_scale_forward(x: Array, s: Array) -> tuple[Array, ChannelScaleCache]:
    """Multiply every channel of every image by its own factor.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Feature maps.
    s : ndarray of shape (N, C)
        One factor for each channel of each image, such as the gates of an SE block.

    Returns
    -------
    out : ndarray of shape (N, C, H, W)
        A new array, in the dtype of x.
    cache : ChannelScaleCache
        For channel_scale_backward.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree.
    """
    check_arrays("channel_scale", SHAPES["channel_scale"], x, s, complex_step=True)
    out = x * s[:, :, None, None]
    return out, ChannelScaleCache(x, s)


def channel_scale_backward(dout: Array, cache: ChannelScaleCache) -> tuple[Array, Array]:
    """Return dx (N, C, H, W) and ds (N, C).

    Raises ValueError or TypeError if dout does not have the shape and dtype of out.
    """
    check_gradient("channel_scale", dout, cache.x)

    # forward: out = x * s
    # why: The slope of x * s in x is s, and each x is in one entry of out only, so there is no sum.
    dx = dout * cache.s[:, :, None, None]
    # why: The slope of x * s in s is x, and one s multiplies all H * W pixels of its channel, so
    #      the contributions dout * x of the pixels add up, over i and j.
    ds = sum_over(dout * cache.x, (2, 3))
    return dx, ds


def channel_shuffle_forward(x: Array, *, groups: int) -> tuple[Array, ChannelShuffleCache]:
    """Interleave the channels of all groups, so that a grouped convolution reads every group.

    Channel ``g * (C // groups) + k`` moves to position ``k * groups + g``:

        out[n, k * groups + g, i, j] = x[n, g * (C / groups) + k, i, j]

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Feature maps.
    groups : int
        Divides C.

    Returns
    -------
    out : ndarray of shape (N, C, H, W)
        A new array, in the dtype of x.
    cache : ChannelShuffleCache
        For channel_shuffle_backward.

    Raises
    ------
    ValueError, TypeError
        If the shape or the dtype is wrong, or groups does not divide C.

    Notes
    -----
    Source: Zhang et al., "ShuffleNet", arXiv:1707.01083.
    """
    check_integer("channel_shuffle", "groups", groups, 1)
    check_arrays("channel_shuffle", SHAPES["channel_shuffle"], x, complex_step=True)
    check_divisor("channel_shuffle", "groups", groups, "C", x.shape[1])
    out = _shuffled(x, groups)
    return out, ChannelShuffleCache(x.shape, x.dtype, groups)


def channel_shuffle_backward(dout: Array, cache: ChannelShuffleCache) -> tuple[Array]:
    """Return dx (N, C, H, W): a shuffle with C // groups groups is the inverse.

        dx[n, g * (C / groups) + k, i, j] = dout[n, k * groups + g, i, j]

    Raises ValueError or TypeError if dout does not have the shape and dtype of out.
    """
    check_gradient("channel_shuffle", dout, Kind(cache.shape, cache.out_dtype))

    # why: Every channel of x is copied to one place of out, with slope 1, so its gradient is dout
    #      at that place: the channels go back to where they came from.
    dx = _shuffled(dout, dout.shape[1] // cache.groups)
    return (dx,)


def dropout_forward(x: Array, mask: Array, *, p: float) -> tuple[Array, DropoutCache]:
    """Return x / (1 - p) where mask is True, and 0 elsewhere; the expected value is unchanged.

    Parameters
    ----------
    x : ndarray of any shape
        Activations.
    mask : boolean ndarray of the same shape
        True for elements to keep. The caller draws it, True with probability 1 - p, so that the op
        is pure.
    p : float
        Probability of dropping an element, 0 <= p < 1.

    Returns
    -------
    out : ndarray of the shape of x
        A new array, in the dtype of x.
    cache : DropoutCache
        For dropout_backward.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree, or p is out of range.

    Notes
    -----
    Source: Srivastava et al., "Dropout", JMLR 15 (2014); scaled in training ("inverted"), so that
    evaluation is the identity.
    """
    check_arrays("dropout", SHAPES["dropout"], x, mask, complex_step=True)
    p = check_number("dropout", "p", p, "a number from 0 to below 1", 0, np.nextafter(1, 0))
    out = np.where(mask, x / (1 - p), 0)
    return out, DropoutCache(mask, x.dtype, p)


def dropout_backward(dout: Array, cache: DropoutCache) -> tuple[Array, None]:
    """Return dx, and None for the mask.

    Raises ValueError or TypeError if dout does not have the shape and dtype of out.
    """
    check_gradient("dropout", dout, Kind(cache.mask.shape, cache.out_dtype))

    # forward: out = x / (1 - p) where kept, 0 elsewhere
    # why: A kept x is divided by 1 - p, so its slope is 1 / (1 - p); a dropped one does not reach
    #      out at all, so its slope is 0, and the mask is the one that forward used.
    dx = np.where(cache.mask, dout / (1 - cache.p), 0)
    return dx, None


def shake_forward(x1: Array, x2: Array, *, alpha: Array, beta: Array) -> tuple[Array, ShakeCache]:
    """Return alpha * x1 + (1 - alpha) * x2, two branches mixed by a factor of each image.

    Parameters
    ----------
    x1, x2 : ndarray of shape (N, C, H, W)
        Outputs of two branches.
    alpha : ndarray of shape (N,)
        Share of x1 in each image's output. In training the caller draws it uniformly in 0..1, so
        that the op is pure; in evaluation it is 1/2, the mean.
    beta : ndarray of shape (N,)
        Share of x1 in each image's gradient, which only backward uses; drawn like alpha, and
        independently of it.

    Returns
    -------
    out : ndarray of shape (N, C, H, W)
        A new array, in the dtype of x1.
    cache : ShakeCache
        For shake_backward.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree.

    Notes
    -----
    Source: Gastaldi, "Shake-Shake regularization", arXiv:1705.07485. Shares that are drawn for each
    image, in forward and in backward, are the paper's variant "Shake-Shake-Image".
    """
    check_arrays("shake", SHAPES["shake"], x1, x2, alpha, beta, complex_step=True)
    rest = 1 - alpha
    out = alpha[:, None, None, None] * x1 + rest[:, None, None, None] * x2
    return out, ShakeCache(beta, x1.shape)


def shake_backward(dout: Array, cache: ShakeCache) -> tuple[Array, Array]:
    """Return beta * dout and (1 - beta) * dout, which is the gradient only where beta = alpha.

    Parameters
    ----------
    dout : ndarray of shape (N, C, H, W)
        Gradient of the loss with respect to out.
    cache : ShakeCache
        As forward returned it.

    Returns
    -------
    dx1, dx2 : ndarray of shape (N, C, H, W)
        In place of the gradients of the loss with respect to x1 and x2.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out.

    Notes
    -----
    The derivative of forward is alpha * dout and (1 - alpha) * dout. Backward replaces alpha by
    another random number: noise in the gradients, as data augmentation is noise in the images. A
    branch then learns from a gradient that does not tell how large its share of out was, so that
    the branches cannot rely on each other. The two gradients still add up to dout, and over many
    draws of beta the mean of each is dout / 2.

    A gradient check therefore passes with beta = alpha, and must fail with any other beta::

        shares = np.array([0.2, 0.9])
        forward = functools.partial(shake_forward, alpha=shares, beta=shares)
        gradcheck.check(forward, shake_backward, [x1, x2])

    A check that passed with another beta would tell that backward ignores beta.
    """
    check_gradient("shake", dout, cache.beta, cache.shape)

    # forward: out = alpha * x1 + (1 - alpha) * x2
    # why: The slope of out in x1 is alpha, and beta stands in its place on purpose: an independent
    #      random share, equal to the slope only where beta = alpha.
    dx1 = dout * cache.beta[:, None, None, None]
    # why: The slope of out in x2 is 1 - alpha, and 1 - beta stands in its place, so that dx1 and
    #      dx2 still add up to dout.
    dx2 = dout * (1 - cache.beta)[:, None, None, None]
    return dx1, dx2


def _shuffled(x: Array, groups: int) -> Array:
    order = np.arange(x.shape[1]).reshape(groups, -1).T.ravel()
    return x[:, order]

"""Pooling: every window of an image becomes one number, its maximum or its mean.

As in windows.py, loops run over the offsets of a window. Forward takes a maximum or a sum over the
KH * KW views; backward adds to each view its share of dout, and a pixel in several windows sums
the shares of all of them.

    max    out = the largest pixel of the window     dout to that pixel, the first of tied ones
    avg    out = sum of the window / divisor         dout / divisor to every pixel of the window

    window(dpadded, i, j) += dtotal                  for average pooling, dtotal = dout / divisor

Max pooling ignores the padding (pads with -inf), so an all-negative image keeps its values. Average
pooling counts the padding as zeros, or ignores it with count_include_pad=False.
"""

from typing import NamedTuple

import numpy as np

from minise.checks import Array, Pair, check_flag, check_pair
from minise.ops.reference.squeezes import squeeze_argmax, squeeze_backward, squeeze_forward
from minise.ops.reference.sums import double, mean_over
from minise.ops.reference.windows import Windows, pad, unpad, window, windows_of
from minise.ops.shapes import check_arrays, check_gradient, check_window

SHAPES = {
    "max_pool2d": "x: N C H W",
    "avg_pool2d": "x: N C H W",
    "global_avg_pool2d": "x: N C H W",
    "global_max_pool2d": "x: N C H W",
}


class MaxPool2dCache(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (N, C, H, W)
    argmax: Array  # (N, C, OH, OW)  h * W + w of each window's maximum
    kernel: Pair
    stride: Pair
    padding: Pair
    ceil_mode: bool


class AvgPool2dCache(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (N, C, H, W)
    kernel: Pair
    stride: Pair
    padding: Pair
    ceil_mode: bool
    count_include_pad: bool


class GlobalAvgPool2dCache(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (N, C, H, W)


class GlobalMaxPool2dCache(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (N, C, H, W)
    argmax: Array  # (N, C)  h * W + w of each channel's maximum


def max_pool2d_forward(
    x: Array,
    *,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
) -> tuple[Array, MaxPool2dCache]:
    """Return the maximum of every window; the first of tied maxima wins, and NaN counts as largest.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Feature maps.
    kernel, stride, padding : (int, int)
        Window size, steps between windows (None: kernel), pixels added on each side, at most half
        the kernel; each as (rows, columns).
    ceil_mode : bool
        Keep a last window that extends beyond the lower or right edge.

    Returns
    -------
    out : ndarray of shape (N, C, OH, OW)
        With ``OH = (H + 2 * padding - KH) // stride + 1`` (rounded up in ceil mode), OW likewise.
    cache : MaxPool2dCache
        For max_pool2d_backward.

    Raises
    ------
    ValueError, TypeError
        If the shape, the dtype or a setting is wrong.
    """
    stride = kernel if stride is None else stride
    check_pool("max_pool2d", x, kernel, stride, padding, ceil_mode)
    where = windows_of(x.shape[2:], kernel, stride, padding, ceil_mode=ceil_mode)
    # why: Backward has to know which pixel was the maximum, because only that pixel has a gradient.
    argmax = _first_maximum(x, where)  # = row times W plus column of the first maximum
    out = _pixels_at(x, argmax)
    return out, MaxPool2dCache(x, argmax, kernel, stride, padding, ceil_mode)


def max_pool2d_backward(dout: Array, cache: MaxPool2dCache) -> tuple[Array]:
    """Return dx: the sum of dout over the windows of which a pixel is the maximum.

    Parameters
    ----------
    dout : ndarray of shape (N, C, OH, OW)
        Gradient of the loss with respect to out.
    cache : MaxPool2dCache
        As forward returned it.

    Returns
    -------
    dx : ndarray of shape (N, C, H, W)
        Its sum is the sum of dout.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out.
    """
    x, argmax, kernel, stride, padding, ceil_mode = cache
    check_gradient("max_pool2d", dout, x, argmax.shape)
    where = windows_of(x.shape[2:], kernel, stride, padding, ceil_mode=ceil_mode)

    # forward: out = x at argmax
    # why: out is a copy of the largest pixel of its window, so that pixel gets all of dout and the
    #      others, which can change a little without changing out, get 0; a pixel that is the
    #      maximum of several windows sums the dout of all of them.
    dx = _sum_to_argmax(dout, argmax, where)  # = sum of dout over windows with the maximum here
    return (dx,)


def max_pool2d_branches(cache: MaxPool2dCache) -> Array:
    """Return the index h * W + w of each window's maximum, of shape (N, C, OH, OW)."""
    return cache.argmax


def avg_pool2d_forward(
    x: Array,
    *,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, AvgPool2dCache]:
    """Return the mean of every window.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Feature maps.
    kernel, stride, padding : (int, int)
        Window size, steps between windows (None: kernel), zeros added on each side, at most half
        the kernel; each as (rows, columns).
    ceil_mode : bool
        Keep a last window that extends beyond the lower or right edge; positions beyond the padding
        are not counted.
    count_include_pad : bool
        Count the padding in the divisor.

    Returns
    -------
    out : ndarray of shape (N, C, OH, OW)
        With ``OH = (H + 2 * padding - KH) // stride + 1`` (rounded up in ceil mode), OW likewise.
    cache : AvgPool2dCache
        For avg_pool2d_backward.

    Raises
    ------
    ValueError, TypeError
        If the shape, the dtype or a setting is wrong.
    """
    stride = kernel if stride is None else stride
    check_pool("avg_pool2d", x, kernel, stride, padding, ceil_mode)
    check_flag("avg_pool2d", "count_include_pad", count_include_pad)
    where = windows_of(x.shape[2:], kernel, stride, padding, ceil_mode=ceil_mode)
    padded = pad(x, where)
    total = _sum_of_windows(padded, where)
    # why: A window that overhangs the edge can have fewer pixels that count, and the mean divides
    #      by those.
    divisor = divisor_of(where, count_include_pad, x)  # = pixels that count in window (p, q)
    out = total / divisor
    return out, AvgPool2dCache(x, kernel, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d_backward(dout: Array, cache: AvgPool2dCache) -> tuple[Array]:
    """Return dx: the sum of dout / divisor over the windows that contain a pixel.

    Parameters
    ----------
    dout : ndarray of shape (N, C, OH, OW)
        Gradient of the loss with respect to out.
    cache : AvgPool2dCache
        As forward returned it.

    Returns
    -------
    dx : ndarray of shape (N, C, H, W)
        Zero outside all windows.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out.
    """
    x, kernel, stride, padding, ceil_mode, count_include_pad = cache
    where = windows_of(x.shape[2:], kernel, stride, padding, ceil_mode=ceil_mode)
    check_gradient("avg_pool2d", dout, x, (*x.shape[:2], *where.outputs))

    # forward: out = total / divisor
    # why: Recomputed, not a gradient: how many pixels of each window count depends on the sizes
    #      alone.
    divisor = divisor_of(where, count_include_pad, x)  # = pixels that count in window (p, q)
    # why: The divisor does not depend on x, so the slope of total / divisor in total is 1 /
    #      divisor.
    dtotal = dout / divisor

    # forward: total = sum over i, j of window(padded, i, j)
    # why: total adds the pixels of its window with slope 1, so each of them gets all of dtotal; +=
    #      because a pixel that lies in several windows sums the dtotal of all of them.
    dpadded = _sum_to_windows(dtotal, where)

    # forward: padded = pad(x)
    # why if any(where.padding + where.overhang): Each pixel of x stands once in padded, so its
    #      gradient is read off there; the frame does not depend on x, so its gradient is dropped.
    # why: There is no padding here, so padded is x itself and has the same gradient.
    dx = unpad(dpadded, where)
    return (dx,)


def global_avg_pool2d_forward(x: Array) -> tuple[Array, GlobalAvgPool2dCache]:
    """Return the mean of every channel of every image.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Feature maps.

    Returns
    -------
    out : ndarray of shape (N, C)
        A new array, in the dtype of x.
    cache : GlobalAvgPool2dCache
        For global_avg_pool2d_backward.

    Raises
    ------
    ValueError, TypeError
        If the shape or the dtype is wrong.
    """
    check_arrays("global_avg_pool2d", SHAPES["global_avg_pool2d"], x, complex_step=True)
    out = mean_over(x, (2, 3))
    return out, GlobalAvgPool2dCache(x)


def global_avg_pool2d_backward(dout: Array, cache: GlobalAvgPool2dCache) -> tuple[Array]:
    """Return dx (N, C, H, W), a read-only view: every pixel gets dout / (H * W).

    Raises ValueError or TypeError if dout does not have the shape (N, C) and the dtype of out.
    """
    x = cache.x
    check_gradient("global_avg_pool2d", dout, x, x.shape[:2])

    # forward: out = mean of x over H, W
    # why: The mean is the sum of the H * W pixels of the channel divided by H * W, so its slope in
    #      each pixel is 1 / (H * W).
    share = dout / (x.shape[2] * x.shape[3])  # = dout / (H * W)
    # why: Every pixel of the channel is in the one mean with the same slope, so all of them get the
    #      same share.
    dx = np.broadcast_to(share[:, :, None, None], x.shape)  # = share[n, c]
    return (dx,)


def global_max_pool2d_forward(x: Array) -> tuple[Array, GlobalMaxPool2dCache]:
    """Return the maximum of every channel of every image; the first of tied maxima wins.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Feature maps.

    Returns
    -------
    out : ndarray of shape (N, C)
        A new array, in the dtype of x.
    cache : GlobalMaxPool2dCache
        For global_max_pool2d_backward.

    Raises
    ------
    ValueError, TypeError
        If the shape or the dtype is wrong.
    """
    check_arrays("global_max_pool2d", SHAPES["global_max_pool2d"], x, complex_step=True)
    argmax = squeeze_argmax(x)
    out = squeeze_forward(x, argmax, "max")[:, :, 0, 0]  # = x at argmax
    return out, GlobalMaxPool2dCache(x, argmax[:, :, 0, 0])


def global_max_pool2d_backward(dout: Array, cache: GlobalMaxPool2dCache) -> tuple[Array]:
    """Return dx (N, C, H, W): dout at the pixel of each maximum, 0 elsewhere.

    Raises ValueError or TypeError if dout does not have the shape (N, C) and the dtype of out.
    """
    x, argmax = cache
    check_gradient("global_max_pool2d", dout, x, argmax.shape)

    # forward: out = x at argmax
    # why: out is a copy of the largest pixel of the channel, so that pixel gets all of dout; a
    #      small change of any other pixel leaves the maximum as it is, so the others get 0.
    dx = squeeze_backward(dout[:, :, None, None], argmax[:, :, None, None], x)
    return (dx,)


def global_max_pool2d_branches(cache: GlobalMaxPool2dCache) -> Array:
    """Return the index h * W + w of each channel's maximum, of shape (N, C)."""
    return cache.argmax


def check_pool(
    op: str, x: Array, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool
) -> None:
    """Check the arguments of max_pool2d and avg_pool2d."""
    check_pair(op, "kernel", kernel, 1)
    check_pair(op, "stride", stride, 1)
    check_pair(op, "padding", padding, 0)
    check_flag(op, "ceil_mode", ceil_mode)
    check_arrays(op, SHAPES[op], x, complex_step=True)
    for axis, size, frame in zip(("rows", "columns"), kernel, padding, strict=True):
        if 2 * frame > size:
            raise ValueError(
                f"{op}: padding is {frame} {axis}, expected at most half the kernel's {size}: a "
                "window must not lie in the padding alone"
            )
    check_window(op, x.shape[2:], padding, kernel)


def _first_maximum(x: Array, where: Windows) -> Array:
    """Return h * W + w of the first maximum of every window; NaN is larger than any number."""
    H, W = where.image
    padded = pad(x.real, where, -np.inf)
    index = pad(np.arange(H * W).reshape(H, W), where, -1)
    values = np.stack([window(padded, where, i, j) for i, j in where.offsets()])
    indices = np.stack([window(index, where, i, j) for i, j in where.offsets()])
    largest = (values == values.max(axis=0)) | np.isnan(values)
    inside = indices[:, None, None] >= 0  # the maximum of an image of -inf is not in the padding
    first = (largest & inside).argmax(axis=0)
    p, q = np.indices(where.outputs, sparse=True)
    return indices[first, p, q]


def _pixels_at(x: Array, argmax: Array) -> Array:
    pixels = x.reshape(*x.shape[:2], -1)
    chosen = np.take_along_axis(pixels, argmax.reshape(*x.shape[:2], -1), 2)
    return chosen.reshape(argmax.shape)  # = x at argmax


def _sum_to_argmax(dout: Array, argmax: Array, where: Windows) -> Array:
    H, W = where.image
    index = pad(np.arange(H * W).reshape(H, W), where, -1)
    dpadded = np.zeros(dout.shape[:2] + index.shape, double(dout.dtype))
    for i, j in where.offsets():  # for each offset (i, j) of a window
        chosen = argmax == window(index, where, i, j)
        window(dpadded, where, i, j)[...] += np.where(chosen, dout, 0)
    return unpad(dpadded, where).astype(dout.dtype, copy=False)


def _sum_of_windows(padded: Array, where: Windows) -> Array:
    total = np.zeros(padded.shape[:-2] + where.outputs, double(padded.dtype))
    for i, j in where.offsets():  # for each offset (i, j) of a window
        total += window(padded, where, i, j)
    return total.astype(padded.dtype, copy=False)


def _sum_to_windows(dtotal: Array, where: Windows) -> Array:
    frame = pad(np.zeros(where.image, bool), where)
    dpadded = np.zeros(dtotal.shape[:2] + frame.shape, double(dtotal.dtype))
    for i, j in where.offsets():  # for each offset (i, j) of a window
        window(dpadded, where, i, j)[...] += dtotal
    return dpadded.astype(dtotal.dtype, copy=False)


def divisor_of(where: Windows, count_include_pad: bool, x: Array) -> Array:
    """Return the number of pixels that count in every window, (OH, OW), in the dtype of x."""
    counted = np.ones(where.image, x.real.dtype)
    if count_include_pad:
        counted = np.pad(counted, [(size, size) for size in where.padding], constant_values=1)
        where = where._replace(image=counted.shape, padding=(0, 0))
    return _sum_of_windows(pad(counted, where), where)

"""Convolution: KH * KW matrix products of shifted images.

For every offset (a, b) of the kernel, the pixels of all windows are one shifted view of the padded
image (windows.py): window(padded, a, b)[n, c, p, q] is the pixel at offset (a, b) of the window in
row p and column q, and the weights at that offset are a matrix of K x C numbers. So

    padded  = pad(x)                                                        (N, C, PH, PW)
    product = sum over a, b of weight[:, :, a, b] @ window(padded, a, b)    (N, K, OH, OW)
    out     = product + bias

where the matrix product runs over the channels, at every window of every image. (As everywhere in
deep learning this is a correlation: the kernel is not flipped.) With groups, channels and filters
are split into `groups` equal parts, and each part of the filters reads its part of the channels:
one product becomes `groups` independent products, with 1 x 1 matrices for depthwise convolution.

Backward differentiates the product of each offset. From Y = A B follow dA = dY B.T and
dB = A.T dY, with a sum over all images n and all windows (p, q) for each weight:

    dweight[k, c, a, b] = sum over n, p, q of dout[n, k, p, q] * window(padded, a, b)[n, c, p, q]
    window(dpadded, a, b)[n, c, p, q] += sum over k of weight[k, c, a, b] * dout[n, k, p, q]

Source: Dumoulin and Visin, "A guide to convolution arithmetic for deep learning",
arXiv:1603.07285, for the sizes; the sum over offsets is the plain definition, reordered.
"""

from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array, Pair, check_divisor, check_flag, check_integer, check_pair
from minise.ops.reference.combine import add_forward
from minise.ops.reference.sums import sum_over
from minise.ops.reference.windows import Windows, pad, unpad, window, windows_of
from minise.ops.shapes import check_arrays, check_gradient, check_window

SHAPES = {"conv2d": "x: N C H W, weight: K C/groups KH KW, bias?: K"}


class Conv2dCache(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (N, C, H, W)
    weight: Array  # (K, C // groups, KH, KW)
    bias: Array | None  # (K,)
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> tuple[Array, Conv2dCache]:
    """Correlate images with K filters.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Images, or feature maps.
    weight : ndarray of shape (K, C // groups, KH, KW)
        One filter for each output channel.
    bias : ndarray of shape (K,), optional
        Added to each output channel.
    stride, padding, dilation : (int, int)
        Steps between windows, rows and columns of zeros on each side, steps between a window's
        pixels; each as (rows, columns), in pixels.
    groups : int
        Divides C and K; the filters of a group read only the channels of that group.

    Returns
    -------
    out : ndarray of shape (N, K, OH, OW)
        With ``OH = (H + 2 * padding - dilation * (KH - 1) - 1) // stride + 1``, OW likewise.
    cache : Conv2dCache
        For conv2d_backward.

    Raises
    ------
    ValueError, TypeError
        If shapes or dtypes disagree, groups does not divide the channels, or the kernel is larger
        than the padded image.
    """
    check_conv2d(x, weight, bias, stride, padding, dilation, groups, complex_step=True)
    where = windows_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    padded = pad(x, where)
    product = _sum_of_products(padded, weight, where, groups)
    out = product if bias is None else product + bias[:, None, None]
    return out, Conv2dCache(x, weight, bias, stride, padding, dilation, groups)


def check_conv2d(
    x: Array,
    weight: Array,
    bias: Array | None,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
    groups: int,
    *,
    complex_step: bool = False,
) -> None:
    """Check the arguments of conv2d_forward, in every back end."""
    check_pair("conv2d", "stride", stride, 1)
    check_pair("conv2d", "padding", padding, 0)
    check_pair("conv2d", "dilation", dilation, 1)
    check_integer("conv2d", "groups", groups, 1)
    arrays = x, weight, bias
    check_arrays("conv2d", SHAPES["conv2d"], *arrays, complex_step=complex_step, groups=groups)
    check_divisor("conv2d", "groups", groups, "K", len(weight))
    check_window("conv2d", x.shape[2:], padding, _span(weight, dilation))


def conv2d_backward(
    dout: Array, cache: Conv2dCache, *, plus: Array | None = None, needs_dx: bool = True
) -> tuple[Array | None, ...]:
    """Return the gradients of the loss with respect to x, weight and bias.

    Parameters
    ----------
    dout : ndarray of shape (N, K, OH, OW)
        Gradient of the loss with respect to out.
    cache : Conv2dCache
        As forward returned it.
    plus : ndarray of shape (N, C, H, W), optional
        Gradient of the loss with respect to x from another op that reads x, such as a shortcut; it
        is added to dx.
    needs_dx : bool
        If False, dx is not computed, and plus is ignored: for inputs such as the images.

    Returns
    -------
    dx, dweight, dbias : ndarray
        With the shapes of x, weight, bias; dbias is None if bias was None, and dx is None
        without needs_dx.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape and dtype of out, or plus those of x.
    """
    x, weight, bias, stride, padding, dilation, groups = cache
    where = windows_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    check_conv2d_backward(dout, cache, where.outputs, plus, needs_dx)

    # forward: out = product + bias
    # why: bias[k] is added with slope 1 at every window (p, q) of every image n, so its gradient
    #      sums dout over n, p and q.
    dbias = None if bias is None else sum_over(dout, (0, 2, 3))

    # forward: product = sum over c, a, b of weight[k, c, a, b] * window(padded, a, b)[n, c, p, q]
    # why: Recomputed, not a gradient: the weights multiplied the pixels of the padded image, which
    #      forward does not keep, so dweight needs it once more.
    padded = pad(x, where)
    # why: The same weight[k, c, a, b] multiplies the pixel at offset (a, b) of every window of
    #      every image, so its gradient sums dout times that pixel over n, p and q.
    dweight = _weight_gradient(dout, padded, weight, where, groups)
    if not needs_dx:
        return None, dweight, dbias
    # why if groups > 1: The pixel at offset (a, b) of window (p, q) enters out[n, k, p, q] of every
    #      filter k of its group with the factor weight[k, c, a, b], hence the sum over k; and +=
    #      because a pixel can lie in several windows, at another offset of each, and all these
    #      gradients add up.
    # why: The pixel at offset (a, b) of window (p, q) enters out[n, k, p, q] of every filter k with
    #      the factor weight[k, c, a, b], hence the sum over k; and += because a pixel can lie in
    #      several windows, at another offset of each, and all these gradients add up.
    dpadded = _image_gradient(dout, padded, weight, where, groups)

    # forward: padded = pad(x)
    # why if any(where.padding): Each pixel of x stands once in padded, so its gradient is read off
    #      there; the frame is made of zeros that do not depend on x, so its gradient is dropped.
    # why: There is no padding here, so padded is x itself and has the same gradient.
    dx = unpad(dpadded, where)
    if plus is None:
        return dx, dweight, dbias

    # why: Another op reads x too, and a change of x reaches the loss through both, so the gradients
    #      add up.
    dx_total, _ = add_forward(dx, plus)
    return dx_total, dweight, dbias


def check_conv2d_backward(
    dout: Array, cache: Conv2dCache, outputs: Pair, plus: Array | None, needs_dx: bool
) -> None:
    """Check the arguments of conv2d_backward, in every back end; outputs is (OH, OW)."""
    check_flag("conv2d", "needs_dx", needs_dx)
    check_gradient("conv2d", dout, cache.x, (len(cache.x), len(cache.weight), *outputs))
    if needs_dx and plus is not None:
        check_gradient("conv2d", plus, cache.x, name="plus", of="x")


def _span(weight: Array, dilation: Pair) -> Pair:
    """Return the number of rows and columns that a window spans."""
    KH, KW = weight.shape[2:]
    return dilation[0] * (KH - 1) + 1, dilation[1] * (KW - 1) + 1


# The three sums over offsets. Each channel is one row of N * OH * OW numbers, so that one matrix
# product computes the whole batch. The results keep this memory layout, with the channels
# outermost, so that the next op need not copy its rows.


def _rows(images: Array, groups: int) -> Array:
    """Return (N, C, …) as (groups, C // groups, N * …), one row per channel, copied if needed."""
    C = images.shape[1]
    return images.swapaxes(0, 1).reshape(groups, C // groups, -1)


def _images(rows: Array, N: int, size: Pair) -> Array:
    """Return rows (groups, K // groups, N * H * W) as images (N, K, H, W), a view."""
    return rows.reshape(-1, N, *size).swapaxes(0, 1)


def _matrices(weight: Array, groups: int) -> Array:
    """Return (K, C // groups, KH, KW) as (KH, KW, groups, K // groups, C // groups)."""
    K, channels, KH, KW = weight.shape
    cut = weight.reshape(groups, K // groups, channels, KH, KW)
    return np.ascontiguousarray(cut.transpose(3, 4, 0, 1, 2))


def _sum_of_products(padded: Array, weight: Array, where: Windows, groups: int) -> Array:
    matrices = _matrices(weight, groups)
    total: Any = 0
    for i, j in where.offsets():  # for each offset (i, j) of the kernel
        total += matrices[i, j] @ _rows(window(padded, where, i, j), groups)
    return _images(total, len(padded), where.outputs)


def _weight_gradient(
    dout: Array, padded: Array, weight: Array, where: Windows, groups: int
) -> Array:
    # these sums are long, and for rows that are not contiguous BLAS may sum sequentially
    rows = np.ascontiguousarray(_rows(dout, groups))
    dmatrices = np.empty_like(_matrices(weight, groups))
    for i, j in where.offsets():  # for each offset (i, j) of the kernel
        seen = np.ascontiguousarray(_rows(window(padded, where, i, j), groups))
        dmatrices[i, j] = rows @ seen.swapaxes(1, 2)
    return dmatrices.transpose(2, 3, 4, 0, 1).reshape(weight.shape)


def _image_gradient(
    dout: Array, padded: Array, weight: Array, where: Windows, groups: int
) -> Array:
    rows = _rows(dout, groups)
    matrices = _matrices(weight, groups)
    N, C, *size = padded.shape
    dpadded = np.zeros((C, N, *size), dout.dtype).swapaxes(0, 1)
    for i, j in where.offsets():  # for each offset (i, j) of the kernel
        seen = matrices[i, j].swapaxes(1, 2) @ rows
        window(dpadded, where, i, j)[...] += _images(seen, N, where.outputs)
    return dpadded

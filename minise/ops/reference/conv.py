"""Convolution: KH * KW matrix products of shifted images.

For every offset (a, b) of the kernel, all windows together see one shifted view of the padded
image (windows.py): window(padded, a, b) holds at [n, c, p, q] the pixel that the window in row p
and column q sees there, and the weights at that offset are a matrix of K x C numbers. So

    padded  = pad(x)                                                        (N, C, PH, PW)
    product = sum over a, b of weight[:, :, a, b] @ window(padded, a, b)    (N, K, OH, OW)
    out     = product + bias

where the matrix product runs over the channels, at every window of every image. (As everywhere in
deep learning this is a correlation: the kernel is not flipped.) With groups, channels and filters
are cut into as many equal parts, and each part of the filters sees its part of the channels:
one product becomes `groups` independent ones, down to depthwise, where each is a 1 x 1 matrix.

Backward takes each product, offset by offset. From Y = A B follows dA = dY B.T, dB = A.T dY,
where a weight adds up what all images n and all windows (p, q) send to it:

    dweight[k, c, a, b] = sum over n, p, q of dout[n, k, p, q] * window(padded, a, b)[n, c, p, q]
    window(dpadded, a, b) += weight[:, :, a, b].T @ dout

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
        Divides C and K; filters of one part see the channels of that part only.

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
    """Check what conv2d_forward takes, in every back end."""
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
    """Carry the gradient of the loss from out to image, filters and bias.

    Parameters
    ----------
    dout : ndarray of shape (N, K, OH, OW)
        Gradient of the loss with respect to out.
    cache : Conv2dCache
        As forward returned it.
    plus : ndarray of shape (N, C, H, W), optional
        Gradient of the loss with respect to x where x is read by another op too, such as a
        shortcut: it is added to dx.
    needs_dx : bool
        False if the caller does not use dx, as of the images: dx is then not computed, and plus is
        ignored.

    Returns
    -------
    dx, dweight, dbias : ndarray
        Of the shapes of x, weight, bias; None for a bias that was None, and in the place of dx
        unless needs_dx.

    Raises
    ------
    ValueError, TypeError
        If dout is not of the shape and dtype of out, or plus not of those of x.
    """
    x, weight, bias, stride, padding, dilation, groups = cache
    where = windows_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    check_conv2d_backward(dout, cache, where.outputs, plus, needs_dx)

    # forward: out = product + bias    one bias serves all windows of all images
    dbias = None if bias is None else sum_over(dout, (0, 2, 3))

    # forward: product = sum over c, a, b of weight[k, c, a, b] * window(padded, a, b)[n, c, p, q]
    padded = pad(x, where)
    dweight = _weight_gradient(dout, padded, weight, where, groups)
    if not needs_dx:
        return None, dweight, dbias
    dpadded = _image_gradient(dout, padded, weight, where, groups)

    # forward: padded = pad(x)         what fell on the frame is dropped
    dx = unpad(dpadded, where)
    if plus is None:
        return dx, dweight, dbias

    # x is read by another op too: both gradients add up
    dx_total, _ = add_forward(dx, plus)
    return dx_total, dweight, dbias


def check_conv2d_backward(
    dout: Array, cache: Conv2dCache, outputs: Pair, plus: Array | None, needs_dx: bool
) -> None:
    """Check what conv2d_backward takes, in every back end; outputs is (OH, OW)."""
    check_flag("conv2d", "needs_dx", needs_dx)
    check_gradient("conv2d", dout, cache.x, (len(cache.x), len(cache.weight), *outputs))
    if needs_dx and plus is not None:
        check_gradient("conv2d", plus, cache.x, name="plus", of="x")


def _span(weight: Array, dilation: Pair) -> Pair:
    """Return how many rows and columns a window spans."""
    KH, KW = weight.shape[2:]
    return dilation[0] * (KH - 1) + 1, dilation[1] * (KW - 1) + 1


# The three sums over offsets. Each channel is laid out as one row of N * OH * OW numbers, so that
# one matrix product serves the whole batch; their results keep that order in memory, with the
# channels outermost, and the next op finds its rows already in place.


def _rows(images: Array, groups: int) -> Array:
    """Return (N, C, …) as (groups, C // groups, N * …): one row a channel, copied if it must be."""
    C = images.shape[1]
    return images.swapaxes(0, 1).reshape(groups, C // groups, -1)


def _images(rows: Array, N: int, size: Pair) -> Array:
    """Undo _rows."""
    return rows.reshape(-1, N, *size).swapaxes(0, 1)


def _matrices(weight: Array, groups: int) -> Array:
    """Return (K, C // groups, KH, KW) as (KH, KW, groups, K // groups, C // groups)."""
    K, channels, KH, KW = weight.shape
    cut = weight.reshape(groups, K // groups, channels, KH, KW)
    return np.ascontiguousarray(cut.transpose(3, 4, 0, 1, 2))


def _sum_of_products(padded: Array, weight: Array, where: Windows, groups: int) -> Array:
    matrices = _matrices(weight, groups)
    total: Any = 0
    for i, j in where.offsets():
        total += matrices[i, j] @ _rows(window(padded, where, i, j), groups)
    return _images(total, len(padded), where.outputs)


def _weight_gradient(
    dout: Array, padded: Array, weight: Array, where: Windows, groups: int
) -> Array:
    # these sums are long, and along rows that are not contiguous BLAS may add one after another
    rows = np.ascontiguousarray(_rows(dout, groups))
    dmatrices = np.empty_like(_matrices(weight, groups))
    for i, j in where.offsets():
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
    for i, j in where.offsets():
        seen = matrices[i, j].swapaxes(1, 2) @ rows
        window(dpadded, where, i, j)[...] += _images(seen, N, where.outputs)
    return dpadded

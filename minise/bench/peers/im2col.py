"""A back end whose convolution is im2col in NumPy, as taught in courses.

Fancy indexing copies every window into a column of one large matrix, so that the convolution is one
matrix product with the filters as rows. Backward computes two products, and adds the gradients of
the columns at the pixels they were copied from. The matrix contains each pixel KH * KW times, and
its transposition needs the same memory again: for a layer of 16 channels, 128 images of 32x32 and a
3x3 kernel, 75 MB become 151 MB.

All other ops are the reference's, which are similar to those of such courses, so that a comparison
shows the cost of this convolution.

Source: the scheme of the assignments of Stanford's CS231n, "Convolutional Neural Networks for
Visual Recognition" (im2col and col2im by indices), implemented independently. Instead of np.add.at,
columns are added through slices, one kernel offset at a time, which is several times as fast.
"""

import sys
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array, Pair
from minise.ops import reference
from minise.ops.reference.conv import Conv2dCache
from minise.ops.reference.windows import Windows, pad, unpad, window, windows_of

folds = False  # inference uses conv2d_forward below, without folded batch norm


def using(*, threads: int | None = None, algorithm: str | None = None) -> Any:
    """Return this module, which has no options: see minise.ops.reference.using."""
    reference.using(threads=threads, algorithm=algorithm)
    return sys.modules[__name__]


class Im2colCache(NamedTuple):
    """The reference's cache, and the columns for backward."""

    conv: Conv2dCache
    cols: Array  # (C * KH * KW, OH * OW * N)


def __getattr__(name: str) -> Any:
    """Return an attribute of the reference: every other op."""
    return getattr(reference, name)


def conv2d_forward(
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> tuple[Array, Im2colCache]:
    """See minise.ops.reference.conv2d_forward; groups must be 1."""
    if groups != 1:
        raise ValueError(
            f"conv2d: groups is {groups}, expected 1: numpy-im2col has no grouped convolution"
        )
    geometry = windows_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    cols = im2col(x, geometry)
    product = weight.reshape(len(weight), -1) @ cols
    out = product.reshape(len(weight), *geometry.outputs, len(x)).transpose(3, 0, 1, 2)
    out = out if bias is None else out + bias[:, None, None]
    return out, Im2colCache(Conv2dCache(x, weight, bias, stride, padding, dilation, groups), cols)


def conv2d_backward(
    dout: Array, cache: Im2colCache, *, plus: Array | None = None, needs_dx: bool = True
) -> tuple[Array | None, ...]:
    """See minise.ops.reference.conv2d_backward."""
    (x, weight, bias, stride, padding, dilation, _), cols = cache
    geometry = windows_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    dbias = None if bias is None else dout.sum(axis=(0, 2, 3))
    dproduct = dout.transpose(1, 2, 3, 0).reshape(len(weight), -1)
    dweight = (dproduct @ cols.T).reshape(weight.shape)
    if not needs_dx:
        return None, dweight, dbias
    dcols = weight.reshape(len(weight), -1).T @ dproduct
    dx = col2im(dcols, x, geometry)
    return dx if plus is None else dx + plus, dweight, dbias


def im2col(x: Array, geometry: Windows) -> Array:
    """Return all windows as columns of a matrix (C * KH * KW, OH * OW * N)."""
    padded = pad(x, geometry)
    k, i, j = _indices(x.shape[1], geometry)
    return padded[:, k, i, j].transpose(1, 2, 0).reshape(len(k), -1)


def col2im(dcols: Array, x: Array, geometry: Windows) -> Array:
    """Add columns at the pixels that im2col read, and remove the padding: (N, C, H, W)."""
    N, C = x.shape[:2]
    dpadded: Any = np.zeros_like(pad(x, geometry))
    shaped = dcols.reshape(C, *geometry.kernel, *geometry.outputs, N).transpose(5, 0, 1, 2, 3, 4)
    for i, j in geometry.offsets():
        window(dpadded, geometry, i, j)[...] += shaped[:, :, i, j]
    return unpad(dpadded, geometry)


def _indices(C: int, geometry: Windows) -> tuple[Array, Array, Array]:
    """Return channel (C * KH * KW, 1), row and column (C * KH * KW, OH * OW) of every entry."""
    (KH, KW), (OH, OW) = geometry.kernel, geometry.outputs
    k, i, j = (axis.reshape(-1, 1) for axis in np.mgrid[:C, :KH, :KW])
    p, q = (axis.reshape(1, -1) for axis in np.mgrid[:OH, :OW])
    rows = i * geometry.dilation[0] + p * geometry.stride[0]
    columns = j * geometry.dilation[1] + q * geometry.stride[1]
    return k, rows, columns

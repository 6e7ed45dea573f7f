"""A back end whose convolution is im2col in NumPy, as courses teach it.

Every window is copied into a column of one large matrix by fancy indexing, so that the whole
convolution is one matrix product with the filters as rows; backward multiplies twice and adds the
columns' gradients back where they came from. The matrix holds each pixel KH * KW times, and the
indices are as large again: for a layer of 16 channels, 128 images of 32x32 and a 3x3 kernel, 75 MB
become 151 MB on the way through the transposition.

All other ops are the reference's, which such courses write much alike: a comparison shows what
this convolution costs.

Source: the scheme of the assignments of Stanford's CS231n, "Convolutional Neural Networks for
Visual Recognition" (im2col and col2im by indices), in words of our own. Where theirs adds with
np.add.at, here columns are added offset by offset through slices, which is several times as fast.
"""

import sys
from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array, Pair
from minise.ops import reference
from minise.ops.reference.conv import Conv2dCache
from minise.ops.reference.windows import Windows, pad, unpad, window, windows_of

folds = False  # nets predict by the convolution that is measured here


def using(*, threads: int | None = None, algorithm: str | None = None) -> Any:
    """Return these ops, which have one way to run: see minise.ops.reference.using."""
    reference.using(threads=threads, algorithm=algorithm)
    return sys.modules[__name__]


class Im2colCache(NamedTuple):
    """The reference's cache, and the columns, which such courses keep for backward."""

    conv: Conv2dCache
    cols: Array  # (C * KH * KW, OH * OW * N)


def __getattr__(name: str) -> Any:
    """Return what the reference has: every other op."""
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
        raise ValueError(f"conv2d: groups is {groups}, expected 1: this peer has no other")
    where = windows_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    cols = im2col(x, where)
    product = weight.reshape(len(weight), -1) @ cols
    out = product.reshape(len(weight), *where.outputs, len(x)).transpose(3, 0, 1, 2)
    out = out if bias is None else out + bias[:, None, None]
    return out, Im2colCache(Conv2dCache(x, weight, bias, stride, padding, dilation, groups), cols)


def conv2d_backward(
    dout: Array, cache: Im2colCache, *, plus: Array | None = None, needs_dx: bool = True
) -> tuple[Array | None, ...]:
    """See minise.ops.reference.conv2d_backward."""
    (x, weight, bias, stride, padding, dilation, _), cols = cache
    where = windows_of(x.shape[2:], weight.shape[2:], stride, padding, dilation)
    dbias = None if bias is None else dout.sum(axis=(0, 2, 3))
    dproduct = dout.transpose(1, 2, 3, 0).reshape(len(weight), -1)
    dweight = (dproduct @ cols.T).reshape(weight.shape)
    if not needs_dx:
        return None, dweight, dbias
    dcols = weight.reshape(len(weight), -1).T @ dproduct
    dx = col2im(dcols, x, where)
    return dx if plus is None else dx + plus, dweight, dbias


def im2col(x: Array, where: Windows) -> Array:
    """Return every window as a column: (C * KH * KW, OH * OW * N)."""
    padded = pad(x, where)
    k, i, j = _indices(x.shape[1], where)
    return padded[:, k, i, j].transpose(1, 2, 0).reshape(len(k), -1)


def col2im(dcols: Array, x: Array, where: Windows) -> Array:
    """Add columns up where im2col read them, and drop the frame."""
    N, C = x.shape[:2]
    dpadded: Any = np.zeros_like(pad(x, where))
    shaped = dcols.reshape(C, *where.kernel, *where.outputs, N).transpose(5, 0, 1, 2, 3, 4)
    for i, j in where.offsets():
        window(dpadded, where, i, j)[...] += shaped[:, :, i, j]
    return unpad(dpadded, where)


def _indices(C: int, where: Windows) -> tuple[Array, Array, Array]:
    """Return channel (C * KH * KW, 1), and row and column (C * KH * KW, OH * OW) of every entry."""
    (KH, KW), (OH, OW) = where.kernel, where.outputs
    k, i, j = (axis.reshape(-1, 1) for axis in np.mgrid[:C, :KH, :KW])
    p, q = (axis.reshape(1, -1) for axis in np.mgrid[:OH, :OW])
    rows = i * where.dilation[0] + p * where.stride[0]
    columns = j * where.dilation[1] + q * where.stride[1]
    return k, rows, columns

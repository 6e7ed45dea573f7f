"""Convolution on the GPU: im2col (windows.cu) and one matrix product per image.

With columns (N, groups, C // groups * KH * KW, OH * OW) and weight as one matrix per group,

    out      = weight @ columns           dcolumns = weight.T @ dout        then col2im
    dweight  = sum over N of dout @ columns.T, computed as (columns @ dout.T).T

because the matrix product copies a transposed operand, and dout is much smaller than columns.

Columns are KH * KW times as large as x, so images are processed in batches with columns of at most
MAX_COLUMN_BYTES. A 1x1 convolution with stride 1 needs no copy: its columns are x.
"""

from collections.abc import Iterator
from typing import Any

from minise.checks import Array, Pair, as_pairs
from minise.ops.cuda.launcher import Launcher, blocks_of
from minise.ops.reference.conv import Conv2dCache, check_conv2d, check_conv2d_backward
from minise.ops.reference.windows import Windows, windows_of

FILE = "windows.cu"
MAX_COLUMN_BYTES = 1 << 28  # columns of one batch of images


def conv2d_forward(
    gpu: Launcher,
    x: Array,
    weight: Array,
    bias: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> tuple[Array, Conv2dCache]:
    """See minise.ops.reference.conv2d_forward."""
    check_conv2d(x, weight, bias, stride, padding, dilation, groups)
    cache = Conv2dCache(x, weight, bias, stride, padding, dilation, groups)
    matrices, where, groups = _matrices(gpu, cache), _windows(cache), int(groups)
    out = gpu.xp.empty((len(x), len(weight), *where.outputs), x.dtype)
    for batch in _batches(cache, where):
        columns = _im2col(gpu, x[batch], where, groups)
        gpu.xp.matmul(matrices, columns, out=_by_group(out[batch], groups))
    if bias is not None:
        out += bias[:, None, None]
    return out, cache


def conv2d_backward(
    gpu: Launcher,
    dout: Array,
    cache: Conv2dCache,
    *,
    plus: Array | None = None,
    needs_dx: bool = True,
) -> tuple[Array | None, ...]:
    """See minise.ops.reference.conv2d_backward."""
    x, weight, groups = cache.x, cache.weight, int(cache.groups)
    where = _windows(cache)
    check_conv2d_backward(dout, cache, where.outputs, plus, needs_dx)
    matrices = _matrices(gpu, cache)
    dx = gpu.xp.empty(x.shape, x.dtype) if needs_dx else None
    dtransposed: Any = 0  # dweight with both matrix axes exchanged
    for batch in _batches(cache, where):
        rows = _by_group(gpu.contiguous(dout[batch]), groups)
        columns = _im2col(gpu, x[batch], where, groups)
        dtransposed = dtransposed + gpu.xp.matmul(columns, rows.swapaxes(2, 3)).sum(axis=0)
        if dx is not None:
            _col2im(gpu, gpu.xp.matmul(matrices.swapaxes(1, 2), rows), dx[batch], where)
    if dx is not None and plus is not None:
        dx += plus
    dbias = None if cache.bias is None else dout.sum(axis=(0, 2, 3))
    dweight = gpu.contiguous(dtransposed.swapaxes(1, 2)).reshape(weight.shape)
    return dx, dweight, dbias


def _windows(cache: Conv2dCache) -> Windows:
    stride, padding, dilation = as_pairs(cache.stride, cache.padding, cache.dilation)
    return windows_of(cache.x.shape[2:], cache.weight.shape[2:], stride, padding, dilation)


def _matrices(gpu: Launcher, cache: Conv2dCache) -> Array:
    """Return weight as (groups, K // groups, C // groups * KH * KW)."""
    groups = int(cache.groups)
    return gpu.contiguous(cache.weight).reshape(groups, len(cache.weight) // groups, -1)


def _batches(cache: Conv2dCache, where: Windows) -> Iterator[slice]:
    """Yield slices of images whose columns fit into MAX_COLUMN_BYTES, of one image at least."""
    N, C, _, _ = cache.x.shape
    KH, KW = where.kernel
    OH, OW = where.outputs
    image_bytes = C * KH * KW * OH * OW * cache.x.dtype.itemsize
    images = max(1, MAX_COLUMN_BYTES // image_bytes)
    for start in range(0, N, images):
        yield slice(start, min(start + images, N))


def _window_sizes(where: Windows) -> tuple[int, ...]:
    """Return the sizes that im2col and col2im take."""
    pairs = where.image, where.kernel, where.stride, where.padding, where.dilation, where.outputs
    return tuple(number for pair in pairs for number in pair)


def _by_group(images: Array, groups: int) -> Array:
    """Return (N, K, H, W) as (N, groups, K // groups, H * W), a view."""
    N, K, H, W = images.shape
    return images.reshape(N, groups, K // groups, H * W)


def _pointwise(where: Windows) -> bool:
    """Return True if every window is one pixel and every pixel a window: columns equal images."""
    return where.kernel == where.stride == (1, 1) and where.padding == (0, 0)


def _im2col(gpu: Launcher, x: Array, where: Windows, groups: int) -> Array:
    """Return the columns of x, (N, groups, C // groups * KH * KW, OH * OW)."""
    images = gpu.contiguous(x)
    if _pointwise(where):
        return _by_group(images, groups)
    N, C, _, _ = x.shape
    (KH, KW), (OH, OW) = where.kernel, where.outputs
    columns = gpu.xp.empty((N, groups, C // groups * KH * KW, OH * OW), x.dtype)
    arguments = images, columns, columns.size, *_window_sizes(where)
    gpu.launch(FILE, "im2col", blocks_of(columns.size), *arguments, dtype=x.dtype)
    return columns


def _col2im(gpu: Launcher, dcolumns: Array, dx: Array, where: Windows) -> None:
    """Write dx: each pixel is the sum of its entries in dcolumns."""
    if _pointwise(where):
        dx[...] = dcolumns.reshape(dx.shape)
        return
    arguments = gpu.contiguous(dcolumns), dx, dx.size, *_window_sizes(where)
    gpu.launch(FILE, "col2im", blocks_of(dx.size), *arguments, dtype=dx.dtype)

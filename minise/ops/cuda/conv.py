"""Convolution on the GPU: windows.cu lays out columns, and one matrix product an image does it.

With columns (N, groups, C // groups * KH * KW, OH * OW) and weight as a matrix a group,

    out      = weight @ columns           dcolumns = weight.T @ dout        then col2im
    dweight  = sum over N of dout @ columns.T, computed as (columns @ dout.T).T

because the matrix product copies what it has to transpose, and dout is much smaller than columns.

Columns are KH * KW times as large as x, so images are taken in parts whose columns stay below
LIMIT. A convolution of 1x1 at stride 1 needs none: its columns are x.
"""

from collections.abc import Iterator
from typing import Any

from minise.checks import Array, Pair, as_pairs
from minise.ops.cuda.launcher import Launcher, blocks_of
from minise.ops.reference.conv import Conv2dCache, check_conv2d, check_conv2d_backward
from minise.ops.reference.windows import Windows, windows_of

FILE = "windows.cu"
LIMIT = 1 << 28  # bytes of columns at a time


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
    for part in _parts(cache, where):
        columns = _columns(gpu, x[part], where, groups)
        gpu.xp.matmul(matrices, columns, out=_rows(out[part], groups))
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
    dtransposed: Any = 0  # dweight with rows and columns exchanged
    for part in _parts(cache, where):
        rows = _rows(gpu.contiguous(dout[part]), groups)
        columns = _columns(gpu, x[part], where, groups)
        dtransposed = dtransposed + gpu.xp.matmul(columns, rows.swapaxes(2, 3)).sum(axis=0)
        if dx is not None:
            _add_up(gpu, gpu.xp.matmul(matrices.swapaxes(1, 2), rows), dx[part], where)
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


def _parts(cache: Conv2dCache, where: Windows) -> Iterator[slice]:
    """Yield the images in parts, each with columns below LIMIT, or of one image."""
    N, C, _, _ = cache.x.shape
    KH, KW = where.kernel
    OH, OW = where.outputs
    image = C * KH * KW * OH * OW * cache.x.dtype.itemsize
    images = max(1, LIMIT // image)
    for start in range(0, N, images):
        yield slice(start, min(start + images, N))


def _numbers(where: Windows) -> tuple[int, ...]:
    """Return the sizes that both kernels take."""
    pairs = where.image, where.kernel, where.stride, where.padding, where.dilation, where.outputs
    return tuple(number for pair in pairs for number in pair)


def _rows(images: Array, groups: int) -> Array:
    """Return (N, K, H, W) as (N, groups, K // groups, H * W), a view."""
    N, K, H, W = images.shape
    return images.reshape(N, groups, K // groups, H * W)


def _pointwise(where: Windows) -> bool:
    """Tell whether every window is one pixel and every pixel one window: columns are images."""
    return where.kernel == where.stride == (1, 1) and where.padding == (0, 0)


def _columns(gpu: Launcher, x: Array, where: Windows, groups: int) -> Array:
    """Return (N, groups, C // groups * KH * KW, OH * OW)."""
    images = gpu.contiguous(x)
    if _pointwise(where):
        return _rows(images, groups)
    N, C, _, _ = x.shape
    (KH, KW), (OH, OW) = where.kernel, where.outputs
    columns = gpu.xp.empty((N, groups, C // groups * KH * KW, OH * OW), x.dtype)
    given = images, columns, columns.size, *_numbers(where)
    gpu.launch(FILE, "im2col", blocks_of(columns.size), *given, dtype=x.dtype)
    return columns


def _add_up(gpu: Launcher, dcolumns: Array, dx: Array, where: Windows) -> None:
    """Write dx, where every pixel adds up what the windows that see it have for it."""
    if _pointwise(where):
        dx[...] = dcolumns.reshape(dx.shape)
        return
    given = gpu.contiguous(dcolumns), dx, dx.size, *_numbers(where)
    gpu.launch(FILE, "col2im", blocks_of(dx.size), *given, dtype=dx.dtype)

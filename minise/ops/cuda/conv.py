"""Convolution on the GPU: im2col (windows.cu) and matrix products.

With J = C // groups * KH * KW numbers in a window and P = OH * OW windows in an image, the columns
are (groups, J, N, P), and weight is one matrix (K // groups, J) per group:

    out[n, g]   = weight[g] @ columns[g, :, n]                    one product per image
    dweight[g]  = dout[g] @ columns[g].T                          one product over all images
    dcolumns[g] = weight[g].T @ dout[g]                           then col2im, the transpose

The backward products need dout as (groups, K // groups, N * P), a copy: im2col with a 1x1 kernel.

Columns are KH * KW times as large as x, so images are processed in batches with columns of at most
MAX_COLUMN_BYTES, and at most MAX_PIXELS pixels. The forward pass of a 1x1 convolution with stride 1
needs no copy: its columns are x.
"""

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from minise.checks import Array, Pair, as_pairs
from minise.ops.cuda.launcher import Launcher, blocks_of
from minise.ops.reference.conv import Conv2dCache, check_conv2d, check_conv2d_backward
from minise.ops.reference.windows import windows_of

FILE = "windows.cu"
MAX_COLUMN_BYTES = 1 << 28  # columns of one batch of images
MAX_PIXELS = 2**31 - 1  # of a batch of images: kernels count them in 32 bits
MAX_CHANNEL_BLOCKS = 65_535  # along y; a block computes further channels in a loop


class Sizes(NamedTuple):
    """The sizes of a convolution, computed once for its shapes and settings."""

    groups: int
    channels: int  # C // groups
    filters: int  # K // groups
    window: int  # J = C // groups * KH * KW, the numbers in a window
    outputs: Pair  # OH, OW
    pixels: int  # of an image of x or out, the larger one
    image_bytes: int  # of an image's columns
    pointwise: bool  # every window is one pixel, and every pixel a window
    kernel: tuple[int, ...]  # scalars of im2col and col2im for x
    transpose: tuple[int, ...]  # scalars of im2col for dout, whose channels become rows


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
    sizes, images, matrices = _operands(gpu, cache)
    out = gpu.xp.empty((len(x), len(weight), *sizes.outputs), x.dtype)
    by_group = out.reshape(len(x), sizes.groups, sizes.filters, -1)
    for batch in _batches(len(x), sizes):
        if sizes.pointwise:
            pixels = images[batch].reshape(batch.stop - batch.start, sizes.groups, sizes.window, -1)
            columns = pixels.transpose(1, 2, 0, 3)
        else:
            columns = _im2col(gpu, images, batch, sizes.window, sizes.groups, sizes.kernel)
        _multiply_images(gpu, matrices, columns, by_group[batch])
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
    x, weight = cache.x, cache.weight
    sizes, images, matrices = _operands(gpu, cache)
    check_conv2d_backward(dout, cache, sizes.outputs, plus, needs_dx)
    dbias = None if cache.bias is None else dout.sum(axis=(0, 2, 3))
    dout, groups = gpu.contiguous(dout), sizes.groups
    dweight = gpu.xp.empty(weight.shape, x.dtype)
    dmatrices = dweight.reshape(matrices.shape)
    dx = gpu.xp.empty(x.shape, x.dtype) if needs_dx else None
    for batch in _batches(len(x), sizes):
        columns = _im2col(gpu, images, batch, sizes.window, groups, sizes.kernel)
        douts = _im2col(gpu, dout, batch, sizes.filters, groups, sizes.transpose)
        columns, douts = (a.reshape(*a.shape[:2], -1) for a in (columns, douts))
        gpu.multiply(douts, columns.swapaxes(1, 2), dmatrices, add=batch.start > 0)
        if dx is not None:
            gpu.multiply(matrices.swapaxes(1, 2), douts, columns)  # columns are used up: dcolumns
            _col2im(gpu, columns, plus, dx, batch, sizes)
    return dx, dweight, dbias


def _operands(gpu: Launcher, cache: Conv2dCache) -> tuple[Sizes, Array, Array]:
    """Return the sizes, x, and weight as (groups, K // groups, J)."""
    x, weight = cache.x, gpu.contiguous(cache.weight)
    pairs = as_pairs(cache.stride, cache.padding, cache.dilation)
    sizes = _sizes(x.shape, weight.shape, x.dtype.itemsize, int(cache.groups), *pairs)
    return sizes, gpu.contiguous(x), weight.reshape(sizes.groups, sizes.filters, sizes.window)


@lru_cache(1024)
def _sizes(
    x: tuple[int, ...],
    weight: tuple[int, ...],
    itemsize: int,
    groups: int,
    stride: Pair,
    padding: Pair,
    dilation: Pair,
) -> Sizes:
    (_, C, H, W), (K, channels, KH, KW) = x, weight
    OH, OW = outputs = windows_of((H, W), (KH, KW), stride, padding, dilation).outputs
    pixels = max(H * W, OH * OW)
    if pixels > MAX_PIXELS:
        raise ValueError(
            f"conv2d: an image of x or out has {pixels} pixels, expected at most {MAX_PIXELS}: "
            "pass smaller images"
        )
    return Sizes(
        groups,
        channels,
        K // groups,
        channels * KH * KW,
        outputs,
        pixels=pixels,
        image_bytes=C * KH * KW * OH * OW * itemsize,
        pointwise=(KH, KW) == stride == (1, 1) and padding == (0, 0),
        kernel=(C, H, W, KH, KW, *stride, *padding, *dilation, OH, OW),
        transpose=(K, OH, OW, 1, 1, 1, 1, 0, 0, 1, 1, OH, OW),
    )


def _batches(N: int, sizes: Sizes) -> Iterator[slice]:
    """Yield slices of images, one at least, within MAX_COLUMN_BYTES and MAX_PIXELS."""
    images = max(1, min(MAX_COLUMN_BYTES // sizes.image_bytes, MAX_PIXELS // sizes.pixels))
    for start in range(0, N, images):
        yield slice(start, min(start + images, N))


def _multiply_images(gpu: Launcher, matrices: Array, columns: Array, out: Array) -> None:
    """Write out[n, g] = matrices[g] @ columns[g, :, n], with as few calls as possible."""
    groups, N = len(matrices), len(out)
    if groups <= N:
        for g in range(groups):
            gpu.multiply(matrices[g], columns[g].swapaxes(0, 1), out[:, g])
    else:
        for n in range(N):
            gpu.multiply(matrices, columns[:, :, n], out[n])


def _im2col(
    gpu: Launcher, x: Array, batch: slice, window: int, groups: int, kernel: tuple[int, ...]
) -> Array:
    """Return the columns (groups, window, N, OH * OW) of a batch of the images x."""
    C, *_, OH, OW = kernel
    N = batch.stop - batch.start
    columns = gpu.xp.empty((groups, window, N, OH * OW), x.dtype)
    blocks = blocks_of(N * OH * OW), min(C, MAX_CHANNEL_BLOCKS)
    scalars = batch.start, N, *kernel
    gpu.launch(FILE, "im2col", blocks, (x, columns), scalars, dtype=x.dtype)
    return columns


def _col2im(
    gpu: Launcher, dcolumns: Array, plus: Array | None, dx: Array, batch: slice, sizes: Sizes
) -> None:
    """Write dx of a batch: each pixel is the sum of its entries in dcolumns, and plus."""
    C, H, W, *_ = sizes.kernel
    N = batch.stop - batch.start
    blocks = blocks_of(N * H * W), min(C, MAX_CHANNEL_BLOCKS)
    arrays, scalars = (dcolumns, plus, dx), (batch.start, N, *sizes.kernel)
    gpu.launch(FILE, "col2im", blocks, arrays, scalars, dtype=dx.dtype)

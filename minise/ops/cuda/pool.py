"""Pooling on the GPU; over windows (windows.cu), forward and backward are one kernel each."""

import numpy as np

from minise.checks import Array, Pair, as_pairs, check_flag
from minise.ops.cuda.launcher import Launcher, blocks_of, rows_per_warp, warps
from minise.ops.reference.pool import (
    SHAPES,
    AvgPool2dCache,
    GlobalAvgPool2dCache,
    MaxPool2dCache,
    check_pool,
)
from minise.ops.reference.windows import Windows, windows_of
from minise.ops.shapes import check_arrays, check_gradient

FILE = "windows.cu"


def global_avg_pool2d_forward(gpu: Launcher, x: Array) -> tuple[Array, GlobalAvgPool2dCache]:
    """See minise.ops.reference.global_avg_pool2d_forward; the kernel is the SE block's squeeze."""
    check_arrays("global_avg_pool2d", SHAPES["global_avg_pool2d"], x)
    N, C, H, W = x.shape
    out = gpu.xp.empty((N, C), x.dtype)
    group, rows = rows_per_warp(x), N * C
    arrays, scalars, blocks = (x, out), (group, rows, H * W), warps(rows // group)
    gpu.launch("squeeze_excite.cu", "squeeze", blocks, arrays, scalars, dtype=x.dtype)
    return out, GlobalAvgPool2dCache(x)


def max_pool2d_forward(
    gpu: Launcher,
    x: Array,
    *,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
) -> tuple[Array, MaxPool2dCache]:
    """See minise.ops.reference.max_pool2d_forward."""
    stride = kernel if stride is None else stride
    check_pool("max_pool2d", x, kernel, stride, padding, ceil_mode)
    where = _windows(x, kernel, stride, padding, ceil_mode)
    out = gpu.xp.empty((*x.shape[:2], *where.outputs), x.dtype)
    argmax = gpu.xp.empty(out.shape, np.int64)
    scalars = out.size, *_window_sizes(where)
    arrays = x, out, argmax
    gpu.launch(FILE, "max_pool", blocks_of(out.size), arrays, scalars, dtype=x.dtype)
    return out, MaxPool2dCache(x, argmax, kernel, stride, padding, ceil_mode)


def max_pool2d_backward(gpu: Launcher, dout: Array, cache: MaxPool2dCache) -> tuple[Array]:
    """See minise.ops.reference.max_pool2d_backward."""
    x, argmax, kernel, stride, padding, ceil_mode = cache
    check_gradient("max_pool2d", dout, x, argmax.shape)
    where = _windows(x, kernel, stride, padding, ceil_mode)
    dx = gpu.xp.empty(x.shape, x.dtype)
    arrays, scalars = (dout, argmax, dx), (dx.size, *_window_sizes(where))
    gpu.launch(FILE, "max_pool_backward", blocks_of(dx.size), arrays, scalars, dtype=x.dtype)
    return (dx,)


def avg_pool2d_forward(
    gpu: Launcher,
    x: Array,
    *,
    kernel: Pair,
    stride: Pair | None = None,
    padding: Pair = (0, 0),
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Array, AvgPool2dCache]:
    """See minise.ops.reference.avg_pool2d_forward."""
    stride = kernel if stride is None else stride
    check_pool("avg_pool2d", x, kernel, stride, padding, ceil_mode)
    check_flag("avg_pool2d", "count_include_pad", count_include_pad)
    where = _windows(x, kernel, stride, padding, ceil_mode)
    out = gpu.xp.empty((*x.shape[:2], *where.outputs), x.dtype)
    scalars = int(count_include_pad), out.size, *_window_sizes(where)
    gpu.launch(FILE, "avg_pool", blocks_of(out.size), (x, out), scalars, dtype=x.dtype)
    return out, AvgPool2dCache(x, kernel, stride, padding, ceil_mode, count_include_pad)


def avg_pool2d_backward(gpu: Launcher, dout: Array, cache: AvgPool2dCache) -> tuple[Array]:
    """See minise.ops.reference.avg_pool2d_backward."""
    x, kernel, stride, padding, ceil_mode, count_include_pad = cache
    where = _windows(x, kernel, stride, padding, ceil_mode)
    check_gradient("avg_pool2d", dout, x, (*x.shape[:2], *where.outputs))
    dx = gpu.xp.empty(x.shape, x.dtype)
    scalars = int(count_include_pad), dx.size, *_window_sizes(where)
    gpu.launch(FILE, "avg_pool_backward", blocks_of(dx.size), (dout, dx), scalars, dtype=x.dtype)
    return (dx,)


def _windows(x: Array, kernel: Pair, stride: Pair, padding: Pair, ceil_mode: bool) -> Windows:
    kernel, stride, padding = as_pairs(kernel, stride, padding)
    return windows_of(x.shape[2:], kernel, stride, padding, ceil_mode=bool(ceil_mode))


def _window_sizes(where: Windows) -> tuple[int, ...]:
    """Return the sizes that all four pooling kernels take."""
    pairs = where.image, where.kernel, where.stride, where.padding, where.outputs
    return tuple(number for pair in pairs for number in pair)

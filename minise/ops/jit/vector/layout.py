"""Convert arrays to the memory layout of the kernels: channels-last, one row of channels per pixel.

Channels-last suits a CPU: adjacent elements belong to different channels, so a sum over pixels adds
whole SIMD vectors, one lane per channel. The order of the additions, and so every bit of the
result, does not depend on the width of the vectors.
"""

from functools import lru_cache

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.vector.memory import empty

MAX_CHANNELS = 16  # of images that _move_channels transposes faster than NumPy
PIXELS_PER_CHUNK = 64  # their elements stay in the L1 cache during the transposition


def frozen(array: Array) -> Array:
    """Return a C-contiguous, aligned, read-only view of the array, or a copy if it needs one.

    Numba has a separate type for each layout and each value of the write flag, and would compile a
    kernel for each; frozen arrays have one type per dtype and rank. A kernel that writes to a
    frozen argument does not compile.
    """
    flags = array.flags
    if not (flags.c_contiguous and flags.aligned):
        array = np.require(array, requirements=("C", "ALIGNED"))
    elif not flags.writeable:
        return array
    view = array.view()
    view.flags.writeable = False
    return view


def pixels_of(images: Array) -> Array:
    """Return images (N, C, H, W) as frozen (N, H, W, C): no copy if they are channels-last."""
    pixels = images.transpose(0, 2, 3, 1)
    if pixels.flags.c_contiguous or not _has_few_channels(images):
        return frozen(pixels)
    N, C, H, W = images.shape
    moved = empty(pixels.shape, images.dtype)
    _move_channels(frozen(images).reshape(N, C, H * W), moved.reshape(N, H * W, C))
    return frozen(moved)


def _has_few_channels(images: Array) -> bool:
    """Return True if _move_channels is faster than NumPy: planes of few channels, as in a batch."""
    flags, few = images.flags, images.shape[1] <= MAX_CHANNELS
    return bool(few and flags.c_contiguous and flags.aligned and images.dtype.kind == "f")


@kernel
def _move_channels(planes, pixels):
    """Set pixels (N, P, C) to planes (N, C, P), PIXELS_PER_CHUNK pixels at a time."""
    N, P, C = pixels.shape
    for n in prange(N):
        for first in range(0, P, PIXELS_PER_CHUNK):
            for c in range(C):
                for i in range(first, min(first + PIXELS_PER_CHUNK, P)):
                    pixels[n, i, c] = planes[n, c, i]


def rows_of(images: Array) -> Array:
    """Return images (N, C, H, W) as frozen (N, H*W, C): no copy if they are channels-last."""
    N, C, H, W = images.shape
    return pixels_of(images).reshape(N, H * W, C)


def images_of(rows: Array, H: int, W: int) -> Array:
    """Return rows (N, H*W, C) as a view (N, C, H, W): the inverse of rows_of."""
    N, _, C = rows.shape
    return rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)


def flat(array: Array, like: Array | None = None) -> Array:
    """Return the elements of the array as a frozen 1-D array, in the memory order of `like`.

    like is an array of the same shape; by default the array itself.
    """
    model = array if like is None else like
    return frozen(array.transpose(_order(model.strides))).reshape(-1)


def unflat(row: Array, like: Array) -> Array:
    """Return a view of the row in the shape and memory order of `like`: the inverse of flat."""
    order = _order(like.strides)
    shaped = row.reshape([like.shape[axis] for axis in order])
    return shaped.transpose(np.argsort(order))


@lru_cache(4096)
def _order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes sorted from the outermost to the innermost in memory."""
    return tuple(sorted(range(len(strides)), key=lambda axis: (-abs(strides[axis]), axis)))

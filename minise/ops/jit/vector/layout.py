"""The one memory layout that kernels see: rows of channels, one row a pixel.

Channels-last suits a CPU: neighbouring numbers then belong to different channels, so a sum over
pixels adds whole vectors, and their order, hence every bit of the result, stays as written.
"""

import math
from functools import lru_cache

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.vector.memory import empty

FEW = 16  # channels
NEAR = 64  # pixels whose numbers stay in the first-level cache while they are moved
LONG = 256  # numbers in a row that is long enough for vectors


def frozen(array: Array) -> Array:
    """Return the array contiguous, aligned and read-only, copied only where it is not.

    Numba gives every layout and both values of the write flag a type of its own; after this there
    is one type per dtype and rank. A kernel that writes to such an argument does not compile.
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
    """Return (N, C, H, W) as frozen (N, H, W, C); free where the memory is channels-last."""
    pixels = images.transpose(0, 2, 3, 1)
    if pixels.flags.c_contiguous or not _moves(images):
        return frozen(pixels)
    N, C, H, W = images.shape
    moved = empty(pixels.shape, images.dtype)
    _move_channels(frozen(images).reshape(N, C, H * W), moved.reshape(N, H * W, C))
    return frozen(moved)


def _moves(images: Array) -> bool:
    """Return whether _move_channels is quicker than NumPy: of planes of few channels, as of x."""
    flags, few = images.flags, images.shape[1] <= FEW
    return bool(few and flags.c_contiguous and flags.aligned and images.dtype.kind == "f")


@kernel
def _move_channels(planes, pixels):
    """Set pixels (N, P, C) to planes (N, C, P), NEAR pixels at a time."""
    N, P, C = pixels.shape
    for n in prange(N):
        for first in range(0, P, NEAR):
            for c in range(C):
                for i in range(first, min(first + NEAR, P)):
                    pixels[n, i, c] = planes[n, c, i]


def rows_of(images: Array) -> Array:
    """Return (N, C, H, W) as frozen (N, H*W, C); free where the memory is channels-last."""
    N, C, H, W = images.shape
    return pixels_of(images).reshape(N, H * W, C)


def images_of(rows: Array, H: int, W: int) -> Array:
    """Undo rows_of: the same memory seen as (N, C, H, W)."""
    N, _, C = rows.shape
    return rows.reshape(N, H, W, C).transpose(0, 3, 1, 2)


def side_by_side(C: int, pixels: int) -> int:
    """Return how many pixels to put into one row, so that it is long enough for vectors.

    A loop over 16 channels is over before it has begun. With g pixels side by side, (pixels, C) is
    (pixels / g, g * C) of the same memory, and g divides the pixels of an image.
    """
    wanted = max(1, LONG // C)
    return math.gcd(pixels, wanted) if pixels % wanted else wanted


def flat(array: Array, like: Array | None = None) -> Array:
    """Return an array's numbers as one frozen row, in the order in which they lie in memory.

    With like, in the order in which the numbers of that array lie.
    """
    model = array if like is None else like
    return frozen(array.transpose(_order(model.strides))).reshape(-1)


def unflat(row: Array, like: Array) -> Array:
    """Undo flat: the same memory, in the shape and order of an array."""
    order = _order(like.strides)
    shaped = row.reshape([like.shape[axis] for axis in order])
    return shaped.transpose(np.argsort(order))


@lru_cache(4096)
def _order(strides: tuple[int, ...]) -> tuple[int, ...]:
    """Return the axes from the outermost to the innermost in memory."""
    return tuple(sorted(range(len(strides)), key=lambda axis: (-abs(strides[axis]), axis)))

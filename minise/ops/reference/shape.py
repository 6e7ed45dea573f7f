"""Flatten: each image becomes one row, the input of a dense layer.

The order of elements is that of the axes (channel, row, column), for any memory layout.

    out[n, (c * H + i) * W + j] = x[n, c, i, j]

Every element of x is at one position of out, so its gradient is the element of dout there.
"""

from typing import NamedTuple

from minise.checks import Array
from minise.ops.shapes import check_arrays, check_gradient

SHAPES = {"flatten": "x: N C H W"}


class FlattenCache(NamedTuple):
    """What backward needs from forward."""

    x: Array  # (N, C, H, W)


def flatten_forward(x: Array) -> tuple[Array, FlattenCache]:
    """Return each image as one row.

    Parameters
    ----------
    x : ndarray of shape (N, C, H, W)
        Images, or feature maps.

    Returns
    -------
    out : ndarray of shape (N, C * H * W)
        A new array, in the dtype of x: channel after channel, each row by row.
    cache : FlattenCache
        For flatten_backward.

    Raises
    ------
    ValueError, TypeError
        If the shape or the dtype is wrong.
    """
    check_arrays("flatten", SHAPES["flatten"], x, complex_step=True)
    out = x.copy().reshape(len(x), -1)  # = x, channel after channel, each row by row
    return out, FlattenCache(x)


def flatten_backward(dout: Array, cache: FlattenCache) -> tuple[Array]:
    """Return dx (N, C, H, W), which may share the memory of dout.

    Raises ValueError or TypeError if dout does not have the shape and dtype of out.
    """
    x = cache.x
    check_gradient("flatten", dout, x, (len(x), x[0].size))

    # forward: out = x, image by image in one row
    # why: Every x is copied to one place of out, with slope 1, so its gradient is dout at that
    #      place.
    dx = dout.reshape(x.shape)  # = dout, in the positions of x
    return (dx,)

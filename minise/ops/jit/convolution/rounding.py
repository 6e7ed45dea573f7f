"""Bounds of the rounding error of Winograd's convolution.

Sums and products alone compute a sum of terms, each a product of inputs and coefficients. Each
rounding multiplies a term by 1 + d, where |d| <= u = eps / 2. After at most n roundings, the
relative error of a term is at most gamma(n) = n u / (1 - n u), in any order of the sums. So

    |computed - exact|  <=  gamma(n) * (the sum of the magnitudes of all terms)

if nothing overflows or underflows. The terms of out are those of

    A.T [ sum over c of (G g G.T) * (B.T d B) ] A

(the matrices are in transforms.py), and the sum of their magnitudes is the same expression with
each entry replaced by its magnitude. This is the price of Winograd's algorithm: the direct
convolution's terms are the products of |x| and |weight|, and these are up to 100 times as large,
because the rows of |B.T| sum to at most 10, those of |A.T| to at most 19, and the large terms
cancel. The terms of dx are those of out for dout and the rotated filters; those of dweight are

    G.T [ sum over tiles of (B.T d B) * (A y A.T) ] G

n counts the roundings of a term: each transform twice, along columns and rows (STEPS), one for the
product, one for each sum that the term is added to, and one for the bias:

    out       2 pixels + 2 filters + 1 + C     + 2 back + 1
    dx        the same with K
    dweight   2 pixels + 2 douts   + 1 + tiles + 2 dfilters    (upper bound: each part is shorter)

In practice signs are random and most errors cancel: for normally distributed values in 16 to 256
channels the largest error was 1/200 to 1/2500 of its bound, and in float32 2e-6 to 1e-5 of the
largest value, compared with 2e-7 to 2e-6 for the direct convolution.

Source: Higham, "Accuracy and Stability of Numerical Algorithms", 2nd ed., SIAM 2002, section 3.1.
"""

from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from minise.checks import Array, Pair
from minise.ops.jit.convolution.transforms import IN, OUT
from minise.ops.reference.conv import Conv2dCache

B_T = np.array(
    [
        [4, 0, -5, 0, 1, 0],
        [0, -4, -4, 1, 1, 0],
        [0, 4, -4, -1, 1, 0],
        [0, -2, -1, 2, 1, 0],
        [0, 2, -1, -2, 1, 0],
        [0, 4, 0, -5, 0, 1],
    ]
)
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
A_T = np.array([[1, 1, 1, 1, 1, 0], [0, 1, -1, 2, -2, 0], [0, 1, 1, 4, 4, 0], [0, 1, -1, 8, -8, 1]])


class Steps(NamedTuple):
    """The largest number of roundings of a term in one transform along one axis."""

    inputs: int = 3
    weights: int = 4
    outputs: int = 3
    douts: int = 2
    dweights: int = 5


STEPS = Steps()


def rounding(dout: Array, cache: Conv2dCache) -> tuple[Array, Array, Array]:
    """Return bounds of the errors of out, dx and dweight as winograd.py computes them.

    Parameters
    ----------
    dout : ndarray of shape (N, K, OH, OW)
        The gradient that backward receives.
    cache : Conv2dCache
        With 3 x 3 filters, stride and dilation 1, and padding of at most 2.

    Returns
    -------
    out, dx, dweight : ndarray of float64
        One bound for each element, in the shapes of out, x and weight.
    """
    x, weight, (top, left), groups = cache.x, cache.weight, cache.padding, cache.groups
    (K, C), tiles = (len(weight) // groups, weight.shape[1]), _tiles(dout, (0, 0), OUT)
    rotated = _grouped(weight, groups).swapaxes(1, 2)[..., ::-1, ::-1].reshape(-1, K, 3, 3)
    count = 2 * STEPS.inputs + 2 * STEPS.weights + 2 * STEPS.outputs + 1
    bias = 0 if cache.bias is None else abs(cache.bias)[:, None, None]
    out = _terms(x, weight, (top, left), groups)[..., : dout.shape[2], : dout.shape[3]] + bias
    dx = _terms(dout, rotated, (2 - top, 2 - left), groups)[..., : x.shape[2], : x.shape[3]]
    tile_count = tiles.shape[2] * tiles.shape[3] * len(x)
    dweight_count = 2 * STEPS.inputs + 2 * STEPS.douts + 1 + tile_count + 2 * STEPS.dweights
    dweight = _dweight_terms(x, tiles, (top, left), groups)
    eps = float(np.finfo(x.dtype).eps)
    return (
        gamma(count + C + 1, eps) * out,
        gamma(count + K, eps) * dx,
        gamma(dweight_count, eps) * dweight,
    )


def gamma(count: int, eps: float) -> float:
    """Return the bound of the relative error of a term after `count` roundings."""
    return count * eps / 2 / (1 - count * eps / 2)


def _terms(x: Array, weight: Array, padding: Pair, groups: int) -> Array:
    """Return the sum of the magnitudes of the terms of out, for all pixels of full tiles."""
    points = _transform_magnitudes(B_T, _grouped(_tiles(x, padding, IN).swapaxes(0, 1), groups))
    filters = _transform_magnitudes(G, _grouped(abs(weight), groups))
    out = _transform_magnitudes(A_T, np.einsum("gkcij,gcntsij->ngktsij", filters, points))
    N, _, _, high, wide, _, _ = out.shape
    return out.swapaxes(-2, -3).reshape(N, len(weight), OUT * high, OUT * wide)


def _dweight_terms(x: Array, tiles: Array, padding: Pair, groups: int) -> Array:
    """Return the sum of the magnitudes of the terms of dweight; tiles are those of dout."""
    points = _transform_magnitudes(B_T, _grouped(_tiles(x, padding, IN).swapaxes(0, 1), groups))
    dpoints = _transform_magnitudes(A_T.T, _grouped(tiles.swapaxes(0, 1), groups))
    dweight = _transform_magnitudes(G.T, np.einsum("gcntsij,gkntsij->gkcij", points, dpoints))
    return dweight.reshape(-1, *dweight.shape[2:])


def _transform_magnitudes(matrix: Array, tiles: Array) -> Array:
    """Return |matrix| tile |matrix|.T for each tile; the last two axes are the tile's."""
    return abs(matrix) @ tiles @ abs(matrix).T


def _grouped(array: Array, groups: int) -> Array:
    """Return the array with its first axis split into (groups, channels per group)."""
    return array.reshape(groups, -1, *array.shape[1:])


def _tiles(images: Array, padding: Pair, size: int) -> Array:
    """Return the magnitudes in tiles at stride OUT, of shape (N, C, high, wide, size, size)."""
    N, C, H, W = images.shape
    rows, columns = (
        -(-(length + 2 * pad - (size - OUT)) // OUT) * OUT + size - OUT
        for length, pad in zip((H, W), padding, strict=True)
    )
    padded = np.zeros((N, C, rows, columns))
    padded[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W] = abs(images)
    return sliding_window_view(padded, (size, size), axis=(2, 3))[:, :, ::OUT, ::OUT]

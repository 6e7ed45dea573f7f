"""How far rounding can take Winograd's convolution from the exact one.

What is computed by sums and products alone is a sum of terms, each of them a product of inputs and
coefficients. Every rounding on its way multiplies a term by 1 + d, where |d| <= u = eps / 2. After
n of them at most, a term is off by gamma(n) = n u / (1 - n u) of its size, in whatever order the
sums are made. So

    |computed - exact|  <=  gamma(n) * (the sum of all terms, taken as positive)

as long as nothing overflows, or underflows. The terms of out are those of

    A.T [ sum over c of (G g G.T) * (B.T d B) ] A

(transforms.py has the matrices): every number in it is replaced by its magnitude. That is what
Winograd's algorithm costs. The terms of the direct convolution are those of |x| and |weight|;
here they are up to 100 times as large, because the rows of |B.T| add up to as much as 10, those of
|A.T| to 19, and the large ones cancel. The terms of dx are those of out, of dout and the turned
filters; those of dweight are

    G.T [ sum over tiles of (B.T d B) * (A y A.T) ] G

n counts what a term goes through: each transform twice, along columns and rows (STEPS), one
rounding for the product and one for each sum that it is added to, and one for the bias:

    out       2 pixels + 2 filters + 1 + C     + 2 back + 1
    dx        the same with K
    dweight   2 pixels + 2 douts   + 1 + tiles + 2 dfilters        at most, for parts are shorter

Signs are random in practice, so that most of the errors cancel: of normal numbers in 16 to 256
channels the worst error was 1/200 to 1/2500 of its bound, and in float32 2e-6 to 1e-5 of the
largest number, where the direct convolution had 2e-7 to 2e-6.

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
    """Roundings that a number goes through in one transform along one axis, at most."""

    inputs: int = 3
    weights: int = 4
    outputs: int = 3
    douts: int = 2
    dweights: int = 5


STEPS = Steps()


def rounding(dout: Array, cache: Conv2dCache) -> tuple[Array, Array, Array]:
    """Return bounds of the errors of out, dx and dweight, where Winograd's convolution makes them.

    Parameters
    ----------
    dout : ndarray of shape (N, K, OH, OW)
        What backward is given.
    cache : Conv2dCache
        With filters of 3 x 3, stride and dilation 1, and padding of at most 2.

    Returns
    -------
    out, dx, dweight : ndarray of float64
        One bound for each number, of the shapes of out, x and weight.
    """
    x, weight, (top, left), groups = cache.x, cache.weight, cache.padding, cache.groups
    (K, C), tiles = (len(weight) // groups, weight.shape[1]), _tiles(dout, (0, 0), OUT)
    turned = _grouped(weight, groups).swapaxes(1, 2)[..., ::-1, ::-1].reshape(-1, K, 3, 3)
    back = 2 * STEPS.inputs + 2 * STEPS.weights + 2 * STEPS.outputs + 1
    bias = 0 if cache.bias is None else abs(cache.bias)[:, None, None]
    out = _terms(x, weight, (top, left), groups)[..., : dout.shape[2], : dout.shape[3]] + bias
    dx = _terms(dout, turned, (2 - top, 2 - left), groups)[..., : x.shape[2], : x.shape[3]]
    many = tiles.shape[2] * tiles.shape[3] * len(x)
    summed = 2 * STEPS.inputs + 2 * STEPS.douts + 1 + many + 2 * STEPS.dweights
    dweight = _dweight_terms(x, tiles, (top, left), groups)
    eps = float(np.finfo(x.dtype).eps)
    return gamma(back + C + 1, eps) * out, gamma(back + K, eps) * dx, gamma(summed, eps) * dweight


def gamma(count: int, eps: float) -> float:
    """Return by how much of its size a term is off after so many roundings."""
    return count * eps / 2 / (1 - count * eps / 2)


def _terms(x: Array, weight: Array, padding: Pair, groups: int) -> Array:
    """Return what the terms of out add up to, of as many pixels as whole tiles have."""
    seen = _both(B_T, _grouped(_tiles(x, padding, IN).swapaxes(0, 1), groups))
    filters = _both(G, _grouped(abs(weight), groups))
    out = _both(A_T, np.einsum("gkcij,gcntsij->ngktsij", filters, seen))
    N, _, _, high, wide, _, _ = out.shape
    return out.swapaxes(-2, -3).reshape(N, len(weight), OUT * high, OUT * wide)


def _dweight_terms(x: Array, tiles: Array, padding: Pair, groups: int) -> Array:
    """Return what the terms of dweight add up to; tiles are those of dout."""
    seen = _both(B_T, _grouped(_tiles(x, padding, IN).swapaxes(0, 1), groups))
    turned = _both(A_T.T, _grouped(tiles.swapaxes(0, 1), groups))
    dweight = _both(G.T, np.einsum("gcntsij,gkntsij->gkcij", seen, turned))
    return dweight.reshape(-1, *dweight.shape[2:])


def _both(matrix: Array, tiles: Array) -> Array:
    """Return |matrix| tile |matrix|.T of every tile, whose axes are the last two."""
    return abs(matrix) @ tiles @ abs(matrix).T


def _grouped(array: Array, groups: int) -> Array:
    """Return an array with its first axis cut into groups."""
    return array.reshape(groups, -1, *array.shape[1:])


def _tiles(images: Array, padding: Pair, size: int) -> Array:
    """Return the magnitudes that tiles of a size see, OUT apart: (N, C, high, wide, size, size)."""
    N, C, H, W = images.shape
    rows, columns = (
        -(-(length + 2 * pad - (size - OUT)) // OUT) * OUT + size - OUT
        for length, pad in zip((H, W), padding, strict=True)
    )
    framed = np.zeros((N, C, rows, columns))
    framed[:, :, padding[0] : padding[0] + H, padding[1] : padding[1] + W] = abs(images)
    return sliding_window_view(framed, (size, size), axis=(2, 3))[:, :, ::OUT, ::OUT]

"""One convolution written ten times, each time with one more reason to be quick.

All rungs add the same products: for every image n, filter k and output pixel (p, q), the sum over
channels c and offsets (i, j) of padded[n, c, p * stride + i, q * stride + j] * weight[k, c, i, j].
What differs is who walks the loops, in which order, and so what the processor can do at once.

    python_loops       seven loops, each step interpreted: some hundred instructions a product
    compiled_loops     the same loops as machine code: one product at a time, because a sum in a
                       given order must be added in that order
    row_loops          the loops in another order: the innermost one runs along a row of pixels,
                       whose sums do not wait for each other, so 8 or 16 go in one instruction
    channels_last      the innermost loop runs along the filters: their sums stay in the nearest
                       cache for a whole pixel, and every x that is loaded serves all of them
    threads            the images dealt to several cores: they share nothing but the filters
    shifted_products   nine matrix products, one an offset, by BLAS: it keeps tiles of all three
                       matrices in registers and caches, so that each number loaded is used often
    im2col_product     every window copied out, then one large product: the best use of BLAS, paid
                       for with nine copies of the image in memory
    vectors            channels_last once more, in vectors that are written out: the sums of a
                       pixel stay in registers, and nothing is left to the compiler's luck
    register_tiles     the sums of a tile of pixels in registers: none waits for the one before,
                       and every weight that is loaded serves all of them
    winograd           the same tiles, on pixels and filters that are transformed first so that a
                       quarter of the multiplications is enough

Which of the first seven wins depends on the shape. channels_last wants many filters and row_loops
long rows: of the 32x32 images of ResNet-20's first stage, with 16 channels, row_loops is the
quicker one, of the other two stages channels_last. One product wins over nine where channels are
few, because nine short sums spend their time on adding whole arrays.

The last three keep the layout of channels_last and the registers of BLAS, and copy nothing. vectors
is to be compared with threads, and BLAS may still win: it shows what registers bring, and the next
one what tiles of them do. The last two are the compiled back end itself (direct.py and winograd.py
of minise/ops/jit/convolution).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from minise.bench.ladder_loops import compiled, filters_innermost, rows_innermost, seven_loops
from minise.ops import reference
from minise.ops.checks import Array, Pair
from minise.ops.reference.windows import windows_of


class Rung(NamedTuple):
    """One way to do it."""

    name: str
    forward: Callable[..., Array]
    channels_last: bool = False  # whether x is best given with its channels innermost in memory


def python_loops(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Add one product at a time, in Python.

    This is the definition, and it needs no library. Every product costs a trip through the
    interpreter, which looks up, unpacks and boxes each number: the arithmetic is lost in it.
    """
    padded, out = _padded(x, padding), _empty(x, weight, stride, padding)
    seven_loops(padded, weight, out, *stride)
    return out


def compiled_loops(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Run the same seven loops as machine code.

    Numba knows the types before it runs and leaves a load, a multiplication and an addition. Each
    sum is added up in the order that the source states, since another one would round otherwise:
    every addition waits for the one before, and no two of them share an instruction.
    """
    padded, out = _padded(x, padding), _empty(x, weight, stride, padding)
    compiled(seven_loops)(padded, weight, out, *stride)
    return out


def row_loops(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Put the loop over a row's pixels innermost.

    For one filter, channel and offset the weight is one number, and a row of it times pixels is
    added to a row of sums. Neighbours in the loop are neighbours in memory and none waits for
    another, so the compiler takes 8 or 16 of them at once (SIMD). It does so only where it knows
    that neighbours touch, whatever the stride is: so the columns are sorted by their remainder
    first. What it waits for is then the sums, fetched and stored once a product.
    """
    sorted_columns = _by_remainder(_padded(x, padding), stride[1])
    out = _empty(x, weight, stride, padding)
    compiled(rows_innermost)(sorted_columns, weight, out, *stride)
    return out


def channels_last(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Put the loop over the filters innermost, with channels innermost in memory.

    The K sums of one pixel are a few vectors, which stay near the arithmetic for all C * KH * KW
    products, and the filters are read in the order in which they lie. Rows of any length and any
    stride gain, where row_loops wants long rows at stride 1.
    """
    return _by_images(x, weight, stride, padding, 1, compiled(filters_innermost))


def threads(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Deal the images to threads, which run channels_last.

    Images share nothing but the filters, which are only read, so no thread waits for another.
    Compiled code does not hold Python's lock, so plain Python threads will do.
    """
    return _by_images(x, weight, stride, padding, threads, compiled(filters_innermost))


def shifted_products(
    x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int
) -> Array:
    """Multiply matrices: one product of filters and pixels for each offset of the kernel.

    BLAS multiplies in tiles that fit the registers, each number loaded serving a whole row or
    column of the tile, which loops over vectors in memory cannot do. This is minise's reference.
    """
    return reference.conv2d_forward(x, weight, stride=stride, padding=padding)[0]


def im2col_product(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Copy every window into a column, then multiply once.

    The sums over all offsets happen inside BLAS, with longer sums in registers, instead of in nine
    additions of whole arrays. The copies take KH * KW times the memory of the image.
    """
    K, C, KH, KW = weight.shape
    padded = _padded(x, padding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KH, KW), axis=(2, 3))
    seen = windows[:, :, :: stride[0], :: stride[1]]
    N, _, OH, OW = seen.shape[:4]
    cols = seen.transpose(1, 4, 5, 0, 2, 3).reshape(C * KH * KW, N * OH * OW)
    return (weight.reshape(K, -1) @ cols).reshape(K, N, OH, OW).swapaxes(0, 1)


def vectors(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Hold the sums of a pixel in vectors, and say so.

    channels_last is fast where the compiler finds that it may keep the sums in registers. Here a
    kernel says it (ops/jit/vector/simd.py): a vector of 16 filters is one register, each step loads
    their weights and multiplies them by one number of x, spread over all lanes. What it waits for
    is the sum itself: a multiply-add takes four cycles and the next one needs its result, so of two
    that the processor could do in a cycle it does an eighth.
    """
    from minise.bench.ladder_vectors import one_pixel
    from minise.ops.jit.vector.simd import lanes_of

    short = -len(weight) % lanes_of(x.dtype)
    whole = np.pad(weight, [(0, short), (0, 0), (0, 0), (0, 0)])
    out = _by_images(x, whole, stride, padding, threads, compiled(one_pixel))
    return out[:, : len(weight)]


def register_tiles(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Hold the sums of a tile of pixels and filters in registers.

    Sixteen sums that do not need each other keep the multipliers busy, and a vector of weights that
    is loaded serves every pixel of the tile, a number of x every vector of filters: ten loads for
    sixteen multiply-adds, instead of one for each. So the tile is what a matrix product by BLAS is
    made of, but it reads the padded image in place: from pixel to pixel a window only moves on
    (ops/jit/vector/tile.py and convolution/direct.py).
    """
    return _compiled_back_end("direct", x, weight, stride, padding, threads)


def winograd(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Multiply at six points instead of twelve times: Winograd's algorithm.

    Four neighbours in a row of results are sums of six pixels and three weights, twelve products.
    They can be had as the product of two polynomials, and that is known from its values at six
    places: 0, 1, -1, 2, -2 and infinity, where finding the values takes sums and doublings, but no
    product of two inputs. Pixels go through a matrix B.T, weights through G, the products back
    through A.T, whose rows and columns are powers of those places
    (ops/jit/convolution/transforms.py derives them). Along rows and columns, a tile of 4x4 takes 36
    products instead of 144. Weights are transformed once, pixels once for all filters, results once
    for all channels; what remains are 36 matrix products, of register tiles.

    The price is about one digit. B.T and A.T have entries up to 5 and 8, so terms on the way are up
    to 100 times as large as the results in which they cancel, and every rounding is one of theirs
    (ops/jit/convolution/rounding.py bounds it). More places would save more products and cost all
    digits. Other kernels than 3x3, and strides, are done by register_tiles.
    """
    return _compiled_back_end("winograd", x, weight, stride, padding, threads)


RUNGS = (
    Rung("python_loops", python_loops),
    Rung("compiled_loops", compiled_loops),
    Rung("row_loops", row_loops),
    Rung("channels_last", channels_last, channels_last=True),
    Rung("threads", threads, channels_last=True),
    Rung("shifted_products", shifted_products),
    Rung("im2col_product", im2col_product),
    Rung("vectors", vectors, channels_last=True),
    Rung("register_tiles", register_tiles, channels_last=True),
    Rung("winograd", winograd, channels_last=True),
)


def _by_images(
    x: Array, weight: Array, stride: Pair, padding: Pair, threads: int, kernel: Any
) -> Array:
    """Run a kernel on channels-last arrays, the images in as many parts as there are threads."""
    padded = np.ascontiguousarray(_padded(x, padding).transpose(0, 2, 3, 1))
    out = np.ascontiguousarray(_empty(x, weight, stride, padding).transpose(0, 2, 3, 1))
    matrices = np.ascontiguousarray(weight.transpose(2, 3, 1, 0))
    with ThreadPoolExecutor(threads) as pool:
        parts = _parts(len(x), threads)
        list(pool.map(lambda part: kernel(padded[part], matrices, out[part], *stride), parts))
    return out.transpose(0, 3, 1, 2)


def _compiled_back_end(
    algorithm: str, x: Array, weight: Array, stride: Pair, padding: Pair, threads: int
) -> Array:
    """Return what the compiled back end makes of it, by an algorithm of its two."""
    from minise.ops import jit

    ops = jit.using(threads=threads, algorithm=algorithm)
    return ops.conv2d_forward(x, weight, stride=stride, padding=padding)[0]


def _parts(N: int, threads: int) -> Iterator[slice]:
    for i in range(threads):
        yield slice(N * i // threads, N * (i + 1) // threads)


def _padded(x: Array, padding: Pair) -> Array:
    frame = [(0, 0), (0, 0), *((pad, pad) for pad in padding)]
    return np.pad(x, frame)


def _by_remainder(padded: Array, step: int) -> Array:
    """Return (N, C, H, step, W): column q * step + r of padded is at [..., r, q]."""
    N, C, H, W = padded.shape
    whole = np.pad(padded, [(0, 0), (0, 0), (0, 0), (0, -W % step)]) if W % step else padded
    return np.ascontiguousarray(whole.reshape(N, C, H, -1, step).swapaxes(3, 4))


def _empty(x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
    where = windows_of(x.shape[2:], weight.shape[2:], stride, padding)
    return np.empty((len(x), len(weight), *where.outputs), x.dtype)

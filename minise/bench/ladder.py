"""`minise bench conv-ladder`: one convolution written ten times, each time with one more idea.

All rungs add the same products: for every image n, filter k and output pixel (p, q), the sum over
channels c and offsets (i, j) of padded[n, c, p * stride + i, q * stride + j] * weight[k, c, i, j].
They differ in who runs the loops, and in which order, and so in what the processor can do at once.

    python_loops       seven loops, each step interpreted: some hundred instructions a product
    compiled_loops     the same loops as machine code: one product at a time, because a sum in a
                       given order must be added in that order
    row_loops          the loops in another order: the innermost one runs along a row of pixels,
                       whose sums are independent, so 8 or 16 of them go in one instruction
    channels_last      the innermost loop runs along the filters: their sums stay in the nearest
                       cache for a whole pixel, and every x that is loaded serves all of them
    threads            the images split among several cores: they share nothing but the filters
    shifted_products   nine matrix products, one an offset, by BLAS: it keeps tiles of all three
                       matrices in registers and caches, so that each number loaded is used often
    im2col_product     every window copied out, then one large product: the best use of BLAS, paid
                       for with nine copies of the image in memory
    vectors            channels_last again, with explicit vectors: the sums of a pixel stay in
                       registers, whatever the compiler would do
    register_tiles     the sums of a tile of pixels in registers: they are independent, and every
                       weight that is loaded serves all of them
    winograd           the same tiles, on pixels and filters that are transformed first so that a
                       quarter of the multiplications is enough

Which of the first seven is fastest depends on the shape. channels_last needs many filters and
row_loops long rows: on the 32x32 images of ResNet-20's first stage, with 16 channels, row_loops is
faster, on the other two stages channels_last. One product beats nine where channels are few,
because nine short sums spend their time on adding whole arrays.

The last three have the layout of channels_last and use registers as BLAS does, and copy nothing.
vectors is to be compared with threads, and BLAS may still be faster: it shows what registers bring,
and the next one what tiles of them bring. The last two are the compiled back end itself (direct.py
and winograd.py of minise/ops/jit/convolution).
"""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from minise.bench.ladder_loops import (
    compiled,
    filters_innermost,
    rows_innermost,
    seven_loops,
    vectors_of_filters,
)
from minise.bench.machine import cores_taken, read
from minise.bench.result import Result, Table, millis, short
from minise.bench.rounds import meanwhile, repeat
from minise.bench.settings import LadderSettings, counted
from minise.checks import Array, Pair
from minise.ops import reference
from minise.ops.reference.windows import windows_of

STAGES = {1: (16, 32), 2: (32, 16), 3: (64, 8)}  # channels, rows and columns
TINY = (1, 4, 8)  # images, channels, rows and columns: the inputs of pure Python
KERNEL = (3, 3)
RUN_SECONDS, RUNS = 1.0, 3  # of runs of a rung, and runs at least


class Rung(NamedTuple):
    """One implementation of the convolution."""

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
    """Split the images among threads, which run channels_last.

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
    """Hold the sums of a pixel in explicit vectors.

    channels_last is fast where the compiler finds that it may keep the sums in registers. Here a
    kernel says it (ops/jit/vector/simd.py): a vector of 16 filters is one register, each step loads
    their weights and multiplies them by one number of x, spread over all lanes. What it waits for
    is the sum itself: a multiply-add takes four cycles and the next one needs its result, so of two
    that the processor could do in a cycle it does an eighth.
    """
    from minise.ops.jit.vector.simd import lanes_of

    unused_lanes = -len(weight) % lanes_of(x.dtype)
    filled = np.pad(weight, [(0, unused_lanes), (0, 0), (0, 0), (0, 0)])
    out = _by_images(x, filled, stride, padding, threads, compiled(vectors_of_filters()))
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


class RungTime(NamedTuple):
    """The time of a rung."""

    rung: Rung
    seconds: float
    flops: float  # 2 * MACs a second
    scaled: bool  # whether it was timed on TINY


def measure(settings: LadderSettings, progress: Callable[[str], None]) -> Result:
    """Time every rung, without its compilation, on a stage of ResNet-20."""
    channels, size = STAGES[settings.stage]
    before = read([])
    with threadpool_limits(settings.threads, "blas"):
        shape = (settings.batch, channels, size)
        times: list[RungTime] = []
        for rung in RUNGS:
            progress(rung.name)
            times.append(time_rung(rung, shape, settings.threads))
    others = cores_taken(before, read([]))
    rows = [{**time._asdict(), "rung": time.rung.name} for time in times]
    tables = [_table(times, others, settings)]
    return Result(settings.as_dict(), rows, {"others_cores": others}, tables=tables)


def time_rung(rung: Rung, shape: tuple[int, int, int], threads: int) -> RungTime:
    """Time a rung on images of shape (N, C, H), pure Python on fewer and smaller ones."""
    scaled = rung.name == "python_loops"
    timed_shape = TINY if scaled else shape
    x, weight = inputs_of(timed_shape, rung.channels_last)

    def run() -> Array:
        return rung.forward(x, weight, stride=(1, 1), padding=(1, 1), threads=threads)

    run()  # compiles, and touches the memory
    flops = 2 * macs_of(timed_shape) / median(repeat(run, RUN_SECONDS, least=RUNS))
    return RungTime(rung, 2 * macs_of(shape) / flops, flops, scaled)


def inputs_of(shape: tuple[int, int, int], channels_last: bool) -> tuple[Array, Array]:
    """Return images (N, C, H, H), in the rung's layout, and as many filters as channels."""
    N, C, H = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, C, H, H)).astype(np.float32)
    weight = rng.standard_normal((C, C, *KERNEL)).astype(np.float32)
    if channels_last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return x, weight


def macs_of(shape: tuple[int, int, int]) -> int:
    """Return the multiply-accumulates of the convolution of images of shape (N, C, H)."""
    N, C, H = shape
    return N * C * C * H * H * KERNEL[0] * KERNEL[1]


def _table(times: list[RungTime], others: float | None, settings: LadderSettings) -> Table:
    channels, size = STAGES[settings.stage]
    rows = [
        (
            time.rung.name,
            millis(1000 * time.seconds) + ("*" if time.scaled else " "),
            short(time.flops / 1e9),
            short(times[0].seconds / time.seconds),
            (time.rung.forward.__doc__ or "").partition("\n")[0],
        )
        for time in times
    ]
    return Table(
        f"3x3 convolution, {channels} to {channels} channels, {settings.batch} images of "
        f"{size}x{size}, float32, {counted(settings.threads, 'thread')}",
        ("ms", "GFLOP/s", "times as fast", "what it does"),
        rows,
        "GFLOP/s: a multiply-accumulate counts as two. * timed on one image of "
        f"{TINY[2]}x{TINY[2]} with {TINY[1]} channels, and scaled by the multiply-accumulates.\n"
        + meanwhile(others),
        left=("what it does",),
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
    """Return the convolution of the compiled back end, by one of its two algorithms."""
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
    if W % step:
        padded = np.pad(padded, [(0, 0), (0, 0), (0, 0), (0, -W % step)])
    return np.ascontiguousarray(padded.reshape(N, C, H, -1, step).swapaxes(3, 4))


def _empty(x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
    windows = windows_of(x.shape[2:], weight.shape[2:], stride, padding)
    return np.empty((len(x), len(weight), *windows.outputs), x.dtype)

"""`minise bench conv-ladder`: one convolution in ten versions, each of which adds one idea.

All versions (rungs) compute the same sum: for every image n, filter k and output pixel (p, q), over
channels c and offsets (i, j), padded[n, c, p * stride + i, q * stride + j] * weight[k, c, i, j].
They differ in the order of the loops and in what executes them, and so in how much the processor
can do in parallel.

    python_loops       seven loops, interpreted: about a hundred instructions per product
    compiled_loops     the same loops as machine code: one product at a time, because the order of
                       the additions in a sum is fixed
    row_loops          the loops reordered: the innermost loop runs over a row of pixels, whose sums
                       are independent, so one instruction computes 8 or 16 of them
    channels_last      the innermost loop runs over the filters: their sums stay in the L1 cache for
                       a whole pixel, and every loaded x is used for all filters
    threads            the images divided among cores: they share only the filters
    shifted_products   nine matrix products by BLAS, one per offset: BLAS keeps tiles of all three
                       matrices in registers and caches, so that each loaded value is used often
    im2col_product     every window copied out, then one large product: the best use of BLAS, at the
                       cost of nine copies of the image in memory
    vectors            channels_last with explicit vectors: the sums of a pixel stay in registers,
                       independently of what the compiler would do
    register_tiles     the sums of a tile of pixels in registers: they are independent, and every
                       loaded weight is used for the whole tile
    winograd           the same tiles, on transformed pixels and filters, with a quarter of the
                       multiplications

Which of the first seven is fastest depends on the shape. channels_last needs many filters, and
row_loops needs long rows: on the 32x32 images of ResNet-20's first stage, with 16 channels,
row_loops is faster; on the other two stages, channels_last is. One product is faster than nine if
there are few channels, because nine products with short sums spend their time adding whole arrays.

The last three use the layout of channels_last and keep sums in registers, as BLAS does, but copy
nothing. Compare vectors with threads for the gain from registers, and register_tiles with vectors
for the gain from tiles; BLAS may still be faster than vectors. The last two are the compiled back
end itself (direct.py and winograd.py of minise/ops/jit/convolution).
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
from minise.bench.machine import cores_used_by_others, read_clocks
from minise.bench.result import Result, Table, format_ms, format_number
from minise.bench.rounds import describe_load, time_repeatedly
from minise.bench.settings import LadderSettings, with_count
from minise.checks import Array, Pair
from minise.ops import reference
from minise.ops.reference.windows import windows_of

STAGES = {1: (16, 32), 2: (32, 16), 3: (64, 8)}  # channels, rows and columns
PURE_PYTHON_SHAPE = (1, 4, 8)  # images, channels, rows and columns
KERNEL = (3, 3)
RUN_SECONDS, MIN_RUNS = 1.0, 3  # duration of the timing of a rung, and number of runs


class Rung(NamedTuple):
    """One implementation of the convolution."""

    name: str
    forward: Callable[..., Array]
    channels_last: bool = False  # True if x should have its channels innermost in memory


def python_loops(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Add one product at a time, in Python.

    This is the definition, and it needs no library. For every product the interpreter looks up,
    unboxes and boxes each operand, which takes far longer than the arithmetic.
    """
    padded, out = _padded(x, padding), _empty(x, weight, stride, padding)
    seven_loops(padded, weight, out, *stride)
    return out


def compiled_loops(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Run the same seven loops as machine code.

    Numba knows the types at compile time, so that a load, a multiplication and an addition remain.
    Floating-point addition is not associative, so the compiler must keep the order of the source:
    every addition waits for the previous one, and no two of them share an instruction.
    """
    padded, out = _padded(x, padding), _empty(x, weight, stride, padding)
    compiled(seven_loops)(padded, weight, out, *stride)
    return out


def row_loops(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Put the loop over a row's pixels innermost.

    For one filter, channel and offset, the weight is a scalar: the loop adds the scalar times a row
    of pixels to a row of sums. Consecutive iterations are contiguous in memory and independent, so
    the compiler computes 8 or 16 of them at once (SIMD). It does so only if it knows that the
    accesses are contiguous, for any stride, so the columns are first sorted by their remainder
    modulo the stride. The bottleneck is then loading and storing a sum for every product.
    """
    sorted_columns = _by_remainder(_padded(x, padding), stride[1])
    out = _empty(x, weight, stride, padding)
    compiled(rows_innermost)(sorted_columns, weight, out, *stride)
    return out


def channels_last(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Put the loop over the filters innermost, with channels innermost in memory.

    The K sums of one pixel are a few vectors, which stay in the L1 cache for all C * KH * KW
    products, and the filters are read in memory order. This is fast for rows of any length and any
    stride, whereas row_loops needs long rows at stride 1.
    """
    return _by_images(x, weight, stride, padding, 1, compiled(filters_innermost))


def threads(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Divide the images among threads, which run channels_last.

    Images share only the filters, which are read-only, so no thread waits for another. The compiled
    code releases the GIL, so plain Python threads are sufficient.
    """
    return _by_images(x, weight, stride, padding, threads, compiled(filters_innermost))


def shifted_products(
    x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int
) -> Array:
    """Multiply matrices: one product of filters and pixels for each offset of the kernel.

    BLAS multiplies in tiles that fit into registers, so that each loaded value is used for a whole
    row or column of the tile, unlike in loops over vectors in memory. This is minise's reference.
    """
    return reference.conv2d_forward(x, weight, stride=stride, padding=padding)[0]


def im2col_product(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Copy every window into a column, then multiply once.

    BLAS sums over all offsets in registers, instead of nine additions of whole arrays in memory.
    The copies take KH * KW times the memory of the image.
    """
    K, C, KH, KW = weight.shape
    padded = _padded(x, padding)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (KH, KW), axis=(2, 3))
    strided = windows[:, :, :: stride[0], :: stride[1]]
    N, _, OH, OW = strided.shape[:4]
    cols = strided.transpose(1, 4, 5, 0, 2, 3).reshape(C * KH * KW, N * OH * OW)
    return (weight.reshape(K, -1) @ cols).reshape(K, N, OH, OW).swapaxes(0, 1)


def vectors(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Hold the sums of a pixel in explicit vectors.

    channels_last is fast only if the compiler keeps the sums in registers. Here the kernel does so
    explicitly (ops/jit/vector/simd.py): a vector of 16 filters is one register, and each step loads
    their weights and multiplies them by one element of x, broadcast to all lanes. The bottleneck is
    the latency of the sum: a multiply-add takes four cycles and the next one needs its result, so
    the loop reaches an eighth of the two multiply-adds per cycle that the processor could do.
    """
    from minise.ops.jit.vector.simd import lanes_of

    unused_lanes = -len(weight) % lanes_of(x.dtype)
    padded_weight = np.pad(weight, [(0, unused_lanes), (0, 0), (0, 0), (0, 0)])
    out = _by_images(x, padded_weight, stride, padding, threads, compiled(vectors_of_filters()))
    return out[:, : len(weight)]


def register_tiles(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Hold the sums of a tile of pixels and filters in registers.

    Sixteen independent sums keep the multipliers busy. A loaded vector of weights is used for every
    pixel of the tile, and a loaded value of x for every vector of filters: ten loads for sixteen
    multiply-adds, instead of one load for each. BLAS builds matrix products from the same tiles,
    but this kernel reads the padded image in place, because the windows of neighbouring pixels
    overlap in memory (ops/jit/vector/tile.py and convolution/direct.py).
    """
    return _compiled_back_end("direct", x, weight, stride, padding, threads)


def winograd(x: Array, weight: Array, *, stride: Pair, padding: Pair, threads: int) -> Array:
    """Use six multiplications instead of twelve for four outputs: Winograd's algorithm.

    Four adjacent outputs in a row depend on six pixels and three weights, through twelve products.
    They can be computed as a product of two polynomials, which is determined by its values at six
    points: 0, 1, -1, 2, -2 and infinity. Evaluating the factors there takes additions and
    doublings, but no product of two inputs. B.T transforms the pixels, G the weights, and A.T
    transforms the products back; their entries are powers of the points
    (ops/jit/convolution/transforms.py derives them). In two dimensions, a 4x4 tile takes 36
    products instead of 144. Weights are transformed once, pixels once for all filters, results once
    for all channels; what remains are 36 matrix products of register tiles.

    The cost is about one decimal digit. B.T and A.T have entries up to 5 and 8, so intermediate
    terms are up to 100 times as large as the results in which they cancel, and their rounding
    errors dominate (ops/jit/convolution/rounding.py bounds them). More points would save more
    products, but lose all digits. register_tiles computes other kernels than 3x3, and strides.
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
    """Time and speed of a rung."""

    rung: Rung
    seconds: float
    flops: float  # 2 * MACs per second
    scaled: bool  # True if timed on PURE_PYTHON_SHAPE and extrapolated


def measure(settings: LadderSettings, progress: Callable[[str], None]) -> Result:
    """Time every rung on a stage of ResNet-20, excluding compilation."""
    channels, size = STAGES[settings.stage]
    start = read_clocks([])
    with threadpool_limits(settings.threads, "blas"):
        shape = (settings.batch, channels, size)
        times: list[RungTime] = []
        for rung in RUNGS:
            progress(rung.name)
            times.append(time_rung(rung, shape, settings.threads))
    other_cores = cores_used_by_others(start, read_clocks([]))
    rows = [{**time._asdict(), "rung": time.rung.name} for time in times]
    tables = [_table(times, other_cores, settings)]
    return Result(settings.as_dict(), rows, {"others_cores": other_cores}, tables=tables)


def time_rung(rung: Rung, shape: tuple[int, int, int], threads: int) -> RungTime:
    """Time a rung on images of shape (N, C, H, H); extrapolate pure Python from a small image."""
    scaled = rung.name == "python_loops"
    timed_shape = PURE_PYTHON_SHAPE if scaled else shape
    x, weight = inputs_of(timed_shape, rung.channels_last)

    def run() -> Array:
        return rung.forward(x, weight, stride=(1, 1), padding=(1, 1), threads=threads)

    run()  # compiles, and touches the memory
    flops = 2 * macs_of(timed_shape) / median(time_repeatedly(run, RUN_SECONDS, min_runs=MIN_RUNS))
    return RungTime(rung, 2 * macs_of(shape) / flops, flops, scaled)


def inputs_of(shape: tuple[int, int, int], channels_last: bool) -> tuple[Array, Array]:
    """Return images (N, C, H, H) in the given layout, and C filters (C, C, 3, 3)."""
    N, C, H = shape
    rng = np.random.default_rng(0)
    x = rng.standard_normal((N, C, H, H)).astype(np.float32)
    weight = rng.standard_normal((C, C, *KERNEL)).astype(np.float32)
    if channels_last:
        x = np.ascontiguousarray(x.transpose(0, 2, 3, 1)).transpose(0, 3, 1, 2)
    return x, weight


def macs_of(shape: tuple[int, int, int]) -> int:
    """Return the multiply-accumulates of the convolution of images (N, C, H, H)."""
    N, C, H = shape
    return N * C * C * H * H * KERNEL[0] * KERNEL[1]


def _table(times: list[RungTime], other_cores: float | None, settings: LadderSettings) -> Table:
    channels, size = STAGES[settings.stage]
    _, few, small = PURE_PYTHON_SHAPE
    rows = [
        (
            time.rung.name,
            format_ms(1000 * time.seconds) + ("*" if time.scaled else " "),
            format_number(time.flops / 1e9),
            format_number(times[0].seconds / time.seconds),
            (time.rung.forward.__doc__ or "").partition("\n")[0],
        )
        for time in times
    ]
    return Table(
        f"3x3 convolution, {channels} to {channels} channels, {settings.batch} images of "
        f"{size}x{size}, float32, {with_count(settings.threads, 'thread')}",
        ("ms", "GFLOP/s", "speed-up", "what it does"),
        rows,
        "GFLOP/s: a multiply-accumulate counts as two operations. * extrapolated from one image of "
        f"{small}x{small} with {few} channels, in proportion to the multiply-accumulates.\n"
        + describe_load(other_cores),
        left=("what it does",),
    )


def _by_images(
    x: Array, weight: Array, stride: Pair, padding: Pair, threads: int, kernel: Any
) -> Array:
    """Run a kernel on channels-last arrays, dividing the images among threads."""
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
    """Return out, computed by the jit back end with one of its algorithms."""
    from minise.ops import jit

    ops = jit.using(threads=threads, algorithm=algorithm)
    return ops.conv2d_forward(x, weight, stride=stride, padding=padding)[0]


def _parts(N: int, threads: int) -> Iterator[slice]:
    for i in range(threads):
        yield slice(N * i // threads, N * (i + 1) // threads)


def _padded(x: Array, padding: Pair) -> Array:
    return np.pad(x, [(0, 0), (0, 0), *((pad, pad) for pad in padding)])


def _by_remainder(padded: Array, step: int) -> Array:
    """Return an array (N, C, H, step, ceil(W / step)): [..., r, q] is column q * step + r."""
    N, C, H, W = padded.shape
    if W % step:
        padded = np.pad(padded, [(0, 0), (0, 0), (0, 0), (0, -W % step)])
    return np.ascontiguousarray(padded.reshape(N, C, H, -1, step).swapaxes(3, 4))


def _empty(x: Array, weight: Array, stride: Pair, padding: Pair) -> Array:
    windows = windows_of(x.shape[2:], weight.shape[2:], stride, padding)
    return np.empty((len(x), len(weight), *windows.outputs), x.dtype)

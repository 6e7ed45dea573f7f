"""The passes over memory of the normalisation kernels.

Each function processes one block of pixels of (blocks, pixels, C), one iteration of a parallel loop
in minise/ops/jit/norm.py. It processes one vector of channels at a time: the sums and parameters of
these channels stay in registers during the loop over pixels, and each cache line is accessed once.
Sums use four registers (pixels 0, 4, 8, … go to the first), so that an addition need not wait for
the previous one. A block has at most PIXELS_PER_BLOCK pixels, and channels.py adds the results of
the blocks in double precision.

After its vectors, each function calls plain loops for the channels that do not fill a vector: with
`first` = 0, the loops are the complete pass, and its specification.
"""

from functools import lru_cache

from minise.checks import Array
from minise.ops.jit.compiler.compile import device_function, inlined
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.simd import filled, fma, lanes_of, load, store, where_positive

PIXELS_PER_BLOCK = 1024  # at most: each register sums a quarter of them
MIN_BLOCKS = 16  # also for few images, if they have enough pixels


def blocks_of(rows: Array) -> Array:
    """Return (N, pixels, C) as blocks (N * parts, pixels / parts, C), a view.

    Few images are split into several blocks each, so that even one image uses several cores.
    """
    N, pixels, C = rows.shape
    parts = _parts_of(N, pixels)
    return frozen(rows).reshape(N * parts, pixels // parts, C)


@lru_cache(4096)
def _parts_of(N: int, pixels: int) -> int:
    """Return the least number of equal parts per image such that blocks are short and many."""
    least = max(-(-MIN_BLOCKS // N), -(-pixels // PIXELS_PER_BLOCK))
    return next((parts for parts in range(least, pixels) if pixels % parts == 0), pixels)


@inlined
def moments(block, x, means, squares):
    """Set means[block] and squares[block] to each channel's mean and centred sum of squares.

    The first pass sums the differences from the first pixel, so that a large mean costs no
    precision; the second pass reads the block from cache.
    """
    _, pixels, C = x.shape
    flat, flat_means, flat_squares = x.reshape(-1), means.reshape(-1), squares.reshape(-1)
    lanes, quarters = lanes_of(x.dtype), pixels - pixels % 4
    for c in range(0, C - C % lanes, lanes):
        at = block * pixels * C + c
        base = load(flat, at)
        s0 = s1 = s2 = s3 = filled(0.0, flat)
        for p in range(at, at + quarters * C, 4 * C):
            s0 = s0 + (load(flat, p) - base)
            s1 = s1 + (load(flat, p + C) - base)
            s2 = s2 + (load(flat, p + 2 * C) - base)
            s3 = s3 + (load(flat, p + 3 * C) - base)
        for p in range(at + quarters * C, at + pixels * C, C):
            s0 = s0 + (load(flat, p) - base)
        mean = fma(1 / pixels, (s0 + s1) + (s2 + s3), base)
        s0 = s1 = s2 = s3 = filled(0.0, flat)
        for p in range(at, at + quarters * C, 4 * C):
            d0, d1 = load(flat, p) - mean, load(flat, p + C) - mean
            d2, d3 = load(flat, p + 2 * C) - mean, load(flat, p + 3 * C) - mean
            s0, s1, s2, s3 = fma(d0, d0, s0), fma(d1, d1, s1), fma(d2, d2, s2), fma(d3, d3, s3)
        for p in range(at + quarters * C, at + pixels * C, C):
            d0 = load(flat, p) - mean
            s0 = fma(d0, d0, s0)
        store(mean, flat_means, block * C + c)
        store((s0 + s1) + (s2 + s3), flat_squares, block * C + c)
    moments_loops(x[block], C - C % lanes, means[block], squares[block])


@device_function
def moments_loops(x, first, means, squares):
    """Compute the moments of the channels from `first` on of a block (pixels, C)."""
    pixels, C = x.shape
    for c in range(first, C):
        total = 0.0
        for i in range(pixels):
            total += x[i, c] - x[0, c]
        mean = x[0, c] + total / pixels
        total = 0.0
        for i in range(pixels):
            total += (x[i, c] - mean) ** 2
        means[c], squares[c] = mean, total


@inlined
def normalise(block, x, mean, scale, shift, shortcut, relu, out):
    """Set out[block] to (x - mean) * scale + shift + shortcut, and apply the ReLU if relu.

    mean is (C,), scale and shift are (N, C), or (1, C) for all images; shortcut may be empty.
    """
    blocks, pixels, C = x.shape
    n = block // (blocks // len(scale))
    flat, flat_out, others = x.reshape(-1), out.reshape(-1), shortcut.reshape(-1)
    scales, shifts, lanes = scale.reshape(-1), shift.reshape(-1), lanes_of(x.dtype)
    for c in range(0, C - C % lanes, lanes):
        m, a, b = load(mean, c), load(scales, n * C + c), load(shifts, n * C + c)
        at = block * pixels * C + c
        for p in range(at, at + pixels * C, C):
            y = fma(load(flat, p) - m, a, b)
            if shortcut.size:
                y = y + load(others, p)
            if relu:
                y = where_positive(y, y)
            store(y, flat_out, p)
    other = shortcut[block] if shortcut.size else shortcut[0]
    rest = C - C % lanes
    normalise_loops(x[block], rest, mean, scale[n], shift[n], other, relu, out[block])


@device_function
def normalise_loops(x, first, mean, scale, shift, shortcut, relu, out):
    """Normalise the channels from `first` on of a block (pixels, C)."""
    pixels, C = x.shape
    for i in range(pixels):
        for c in range(first, C):
            y = (x[i, c] - mean[c]) * scale[c] + shift[c]
            if shortcut.size:
                y += shortcut[i, c]
            out[i, c] = 0 if relu and y <= 0 else y


@inlined
def gradient_sums(block, dout, out, x, mean, sum_g, sum_gx, masked):
    """Set sum_g[block], sum_gx[block] to each channel's sum of g and of g * (x - mean).

    g is dout, but 0 where out <= 0 unless out is empty; masked, if not empty, is set to g.
    """
    _, pixels, C = x.shape
    flat, douts, outs = x.reshape(-1), dout.reshape(-1), out.reshape(-1)
    totals, products, lanes = sum_g.reshape(-1), sum_gx.reshape(-1), lanes_of(x.dtype)
    gs = masked.reshape(-1)
    quarters = pixels - pixels % 4
    masks = outs if out.size else douts
    for c in range(0, C - C % lanes, lanes):
        m, at = load(mean, c), block * pixels * C + c
        s0 = s1 = s2 = s3 = t0 = t1 = t2 = t3 = filled(0.0, flat)
        for p in range(at, at + quarters * C, 4 * C):
            g0, g1 = load(douts, p), load(douts, p + C)
            g2, g3 = load(douts, p + 2 * C), load(douts, p + 3 * C)
            if out.size:
                g0, g1 = where_positive(g0, load(masks, p)), where_positive(g1, load(masks, p + C))
                g2, g3 = (
                    where_positive(g2, load(masks, p + 2 * C)),
                    where_positive(g3, load(masks, p + 3 * C)),
                )
            if masked.size:
                store(g0, gs, p)
                store(g1, gs, p + C)
                store(g2, gs, p + 2 * C)
                store(g3, gs, p + 3 * C)
            s0, s1, s2, s3 = s0 + g0, s1 + g1, s2 + g2, s3 + g3
            t0, t1 = fma(g0, load(flat, p) - m, t0), fma(g1, load(flat, p + C) - m, t1)
            t2 = fma(g2, load(flat, p + 2 * C) - m, t2)
            t3 = fma(g3, load(flat, p + 3 * C) - m, t3)
        for p in range(at + quarters * C, at + pixels * C, C):
            g0 = load(douts, p)
            if out.size:
                g0 = where_positive(g0, load(masks, p))
            if masked.size:
                store(g0, gs, p)
            s0, t0 = s0 + g0, fma(g0, load(flat, p) - m, t0)
        store((s0 + s1) + (s2 + s3), totals, block * C + c)
        store((t0 + t1) + (t2 + t3), products, block * C + c)
    out_block, masked_block = (
        out[block] if out.size else out[0],
        masked[block] if masked.size else masked[0],
    )
    rest = C - C % lanes
    gradient_sums_loops(
        dout[block], out_block, x[block], rest, mean, sum_g[block], sum_gx[block], masked_block
    )


@device_function
def gradient_sums_loops(dout, out, x, first, mean, sum_g, sum_gx, masked):
    """Compute both sums, and masked, for the channels from `first` on of a block (pixels, C)."""
    pixels, C = x.shape
    for c in range(first, C):
        total = product = 0.0
        for i in range(pixels):
            g = 0 if out.size and out[i, c] <= 0 else dout[i, c]
            if masked.size:
                masked[i, c] = g
            total += g
            product += g * (x[i, c] - mean[c])
        sum_g[c], sum_gx[c] = total, product


@inlined
def input_gradient(block, dout, out, x, scale, shift, mean, slope, dx):
    """Set dx[block] to g * scale + shift - (x - mean) * slope.

    g is as in gradient_sums; scale and shift are (N, C) or (1, C), mean and slope (C,).
    """
    blocks, pixels, C = x.shape
    n = block // (blocks // len(scale))
    flat, douts, outs = x.reshape(-1), dout.reshape(-1), out.reshape(-1)
    dxs, lanes = dx.reshape(-1), lanes_of(x.dtype)
    scales, shifts = scale.reshape(-1), shift.reshape(-1)
    for c in range(0, C - C % lanes, lanes):
        a, b = load(scales, n * C + c), load(shifts, n * C + c)
        m, minus, at = load(mean, c), -1.0 * load(slope, c), block * pixels * C + c
        for p in range(at, at + pixels * C, C):
            g = load(douts, p)
            if out.size:
                g = where_positive(g, load(outs, p))
            store(fma(g, a, fma(load(flat, p) - m, minus, b)), dxs, p)
    gradients = dout[block], out[block] if out.size else out[0], x[block]
    rest = C - C % lanes
    input_gradient_loops(*gradients, rest, scale[n], shift[n], mean, slope, dx[block])


@device_function
def input_gradient_loops(dout, out, x, first, scale, shift, mean, slope, dx):
    """Set dx for the channels from `first` on of a block (pixels, C)."""
    pixels, C = x.shape
    for i in range(pixels):
        for c in range(first, C):
            g = 0 if out.size and out[i, c] <= 0 else dout[i, c]
            dx[i, c] = g * scale[c] + shift[c] - (x[i, c] - mean[c]) * slope[c]

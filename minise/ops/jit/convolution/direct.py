"""The direct convolution: a matrix product whose left factor is read from an image, without im2col.

    out (positions, K) = image (positions, taps * C)  @  weight (taps * C, K)

A row of the left factor is the window of a position. No window is copied: a register tile
(vector/tile.py) reads the windows of several positions in place, from the list of their offsets in
memory, because all windows have the same offsets from tap to tap. Along a row of a window the taps
are adjacent in memory, so that they form one run of KW * C elements, also with few channels.

The work is split into tasks: a block of positions (some images, or some rows of one), and a range
of filters if there are few blocks. Each range packs its pixels once more, so blocks become smaller
first, down to MIN_POSITIONS. A task

    packs the pixels that its windows read, with zeros beyond the edge;
    if no window reaches beyond it, reads the images themselves            in the L2 cache
    for each two vectors of filters:
        for each PANEL_BYTES of their weights (panels.py)                  in the L1 cache
            adds the products for all positions to the sums                in the L1 cache
        adds bias and shortcut, applies the ReLU, and stores the results   (epilogue.py)

So an image is read once from memory and the weights once for each block. The order in which the
terms of a sum are added is that of the definition: tap by tap, channel by channel.

Both passes that convolve are this product (geometry.py describes which pixels a window sees):

    forward   windows of out read x
    dx        windows of x read dout: with a stride, one view for each remainder of the pixels

Results are bit-identical for any number of threads: a task writes its own part of out.
"""

from functools import partial
from math import prod

import numpy as np
from numba import prange

from minise.checks import Array, Pair
from minise.ops.jit.compiler.compile import device_function, inlined, kernel
from minise.ops.jit.convolution.epilogue import Correlation, apply_epilogue
from minise.ops.jit.convolution.geometry import MIN_TASKS, PIXEL_BYTES, Blocks, View, blocks_of
from minise.ops.jit.convolution.packing import grid_of, windows_of_block
from minise.ops.jit.vector.simd import VECTOR_BYTES, lanes_of
from minise.ops.jit.vector.tile import MIN_ROWS, add_rows, zero

PANEL_BYTES = 16 * 1024  # of two vectors of weights: half of the L1 cache
MIN_POSITIONS = 64  # of a block, if there are as many
STEPS = PANEL_BYTES // (2 * VECTOR_BYTES)  # weights of a filter that stay in the L1 cache


def correlation(
    view: View, panels: Array, bias: Array, N: int, taps: Pair | None = None
) -> Correlation:
    """Return a function that fills the results of N images at the positions of a view.

    panels are those of panels.py, whose taps from taps[0] on are those of the view; taps[1] is the
    number of taps of the panels. By default, the panels have the taps of the view.
    """
    first_tap, tap_count = taps or (0, max(1, len(view.taps)))
    groups, vectors, steps, _ = panels.shape
    C = max(1, steps // tap_count)
    group_bytes = C * panels.itemsize
    together, pairs = max(1, min(groups, PIXEL_BYTES // group_bytes)), -(-vectors // 2)
    blocks = blocks_of(view, N, together * group_bytes)
    images, total = _images_per_block(blocks, N, prod(view.grid))
    splits = -(-MIN_TASKS // max(1, total))  # of the filters, so that there are enough tasks
    pairs_per_task = min(together * pairs, max(2, -(-groups * pairs // splits)))
    sizes = images, blocks.rows, pairs_per_task, first_tap * C, len(view.taps) * C
    placement = *view.first, *view.spacing
    return partial(_correlate, view.layout, placement, view.taps, view.merged, sizes, panels, bias)


def _images_per_block(blocks: Blocks, N: int, positions: int) -> Pair:
    """Return the images of a block, few if that makes more tasks, and the number of blocks."""
    fewest = max(-(-N // MIN_TASKS), -(-MIN_POSITIONS // max(1, positions)))
    images = min(blocks.images, fewest)
    return images, blocks.total if blocks.images == 1 else -(-N // images)


@kernel
def _correlate(layout, placement, taps, merged, sizes, panels, bias, source, shortcut, relu, out):
    """Fill out: one block of positions, and one range of pairs of vectors, at a time."""
    (images, rows, pairs_per_task, _, _), high = sizes, grid_of(layout)[0]
    pairs = panels.shape[0] * -(-panels.shape[1] // 2)
    parts, stacks = -(-pairs // pairs_per_task), -(-high // rows)
    for task in prange(-(-len(out) // images) * stacks * parts):
        block, begin = task // parts, task % parts * pairs_per_task
        n, top = block // stacks * images, block % stacks * rows
        count, bottom = min(images, len(out) - n), min(high, top + rows)
        span = n, count, top, bottom, begin, min(pairs, begin + pairs_per_task)
        end = bias, shortcut.reshape(-1), relu
        _correlate_block(span, layout, placement, taps, merged, sizes[3:], panels, source, end, out)


@inlined
def _correlate_block(span, layout, placement, taps, merged, steps, panels, source, end, out):
    """Compute the results of one task.

    Sums that are complete after one range of weights are formed in out itself.
    """
    n, images, top, bottom, begin, last = span
    groups, vectors, all_steps, lanes = panels.shape
    first, T = steps
    (_, H, W, channels), columns = out.shape, grid_of(layout)[1]
    C, K, pairs = source.shape[3] // groups, channels // groups, -(-vectors // 2)
    lowest, width = begin // pairs, (-(-last // pairs) - begin // pairs) * C
    taps_per_run = merged if width == C else 1
    block = source, n, images, top, bottom, lowest * C, width, layout, taps, taps_per_run
    pixels, offsets, runs = windows_of_block(*block)
    positions, flat = images * (bottom - top) * columns, out.reshape(-1)
    sums = np.empty(len(offsets) * 2 * lanes, out.dtype)
    complete = 0 < T <= STEPS and positions >= MIN_ROWS and placement[2] == placement[3] == 1
    for pair in range(begin, last):
        g, v = pair // pairs, pair % pairs * 2
        two = min(2, vectors - v)
        k, in_place = g * K + v * lanes, complete and (v + two) * lanes <= K
        target, at, row = sums, 0, two * lanes
        if in_place:
            target, at, row = flat, (n * H + top) * W * channels + k, channels
        elif T == 0:
            zero(sums, 0, positions * two * lanes)
        left = pixels, (g - lowest) * C, offsets, positions, runs, T // max(1, len(runs))
        b = ((g * vectors + v) * all_steps + first) * lanes
        right = panels.reshape(-1), b, all_steps * lanes, two
        _multiply(*left, *right, target, at, row)
        if not in_place or len(end[0]) or len(end[1]) or end[2]:
            _store(target, at, row, span, k, (g + 1) * K, columns, placement, end, out)


@device_function
def _multiply(
    pixels, first, offsets, positions, runs, count, weights, b, panel, two, target, at, row
):
    """Set target to the products of all positions and two (or one) vectors of filters."""
    lanes, together = lanes_of(target.dtype), max(1, STEPS // max(1, count))
    pieces = -(-count // STEPS)
    for run in range(0, len(runs), together):
        here = runs[run : run + together]
        for piece in range(pieces):
            s, after = piece * count // pieces, (piece + 1) * count // pieces
            left = pixels, first + s, offsets, positions, here, after - s
            right = weights, b + (run * count + s) * lanes, panel, two
            add_rows(*left, *right, run + piece == 0, target, at, row)


@device_function
def _store(sums, at, row, span, k, last, columns, placement, end, out):
    """Store the sums of a block for filters from k on but before `last`, with the epilogue."""
    n, images, top, bottom, _, _ = span
    below, beyond, down, right = placement
    (_, H, W, K), flat = out.shape, out.reshape(-1)
    width = min(2 * lanes_of(out.dtype), last - k)
    for i in range(n, n + images):
        for p in range(top, bottom):
            to = ((i * H + below + p * down) * W + beyond) * K + k
            apply_epilogue(sums, at, row, width, columns, k, *end, flat, to, right * K)
            at += columns * row

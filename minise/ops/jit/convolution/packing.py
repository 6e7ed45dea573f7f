"""Pack zero-padded blocks of an image into cache, as the convolution kernels read them.

`pack_rows` packs some rows of one image. `pack_block` packs all pixels that a block of positions
reads; `packed_windows` also returns where the windows are in them, and `windows_of_block` needs no
copy if no window reaches beyond an edge, as with 1 x 1 filters. layout is that of a View
(geometry.py).
"""

import numpy as np

from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.vector.simd import (
    CACHE_LINE_BYTES,
    lanes_of,
    load,
    prefetch_read,
    prefetch_write,
    store,
)
from minise.ops.jit.vector.tile import MIN_ROWS, copy, zero


@device_function
def copy_pixels(source, at, source_stride, count, pixels, target, to, target_stride):
    """Copy `count` elements of each pixel of a row; indices and strides are in elements."""
    lanes = lanes_of(target.dtype)
    if source_stride == target_stride == count:  # then the row is contiguous
        copy(source, at, target, to, pixels * count)
    elif count >= lanes:
        for _ in range(pixels):
            for i in range(0, count - lanes, lanes):
                store(load(source, at + i), target, to + i)
            store(load(source, at + count - lanes), target, to + count - lanes)
            at += source_stride
            to += target_stride
    else:
        for _ in range(pixels):
            for i in range(count):
                target[to + i] = source[at + i]
            at += source_stride
            to += target_stride


@device_function
def pack_rows(source, n, first, count, origin, step, top, rows, wide, packed, at):
    """Copy `rows` rows of `wide` pixels of image n to packed[at:], and return the next index.

    Zeros stand for pixels outside of the image. Each pixel has `count` channels, from the channel
    `first` on. Packed row r, column q is row origin[0] + (top + r) * step[0], column origin[1] +
    q * step[1] of the image.
    """
    _, H, W, channels = source.shape
    pixels, row = source.reshape(-1), wide * count
    begin = min(wide, max(0, -(origin[1] // step[1])))
    end = max(begin, min(wide, -((origin[1] - W) // step[1])))
    left, stride = origin[1] + begin * step[1], step[1] * channels
    for r in range(rows):
        h = origin[0] + (top + r) * step[0]
        if h < 0 or h >= H or begin == end:
            zero(packed, at, row)
        else:
            zero(packed, at, begin * count)
            pixel = ((n * H + h) * W + left) * channels + first
            to = at + begin * count
            copy_pixels(pixels, pixel, stride, count, end - begin, packed, to, count)
            zero(packed, at + end * count, row - end * count)
        at += row
    return at


@device_function
def grid_of(layout):
    """Return the rows and columns of positions."""
    return layout[8], layout[9]


@device_function
def packed_size(rows, layout):
    """Return the rows and columns of the packed image for some rows of positions."""
    _, _, _, _, down, right, below, beyond, _, columns = layout
    return (rows - 1) * down + 1 + below, (columns - 1) * right + 1 + beyond


@device_function
def pack_block(source, n, images, top, bottom, first, count, layout, taps):
    """Return the packed pixels (images, rows, columns, count) that a block of positions reads.

    They are followed by zeros, as vectors may be read that begin inside of them.
    """
    rows, wide = packed_size(bottom - top, layout)
    room, at = 2 * lanes_of(source.dtype), 0
    packed = np.empty(images * rows * wide * count + room, source.dtype)
    origin, step, move = layout[:2], layout[2:4], layout[4]
    if len(taps):
        for i in range(n, n + images):
            at = pack_rows(
                source, i, first, count, origin, step, top * move, rows, wide, packed, at
            )
    zero(packed, at, room)
    return packed


@device_function
def packed_windows(source, n, images, top, bottom, first, count, layout, taps, merged):
    """Return the packed pixels that a block of positions reads, and where its windows are in them.

    These are the offset of each position's window in the pixels, and that of each run of `merged`
    taps in a window.
    """
    pixels = pack_block(source, n, images, top, bottom, first, count, layout, taps)
    rows, wide = packed_size(bottom - top, layout)
    grid, (down, right), row = (images, bottom - top, grid_of(layout)[1]), layout[4:6], wide * count
    offsets = offsets_of(0, grid, (rows * row, down * row, right * count))
    return pixels, offsets, runs_of(taps, merged, row, count)


@device_function
def windows_of_block(source, n, images, top, bottom, first, count, layout, taps, merged):
    """Return what `packed_windows` does, but without a copy if no window reaches beyond an edge.

    Then the pixels are those of the images themselves. A run must be adjacent in them, too.
    """
    (_, H, W, channels), (step, side), (down, right) = source.shape, layout[2:4], layout[4:6]
    row, column = step * W * channels, side * channels
    if not _inside(layout, H, W) or (merged > 1 and column != count):
        return packed_windows(source, n, images, top, bottom, first, count, layout, taps, merged)
    begin = ((n * H + layout[0] + top * down * step) * W + layout[1]) * channels + first
    grid = images, bottom - top, grid_of(layout)[1]
    offsets = offsets_of(begin, grid, (H * W * channels, down * row, right * column))
    return source.reshape(-1), offsets, runs_of(taps, merged, row, column)


@device_function
def _inside(layout, H, W):
    """Return True if all windows of images of H x W are inside of them."""
    high, wide = packed_size(layout[8], layout)
    below, beyond = layout[0] + (high - 1) * layout[2], layout[1] + (wide - 1) * layout[3]
    return layout[0] >= 0 and layout[1] >= 0 and below < H and beyond < W


@device_function
def offsets_of(begin, grid, strides):
    """Return the offset of each position of a grid (images, rows, columns), and some more of 0."""
    images, rows, columns = grid
    offsets = np.zeros(images * rows * columns + MIN_ROWS - 1, np.intp)
    m = 0
    for i in range(images):
        for p in range(rows):
            at = begin + i * strides[0] + p * strides[1]
            for _ in range(columns):
                offsets[m] = at
                at += strides[2]
                m += 1
    return offsets


@device_function
def runs_of(taps, merged, row, column):
    """Return the offset of each run of taps from its position, for the strides of pixels."""
    runs = np.empty(len(taps) // merged, np.intp)
    for r in range(len(runs)):
        runs[r] = taps[r * merged, 0] * row + taps[r * merged, 1] * column
    return runs


@device_function
def prefetch_read_slice(numbers, begin, end, i, parts):
    """Prefetch, for reading, the i-th of `parts` equal slices of numbers[begin:end]."""
    size, line = end - begin, CACHE_LINE_BYTES // numbers.itemsize
    for at in range(begin + i * size // parts, begin + (i + 1) * size // parts, line):
        prefetch_read(numbers, at)


@device_function
def prefetch_write_slice(numbers, begin, end, i, parts):
    """Prefetch, for writing, the i-th of `parts` equal slices of numbers[begin:end]."""
    size, line = end - begin, CACHE_LINE_BYTES // numbers.itemsize
    for at in range(begin + i * size // parts, begin + (i + 1) * size // parts, line):
        prefetch_write(numbers, at)

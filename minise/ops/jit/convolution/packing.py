"""Blocks of an image in cache, with zeros around: what convolution kernels read.

A block is packed as one plane for each remainder of row and column by the stride (one, without a
stride), each of so many rows of so many pixels of C numbers.
"""

from minise.ops.jit.compiler.compile import part
from minise.ops.jit.vector.simd import LINE, lanes_of, load, store, will_read, will_write
from minise.ops.jit.vector.tile import ROWS, copy, zero


@part
def room_of(planes, rows, wide, C):
    """Return how many numbers a packed block has, with what the last tile reads beyond it."""
    return (max(1, planes) * rows * wide + ROWS + wide) * C


@part
def copy_pixels(source, at, source_apart, count, pixels, target, to, target_apart):
    """Copy some numbers of each pixel of a row; places are in numbers."""
    lanes = lanes_of(target.dtype)
    if source_apart == target_apart == count:  # then the whole row is one piece
        copy(source, at, target, to, pixels * count)
    elif count % lanes == 0:
        for _ in range(pixels):
            for i in range(0, count, lanes):
                store(load(source, at + i), target, to + i)
            at += source_apart
            to += target_apart
    else:
        for _ in range(pixels):
            for i in range(count):
                target[to + i] = source[at + i]
            at += source_apart
            to += target_apart


@part
def pack(source, n, first, C, planes, step, top, rows, wide, packed):
    """Copy rows of some channels into planes, with zeros around: packed[plane, row, column, c]."""
    _, H, W, channels = source.shape
    pixels = source.reshape(-1)
    at = 0
    for one in range(len(planes)):
        left = planes[one, 1]  # the image's column that stands first
        begin = min(wide, max(0, -(left // step[1])))
        end = max(begin, min(wide, -((left - W) // step[1])))
        for r in range(rows):
            h = (top + r) * step[0] + planes[one, 0]
            if h < 0 or h >= H:
                zero(packed, at, wide * C)
            else:
                zero(packed, at, begin * C)
                pixel = (n * H + h) * W + left + begin * step[1]
                to, apart = at + begin * C, step[1] * channels
                copy_pixels(pixels, pixel * channels + first, apart, C, end - begin, packed, to, C)
                zero(packed, at + end * C, (wide - end) * C)
            at += wide * C
    zero(packed, at, len(packed) - at)


@part
def read_ahead(numbers, begin, end, i, parts):
    """Ask for the i-th of some parts of what will be read."""
    size, line = end - begin, LINE // numbers.itemsize
    for at in range(begin + i * size // parts, begin + (i + 1) * size // parts, line):
        will_read(numbers, at)


@part
def write_ahead(numbers, begin, end, i, parts):
    """Ask for the i-th of some parts of what will be written."""
    size, line = end - begin, LINE // numbers.itemsize
    for at in range(begin + i * size // parts, begin + (i + 1) * size // parts, line):
        will_write(numbers, at)

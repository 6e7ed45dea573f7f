"""Pack zero-padded blocks of an image into cache, as the convolution kernels read them.

A packed block has one plane for each remainder of row and column by the stride (one plane without
a stride). Each plane is (rows, pixels, C).
"""

from minise.ops.jit.compiler.compile import device_function
from minise.ops.jit.vector.simd import (
    CACHE_LINE_BYTES,
    lanes_of,
    load,
    prefetch_read,
    prefetch_write,
    store,
)
from minise.ops.jit.vector.tile import ROWS, copy, zero


@device_function
def packed_size(planes, rows, wide, C):
    """Return the elements of a packed block, including those that the last tile reads beyond it."""
    return (max(1, planes) * rows * wide + ROWS + wide) * C


@device_function
def copy_pixels(source, at, source_stride, count, pixels, target, to, target_stride):
    """Copy `count` elements of each pixel of a row; indices and strides are in elements."""
    lanes = lanes_of(target.dtype)
    if source_stride == target_stride == count:  # then the row is contiguous
        copy(source, at, target, to, pixels * count)
    elif count % lanes == 0:
        for _ in range(pixels):
            for i in range(0, count, lanes):
                store(load(source, at + i), target, to + i)
            at += source_stride
            to += target_stride
    else:
        for _ in range(pixels):
            for i in range(count):
                target[to + i] = source[at + i]
            at += source_stride
            to += target_stride


@device_function
def pack(source, n, first, C, planes, step, top, rows, wide, packed):
    """Copy rows of C channels of image n to zero-padded packed[plane, row, column, channel].

    first is the first channel, top the first row of positions, step the stride.
    """
    _, H, W, channels = source.shape
    pixels = source.reshape(-1)
    at = 0
    for plane in range(len(planes)):
        left = planes[plane, 1]  # the image column of the plane's first column
        begin = min(wide, max(0, -(left // step[1])))
        end = max(begin, min(wide, -((left - W) // step[1])))
        for r in range(rows):
            h = (top + r) * step[0] + planes[plane, 0]
            if h < 0 or h >= H:
                zero(packed, at, wide * C)
            else:
                zero(packed, at, begin * C)
                pixel = (n * H + h) * W + left + begin * step[1]
                to, stride = at + begin * C, step[1] * channels
                copy_pixels(pixels, pixel * channels + first, stride, C, end - begin, packed, to, C)
                zero(packed, at + end * C, (wide - end) * C)
            at += wide * C
    zero(packed, at, len(packed) - at)


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

"""Windows of convolution and pooling: their positions, and one strided view per window offset.

A window of KH x KW pixels slides over a padded image. Instead of looping over windows, these
functions loop over offsets: for a fixed offset (i, j), the pixels of *all* windows are

    window(padded, i, j)[n, c, p, q] = padded[n, c, p * stride + i * dilation, q * ... + j * ...]

which is one strided view of the image, without a copy. A convolution or a pool is then a loop of
KH * KW steps, whatever the stride, the padding or the overlap, and adding to the same view is
its exact transpose: a pixel in several windows receives a term from each of them, offset by offset,
and a pixel in no window (a remainder of the stride) remains zero.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from minise.checks import Array, Pair


class Windows(NamedTuple):
    """The sizes and positions of windows; each pair is (rows, columns)."""

    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    image: Pair  # H, W, before padding
    outputs: Pair  # OH, OW, the number of windows
    overhang: Pair  # pixels of the last window beyond the lower padding, in ceil mode

    def offsets(self) -> Iterator[Pair]:
        """Yield every (i, j) of a window, row by row."""
        for i in range(self.kernel[0]):
            for j in range(self.kernel[1]):
                yield i, j


def windows_of(
    image: Pair,
    kernel: Pair,
    stride: Pair,
    padding: Pair,
    dilation: Pair = (1, 1),
    ceil_mode: bool = False,
) -> Windows:
    """Return the Windows of an image.

    The count is floor((H + 2 padding - span) / stride) + 1 with span = dilation (kernel - 1) + 1.
    In ceil mode it is rounded up, but a last window that would start in the lower padding is
    dropped, as in PyTorch, so that no window is empty.
    """
    counts, overhangs = [], []
    for size, k, step, pad, d in zip(image, kernel, stride, padding, dilation, strict=True):
        room = size + 2 * pad - (d * (k - 1) + 1)
        count = room // step + 1
        if ceil_mode and room % step and count * step < size + pad:
            count += 1
        counts.append(count)
        overhangs.append(max(0, (count - 1) * step - room))
    count_pair, overhang_pair = (counts[0], counts[1]), (overhangs[0], overhangs[1])
    return Windows(kernel, stride, padding, dilation, image, count_pair, overhang_pair)


def pad(x: Array, where: Windows, value: float = 0) -> Array:
    """Return x (…, H, W) with a frame of value, wide enough for every window."""
    pads = zip(where.padding, where.overhang, strict=True)
    frame = [(0, 0)] * (x.ndim - 2) + [(before, before + over) for before, over in pads]
    return np.pad(x, frame, constant_values=value) if any(map(any, frame)) else x


def unpad(padded: Array, where: Windows) -> Array:
    """Return the image inside the frame, a view."""
    (top, left), (H, W) = where.padding, where.image
    return padded[..., top : top + H, left : left + W]  # = padded[n, c, i + top, j + left]


def window(padded: Array, where: Windows, i: int, j: int) -> Array:
    """Return the pixel at offset (i, j) of every window, a view of shape (…, OH, OW)."""
    top, left = i * where.dilation[0], j * where.dilation[1]
    bottom = top + (where.outputs[0] - 1) * where.stride[0] + 1
    right = left + (where.outputs[1] - 1) * where.stride[1] + 1
    return padded[..., top : bottom : where.stride[0], left : right : where.stride[1]]

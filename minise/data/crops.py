"""Choose the part of an image to cut out: random for training, central for evaluation.

Source: Szegedy et al., "Going deeper with convolutions", arXiv:1409.4842, section 6, for the random
area and aspect ratio. The paper draws the ratio in 3/4..4/3 without a distribution; here its
logarithm is uniform, so that wide and high crops are equally likely, as in torchvision's
RandomResizedCrop, which also tries ten times.
"""

import math
from collections.abc import Callable
from typing import NamedTuple, TypeAlias

from minise.data.streams import ROW, Words, integers_below, uniform

TRIES = 10  # to draw a part that lies within the image
CROP_WORDS = TRIES * ROW  # random words of an image
MIN_AREA = 0.08  # of the image's area; the largest is 1
MAX_RATIO = 4 / 3  # of width to height; the smallest is its inverse


class Box(NamedTuple):
    """A part of an image, in pixels."""

    top: int
    left: int
    height: int
    width: int


ChooseBox: TypeAlias = Callable[[int, int], Box]  # of an image's height and width


def random_box(height: int, width: int, words: Words) -> Box:
    """Return a random part of an image, determined by its random words.

    Parameters
    ----------
    height, width : int
        Rows and columns of the image.
    words : ndarray of shape (40,), uint64
        Four words per try: area, aspect ratio, row, column.

    Returns
    -------
    Box
        A part with 8 to 100 % of the area, uniform, and an aspect ratio of 3/4 to 4/3, log-uniform;
        height and width are rounded to pixels, the position is uniform. If none of ten tries lies
        within the image, the largest central part whose aspect ratio is in that range.
    """
    drawn = uniform(words).reshape(TRIES, ROW)
    for k, (area, ratio, *_) in enumerate(drawn.tolist()):
        pixels = height * width * (MIN_AREA + (1 - MIN_AREA) * area)
        root = MAX_RATIO ** (ratio - 0.5)  # of the aspect ratio
        rows, columns = round(math.sqrt(pixels) / root), round(math.sqrt(pixels) * root)
        if 0 < rows <= height and 0 < columns <= width:
            row, column = words[ROW * k + 2 : ROW * k + 4]
            top = integers_below(row, height - rows + 1)
            return Box(int(top), int(integers_below(column, width - columns + 1)), rows, columns)
    rows, columns = min(height, round(width * MAX_RATIO)), min(width, round(height * MAX_RATIO))
    return Box((height - rows) // 2, (width - columns) // 2, rows, columns)


def central_box(height: int, width: int, rows: int = 1, columns: int = 1) -> Box:
    """Return the largest central part of an image with the proportions rows : columns.

    By default, the central square.
    """
    high = max(1, min(height, width * rows // columns))
    wide = max(1, min(width, height * columns // rows))
    return Box((height - high) // 2, (width - wide) // 2, high, wide)


def evaluation_size(size: int) -> int:
    """Return the rows and columns to which images are scaled before a crop to size x size.

    The result is 8/7 of size, as 256 for 224 (Krizhevsky et al., "ImageNet classification with deep
    convolutional neural networks", NIPS 2012).
    """
    return round(size * 8 / 7)

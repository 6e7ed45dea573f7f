"""Random parts of images: their distribution, and equality with a specification in Python."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.data import evaluation_size
from minise.data.crops import CROP_WORDS, TRIES, Box, central_box, random_box
from minise.data.streams import rows, stream

SIDES = st.integers(1, 600)


def drawn(seed=0, count=4000):
    return rows(stream(seed, 0, "resized crop"), 0, count, CROP_WORDS)


def specified(height, width, words):
    """Return the part that the definition gives, in plain Python."""
    for k in range(TRIES):
        area, ratio, row, column = (int(word) for word in words[4 * k : 4 * k + 4])
        area = (0.08 + 0.92 * (area >> 11) / 2**53) * height * width
        ratio = math.exp((2 * (ratio >> 11) / 2**53 - 1) * math.log(4 / 3))
        h, w = round(math.sqrt(area / ratio)), round(math.sqrt(area * ratio))
        if 1 <= h <= height and 1 <= w <= width:
            top, left = (row >> 32) * (height - h + 1) >> 32, (column >> 32) * (width - w + 1) >> 32
            return (top, left, h, w)
    h, w = height, width
    if width / height > 4 / 3:
        w = round(height * 4 / 3)
    elif width / height < 3 / 4:
        h = round(width * 4 / 3)
    return ((height - h) // 2, (width - w) // 2, h, w)


@given(SIDES, SIDES, st.integers(0, 2**32))
def test_the_definition(height, width, seed):
    for words in drawn(seed, 5):
        box = random_box(height, width, words)
        assert box == specified(height, width, words)
        assert 0 <= box.top <= height - box.height < height
        assert 0 <= box.left <= width - box.width < width


def test_areas_and_ratios_of_a_square():
    """In a square of 10,000 rows, rounding to pixels does not matter.

    Areas up to 3/4 fit with every ratio, at the first try; the tolerances are four standard errors.
    """
    side = 10_000
    boxes = np.array([random_box(side, side, words) for words in drawn()])
    areas, ratios = boxes[:, 2] * boxes[:, 3] / side**2, boxes[:, 3] / boxes[:, 2]
    assert 0.08 <= areas.min() < 0.09
    assert 0.95 < areas.max() <= 1.0001
    small = areas < 0.75
    for values, low, high in (
        (areas[small], 0.08, 0.75),
        (np.log(ratios[small]), math.log(3 / 4), math.log(4 / 3)),
    ):
        shares = np.histogram(values, bins=10, range=(low, high))[0] / len(values)
        np.testing.assert_allclose(shares, 0.1, atol=4 * math.sqrt(0.09 / len(values)))
    np.testing.assert_allclose((ratios.min(), ratios.max()), (3 / 4, 4 / 3), rtol=1e-2)


def test_positions_reach_every_border():
    """Of a side of 20, parts touch each border, and the corners are as probable as the rest."""
    boxes = np.array([random_box(20, 20, words) for words in drawn()])
    assert (boxes[:, :2].min(axis=0) == 0).all()
    assert ((boxes[:, :2] + boxes[:, 2:]).max(axis=0) == 20).all()
    fixed = boxes[(boxes[:, 2] == 10)]
    counts = np.bincount(fixed[:, 0], minlength=11)
    assert len(counts) == 11
    expected, error = len(fixed) / 11, math.sqrt(len(fixed) * 10 / 121)
    assert (abs(counts - expected) < 4 * error).all()


@pytest.mark.parametrize(
    ("height", "width", "box"),
    [
        (1, 1, (0, 0, 1, 1)),
        (3, 500, (0, 248, 3, 4)),
        (500, 3, (248, 0, 4, 3)),
        (1, 7, (0, 3, 1, 1)),
        (2, 7, (0, 2, 2, 3)),
    ],
)
def test_images_into_which_no_try_fits(height, width, box):
    """All words are 2**64 - 1: each try draws the whole area, with a ratio of 4/3."""
    words = np.full(CROP_WORDS, 2**64 - 1, np.uint64)
    assert random_box(height, width, words) == box


def test_the_first_try_that_fits_counts():
    words = np.full(CROP_WORDS, 2**64 - 1, np.uint64)
    words[12:16] = (0, 2**63, 0, 2**63)  # the fourth: 8 % of the area, a square
    assert random_box(100, 100, words) == Box(0, 36, 28, 28)


@pytest.mark.parametrize(
    ("arguments", "box"),
    [
        ((5, 9), (0, 2, 5, 5)),
        ((9, 4), (2, 0, 4, 4)),
        ((1, 1), (0, 0, 1, 1)),
        ((40, 60, 20, 20), (0, 10, 40, 40)),
        ((40, 60, 20, 30), (0, 0, 40, 60)),
        ((40, 60, 10, 30), (10, 0, 20, 60)),
        ((1, 60, 1, 100), (0, 0, 1, 60)),
        ((2, 500, 300, 1), (0, 249, 2, 1)),
    ],
)
def test_central_boxes(arguments, box):
    assert central_box(*arguments) == box


def test_evaluation_sizes():
    assert [evaluation_size(size) for size in (224, 64, 32, 7, 1)] == [256, 73, 37, 8, 1]

"""Augmentation, compared with a loop over images and pixels."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minise.data import Augment, LazyImages
from minise.data.crops import CROP_WORDS, random_box
from minise.data.streams import rows, stream

few = settings(max_examples=40)
SIZES = st.tuples(st.integers(1, 6), st.integers(4, 9), st.integers(4, 9))
FILLS = st.tuples(*[st.integers(0, 255)] * 3)


def high(word, bound):
    return (int(word) >> 32) * bound >> 32


def augmented(image, words, augment):
    """Augment one image in plain Python, pixel by pixel."""
    _, H, W = image.shape
    c, side = augment.crop, augment.cutout
    top, left = high(words[0], 2 * c + 1) - c, high(words[1], 2 * c + 1) - c
    flip = augment.flip and int(words[2]) >> 63
    row, column = high(words[3], H), high(int(words[3]) << 32 & (2**64 - 1), W)
    out = np.empty_like(image)
    for i in range(H):
        for j in range(W):
            y, x = i + top, (W - 1 - j if flip else j) + left
            inside = 0 <= y < H and 0 <= x < W
            cut = 0 <= i - row + side // 2 < side and 0 <= j - column + side // 2 < side
            out[:, i, j] = image[:, y, x] if inside and not cut else augment.fill
    return out


@few
@given(SIZES, st.integers(0, 4), st.booleans(), st.integers(0, 4), FILLS, st.integers(0, 2**32))
def test_against_a_loop(size, crop, flip, cutout, fill, seed):
    N, H, W = size
    images = np.random.default_rng(seed).integers(0, 256, (N, 3, H, W), np.uint8)
    before = images.copy()
    words = rows(stream(seed, 0, "augment"), 0, N)
    augment = Augment(crop, flip, cutout, fill)
    out = augment(images, words)
    expected = np.stack([augmented(*pair, augment) for pair in zip(images, words, strict=True)])
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(images, before)
    assert not np.shares_memory(out, images)
    assert out.flags.c_contiguous


def test_every_crop_and_flip_occurs():
    image = np.arange(25, dtype=np.uint8).reshape(1, 1, 5, 5).repeat(3, axis=1)
    images = image.repeat(2000, axis=0)
    out = Augment(crop=1)(images, rows(stream(0, 0, "augment"), 0, 2000))
    kinds, counts = np.unique(out.reshape(2000, -1), axis=0, return_counts=True)
    assert len(kinds) == 3 * 3 * 2
    # 2000 / 18 = 111 each, standard deviation 10: five of them either way
    assert counts.min() > 60
    assert counts.max() < 162


def test_no_augmentation():
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    words = rows(stream(0, 0, "augment"), 0, 2)
    np.testing.assert_array_equal(Augment(crop=0, flip=False)(images, words), images)


def test_cutout_covers_its_square():
    """Inside the image, a square of 4 x 4 is blanked; at a corner, a quarter of it."""
    images = np.full((2, 3, 32, 32), 255, np.uint8)
    middle, corner = (16 << 59) + (16 << 27), 0  # 16 of 32 rows: half of the word's upper half
    words = np.array([[0, 0, 0, middle], [0, 0, 0, corner]], np.uint64)
    out = Augment(crop=0, flip=False, cutout=4)(images, words)
    expected = images.copy()
    expected[0, :, 14:18, 14:18] = 0
    expected[1, :, :2, :2] = 0
    np.testing.assert_array_equal(out, expected)


def test_a_resized_crop_is_pillows_crop_and_resize():
    """Then flip and cutout as without it, by the same words; images of 5 x 9 and of one pixel."""
    Image = pytest.importorskip("PIL.Image")
    for size in ((40, 60), (5, 9), (1, 1)):
        images = np.random.default_rng(0).integers(0, 256, (6, 3, *size), np.uint8)
        before = images.copy()
        augment = Augment(resized_crop=True, cutout=min(size) // 2)
        words = augment.draw(3, 1, 50)(np.arange(7, 13))
        table = rows(stream(3, 1, "resized crop"), 0, 50, CROP_WORDS)
        crops = np.empty_like(images)
        for k, image in enumerate(images):
            top, left, height, width = random_box(*size, table[7 + k])
            part = image[:, top : top + height, left : left + width].transpose(1, 2, 0).copy()
            part = Image.fromarray(part).resize(size[::-1], Image.Resampling.LANCZOS)
            crops[k] = np.asarray(part).transpose(2, 0, 1)
        others = rows(stream(3, 1, "augment"), 7, 6)
        expected = Augment(crop=0, cutout=augment.cutout)(crops, others)
        np.testing.assert_array_equal(augment(images, words), expected)
        np.testing.assert_array_equal(images, before)
        lazy = LazyImages(lambda i, images=images: images[i], 6, *size)
        np.testing.assert_array_equal(augment(lazy, words), expected)


def test_a_resized_crop_changes_no_word_of_the_others():
    which = np.array([5, 0, 5])
    plain, resized = (Augment(resized_crop=on).draw(1, 2, 9)(which) for on in (False, True))
    np.testing.assert_array_equal(plain, rows(stream(1, 2, "augment"), 0, 9)[which])
    np.testing.assert_array_equal(resized[:, :4], plain)
    assert resized.shape == (3, 44)


def test_texts_by_which_runs_are_compared():
    assert repr(Augment()) == "Augment(crop=4, flip=True, cutout=0, fill=(0, 0, 0))"
    text = "Augment(crop=4, flip=True, cutout=0, fill=(0, 0, 0), resized_crop=True)"
    assert repr(Augment(resized_crop=True)) == text


def test_a_resized_crop_needs_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match="needs Pillow: pip install"):
        Augment(resized_crop=True).check((2, 3, 4, 4))
    Augment().check((2, 3, 4, 4))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(crop=2, resized_crop=True), "crop is 2 and resized_crop is True, expected one of"),
        (dict(crop=-1), "crop is -1, expected at least 0"),
        (dict(cutout=-2), "cutout is -2, expected at least 0"),
        (dict(fill=(0, 0)), r"fill is \(0, 0\), expected three numbers"),
        (dict(fill=(0, 0, 256)), r"fill is .*, expected three integers in 0\.\.255"),
        (dict(fill=(0.49, 0.48, 0.45)), r"fill is .*: scale means in 0\.\.1 by 255"),
    ],
)
def test_settings(settings, message):
    with pytest.raises(ValueError, match=f"Augment: {message}"):
        Augment(**settings)


def test_calls():
    images, words = np.zeros((2, 3, 4, 6), np.uint8), np.zeros((2, 4), np.uint64)
    with pytest.raises(ValueError, match="crop is 5, expected at most 4: the images are 4 x 6"):
        Augment(crop=5)(images, words)
    with pytest.raises(ValueError, match="cutout is 5, expected at most"):
        Augment(cutout=5)(images, words)
    with pytest.raises(ValueError, match=r"words has shape \(1, 4\), expected \(2, 4\)"):
        Augment()(images, words[:1])
    with pytest.raises(ValueError, match=r"words has shape \(2, 4\), expected \(2, 44\): .*draw"):
        Augment(resized_crop=True)(images, words)

"""Dataset: checks, take, and hold_out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.data import Dataset, hold_out, shapes10

IMAGES = np.arange(6 * 3 * 4 * 5, dtype=np.uint16).astype(np.uint8).reshape(6, 3, 4, 5)
LABELS = np.array([0, 1, 2, 0, 1, 2], np.uint8)
CLASSES = ("a", "b", "c")


def dataset(images=IMAGES, labels=LABELS, classes=CLASSES):
    return Dataset("six", images, labels, classes)


def test_length_and_repr():
    assert len(dataset()) == 6
    assert repr(dataset()) == "<Dataset six: 6 images of 4 x 5, 3 classes>"


@given(st.lists(st.integers(-6, 5), min_size=1))
def test_take_indices(which):
    part = dataset().take(which)
    np.testing.assert_array_equal(part.images, np.stack([IMAGES[i] for i in which]))
    np.testing.assert_array_equal(part.labels, [LABELS[i] for i in which])
    assert (part.name, part.classes) == ("six", CLASSES)


def test_take_slice_shares_and_mask_copies():
    assert np.shares_memory(dataset().take(slice(2, 4)).images, IMAGES)
    part = dataset().take(LABELS == 1)
    assert not np.shares_memory(part.images, IMAGES)
    np.testing.assert_array_equal(part.images, IMAGES[[1, 4]])


def test_take_keeps_masks_and_boxes():
    shapes = shapes10(n=20)
    part = shapes.take([7, 3])
    np.testing.assert_array_equal(part.masks, shapes.masks[[7, 3]])
    np.testing.assert_array_equal(part.boxes, shapes.boxes[[7, 3]])


@given(st.integers(1, 5))
def test_hold_out_is_the_end(count):
    train, validation = hold_out(dataset(), count)
    assert len(validation) == count
    np.testing.assert_array_equal(np.concatenate([train.images, validation.images]), IMAGES)
    np.testing.assert_array_equal(validation.labels, LABELS[6 - count :])


@pytest.mark.parametrize(("count", "expected"), [(0, "at least 1"), (6, "at most 5: leave some")])
def test_hold_out_leaves_both_sides_something(count, expected):
    with pytest.raises(ValueError, match=f"hold_out: count is {count}, expected {expected}"):
        hold_out(dataset(), count)


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        (dict(images=IMAGES.astype(float)), TypeError, "images is float64, expected an array of u"),
        (dict(images=None), TypeError, "images is NoneType, expected an array of uint8"),
        (dict(images=IMAGES[0]), ValueError, r"images has shape \(3, 4, 5\), expected \(N, 3, H"),
        (dict(images=IMAGES.transpose(0, 2, 3, 1)), ValueError, r"shape \(6, 4, 5, 3\), expected"),
        (dict(images=IMAGES[:0]), ValueError, r"shape \(0, 3, 4, 5\), .* no axis empty"),
        (dict(labels=LABELS[:, None]), ValueError, r"labels has shape \(6, 1\), expected \(N,\)"),
        (dict(labels=LABELS.astype(int)), TypeError, "labels is int64, expected an array of uint8"),
        (dict(labels=LABELS[:4]), ValueError, "4 labels for 6 images: pass one per image"),
        (dict(classes=("a", "b")), ValueError, r"label 2 has no name, expected .* with 2 classes"),
    ],
)
def test_messages(changed, error, message):
    with pytest.raises(error, match=f"Dataset: .*{message}"):
        dataset(**changed)


def test_nothing_left():
    with pytest.raises(
        ValueError, match="take: which selects 0 of 6 images, expected at least one"
    ):
        dataset().take(slice(6, None))

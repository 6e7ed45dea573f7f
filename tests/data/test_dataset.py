"""Dataset: checks, take, and hold_out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.data import Dataset, DataWarning, hold_out, shapes10

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
        (dict(images=None), TypeError, "images is NoneType, expected an array of uint8"),
        (dict(images=IMAGES[0]), ValueError, r"images has shape \(3, 4, 5\), expected \(N, 3, H"),
        (dict(images=IMAGES.transpose(0, 2, 3, 1)), ValueError, r"shape \(6, 4, 5, 3\), expected"),
        (dict(images=IMAGES[:0]), ValueError, r"shape \(0, 3, 4, 5\), .* no axis empty"),
        (dict(labels=LABELS[:, None]), ValueError, r"labels has shape \(6, 1\), expected \(N,\)"),
        (dict(labels=LABELS.tolist()), TypeError, "labels is list, expected an array of integers"),
        (dict(labels=LABELS[:4]), ValueError, "4 labels for 6 images: pass one per image"),
        (dict(classes=("a", "b")), ValueError, r"label 2 has no name, expected .* with 2 classes"),
    ],
)
def test_messages(changed, error, message):
    with pytest.raises(error, match=f"Dataset: .*{message}"):
        dataset(**changed)


@pytest.mark.parametrize("which", [slice(6, None), [], (), np.zeros(6, bool), np.array([], int)])
def test_an_empty_selection_is_refused(which):
    with pytest.raises(
        ValueError, match="take: which selects 0 of 6 images, expected at least one"
    ):
        dataset().take(which)


@pytest.mark.parametrize(
    ("which", "error", "message"),
    [
        (3, TypeError, r"int64 of shape \(\), expected a slice, .*: pass \[i\] for one image"),
        ([0.5], TypeError, "which is float64"),
        ([[0, 1]], TypeError, r"int64 of shape \(1, 2\)"),
        (["a"], TypeError, "which is <U1"),
        ([0, 6], IndexError, r"which has index 6, expected -6\.\.5: the data set has 6 images"),
        ([-7], IndexError, "which has index -7"),
        ([True] * 5, ValueError, "which is a mask of 5 entries, expected 6"),
    ],
)
def test_selections_that_take_refuses(which, error, message):
    with pytest.raises(error, match=f"^take: which .*{message}|^take: {message}"):
        dataset().take(which)


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int64, np.uint64])
def test_more_than_256_classes(dtype):
    labels = np.array([0, 120, 1, 127, 2, 3], dtype)
    if dtype != np.uint8:
        labels[1] = 999
    many = dataset(labels=labels, classes=tuple(map(str, range(1000))))
    assert many.labels is labels
    assert many.take([1]).labels.tolist() == [labels[1]]
    assert repr(many).endswith("1000 classes>")


# Labels of other class names


def test_labels_are_renumbered_by_name():
    part = dataset().with_classes(("c", "b", "a"))
    assert part.classes == ("c", "b", "a")
    assert part.labels.tolist() == [2, 1, 0, 2, 1, 0]
    assert part.images is IMAGES
    assert dataset().with_classes(list(CLASSES)).labels is LABELS


def test_classes_without_images_are_reported_in_one_line():
    with pytest.warns(DataWarning, match=r"^six has no images of 1 of 4 classes: 'd'$"):
        assert dataset().with_classes("abcd").labels.tolist() == LABELS.tolist()
    some = dataset().take(LABELS != 1)  # a class without images may be unknown
    assert some.with_classes(("a", "c")).labels.tolist() == [0, 1, 0, 1]


def test_unknown_classes_are_refused_by_name():
    refused = r"^with_classes: six has images of 'b', 'c', expected only the classes of .* \('a'"
    with pytest.raises(ValueError, match=rf"{refused}, 'B'\): did you mean B\?"):
        dataset().with_classes(("a", "B"))
    with pytest.raises(ValueError, match="classes has a name twice"):
        dataset().with_classes(("a", "b", "c", "a"))
    for twice in ("a", "caf\u00e9", "cafe\u0301"):
        names = (twice, "b", "caf\u00e9" if twice[1:] else "a")
        with pytest.raises(ValueError, match=r"with_classes: six has two classes named '"):
            dataset(classes=names).with_classes(("b", "a", "caf\u00e9"))
    with pytest.raises(ValueError, match="six has images of") as caught:
        dataset(classes=("a", "rose\x1b", "c")).with_classes(("a", "c", "roses\x1b"))
    assert str(caught.value).isprintable()
    spaced = dataset(classes=("a", "b ", "c"))
    with pytest.raises(ValueError, match=r"has images of 'b ', .*'b'.*: did you mean b\?"):
        spaced.with_classes(CLASSES)


def test_names_are_equal_in_every_unicode_normal_form():
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    assert composed != decomposed
    part = dataset(classes=("a", decomposed, "c")).with_classes(("a", composed, "c"))
    assert part.classes[1] == composed
    assert part.labels.tolist() == LABELS.tolist()


def test_many_names_are_shortened():
    many = dataset(classes=tuple(f"k{n}" for n in range(30)))
    with pytest.raises(ValueError, match=r"\('x0', .* 'x9' and 10 more\)"):
        many.with_classes([f"x{n}" for n in range(20)])

"""Messages about images and labels have their values and the correct conversion."""

import numpy as np
import pytest

from minise.data import Dataset, DataWarning

RNG = np.random.default_rng(0)
SHAPE = (4, 3, 5, 6)
BYTES = RNG.integers(0, 256, SHAPE).astype(np.uint8)
BYTES[0, 0, 0, :2] = 0, 255  # the whole range
LABELS = np.array([0, 1, 2, 1])
CLASSES = ("a", "b", "c")

# BYTES in other dtypes and ranges, and the fix that converts them back
IMAGES = {
    "0..1": (BYTES / 255, "np.rint(255 * images).astype(np.uint8)"),
    "float32 in 0..1": ((BYTES / 255).astype(np.float32), "np.rint(255 * images).astype(np.uint8)"),
    "0..255 as floats": (BYTES.astype(float), "np.rint(images).astype(np.uint8)"),
    "0..255 as integers": (BYTES.astype(np.int64), "images.astype(np.uint8)"),
    "-1..1": (BYTES / 127.5 - 1, "np.rint(127.5 * (images + 1)).astype(np.uint8)"),
    "-128..127": (
        (BYTES.astype(np.int16) - 128).astype(np.int8),
        "(images.astype(np.int16) + 128).astype(np.uint8)",
    ),
    "16 bits": (BYTES.astype(np.uint16) * 257, "np.rint(images / 257).astype(np.uint8)"),
}


@pytest.mark.parametrize("name", IMAGES)
def test_the_fix_restores_the_bytes(name):
    images, fix = IMAGES[name]
    with pytest.raises(TypeError) as caught:
        Dataset("x", images, LABELS, CLASSES)
    message = str(caught.value)
    assert message.startswith(
        f"Dataset: images is {images.dtype} with values {images.min():.6g} to"
    )
    assert f"expected an array of uint8, 0..255: pass {fix}" in message
    np.testing.assert_array_equal(eval(fix, {"np": np, "images": images}), BYTES)


def test_images_that_astype_has_made_black_are_said():
    with pytest.warns(DataWarning, match=r"every value of images is 0 or 1, .* pass np.rint\(255"):
        Dataset("x", (BYTES / 255).astype(np.uint8), LABELS, CLASSES)
    Dataset("x", np.zeros_like(BYTES), LABELS, CLASSES)  # black in every unit


class CountingReads(np.ndarray):
    """An array that counts the images that are selected from it, as np.memmap would read them."""

    count = 0

    def __getitem__(self, key):
        selected = np.asarray(self)[key]
        CountingReads.count += len(selected)
        return selected


def test_images_on_disk_are_not_all_read():
    images = np.full((1001, 3, 2, 2), 9, np.uint8).view(CountingReads)
    Dataset("x", images, np.zeros(1001, int), CLASSES)
    assert 0 < CountingReads.count <= 100


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (BYTES > 99, TypeError, r"images is bool, .*: pass 255 \* images.astype\(np.uint8\)"),
        (BYTES.astype(int) % 2, TypeError, r"0 to 1, .*: pass \(255 \* images\).* if 1 is white"),
        (RNG.standard_normal(SHAPE) * 4, TypeError, r"undo the normalisation \(images \* std"),
        (np.full(SHAPE, np.nan), TypeError, "images is float64 with NaN or infinity"),
        (np.full(SHAPE, "a"), TypeError, "images is <U1, .*: convert the images to numbers"),
        (BYTES.tolist(), TypeError, r"images is list, .*: pass np.asarray\(images\)"),
        (BYTES.transpose(0, 2, 3, 1), ValueError, r": pass images.transpose\(0, 3, 1, 2\)"),
        (BYTES[:, :1], ValueError, r": pass images.repeat\(3, axis=1\) for grey images"),
        (BYTES[:, 0], ValueError, r"or images\[:, None\].repeat\(3, axis=1\) for grey ones"),
        (BYTES[..., :0], ValueError, r"shape \(4, 3, 5, 0\), .* no axis empty"),
    ],
)
def test_images(images, error, message):
    with pytest.raises(error, match=f"^Dataset: .*{message}"):
        Dataset("x", images, LABELS, CLASSES)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (LABELS.astype(float), TypeError, r"labels is float64, .*: pass labels.astype\(np.int64\)"),
        (LABELS + 0.5, TypeError, "labels is float64, .*: some of these are no integers"),
        (np.array([0, np.nan, 1, 2]), TypeError, "some of these are no integers"),
        (np.eye(3)[LABELS], ValueError, r"shape \(4, 3\), .*: .* pass labels.argmax\(axis=1\)"),
        (np.eye(3, dtype=int)[LABELS], ValueError, r"pass labels.argmax\(axis=1\)"),
        (np.array(["b", "a", "c", "a"]), TypeError, r"labels is <U1, .*np.unique\(labels, return"),
        (np.array(["b", 1, 2, 3], object), TypeError, "labels is object"),
        (LABELS == 1, TypeError, r"labels is bool, .*: pass labels.astype\(np.int64\)"),
        (np.array([0, -1, 2, 1]), ValueError, r"label -1 is negative, expected 0\.\.2 with 3"),
        (
            LABELS + 1,
            ValueError,
            "label 3 has no name, .*: the labels count from 1, so pass labels",
        ),
        (np.array([0, 300, 1, 2]), ValueError, "label 300 has no name, .*: name more classes"),
        (LABELS.tolist(), TypeError, r"labels is list, .*: pass np.asarray\(labels\)"),
        (LABELS[:3], ValueError, "3 labels for 4 images: pass one per image"),
        (LABELS[:, None], ValueError, r"shape \(4, 1\), .*: pass labels.ravel\(\)"),
    ],
)
def test_labels(labels, error, message):
    with pytest.raises(error, match=f"^Dataset: .*{message}"):
        Dataset("x", BYTES, labels, CLASSES)

"""Larger images for evaluation, and their crops, by hand and by Pillow."""

from pathlib import Path

import numpy as np
import pytest

from minise.data import CentreCrop, Dataset, LazyImages, enlarged, load, ten_crops

Image = pytest.importorskip("PIL.Image")
NUMBERS = np.arange(2 * 3 * 4 * 5, dtype=np.uint8).reshape(2, 3, 4, 5)


def scaled(pixels, size):
    """Scale an image of shape (H, W, 3) to rows and columns."""
    image = Image.fromarray(pixels).resize(size[::-1], Image.Resampling.LANCZOS)
    return np.asarray(image).transpose(2, 0, 1)


@pytest.fixture
def folder(tmp_path):
    """Write two classes of images of different sizes, and return their pixels by path."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for k, size in enumerate(((40, 61), (55, 30), (14, 14), (1, 1))):
            path = tmp_path / split / "ab"[k % 2] / f"{k}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 256, (*size, 3), np.uint8)).save(path)
    return tmp_path


def test_the_centre():
    centre = CentreCrop(2, 3)(NUMBERS)
    np.testing.assert_array_equal(centre, NUMBERS[:, :, 1:3, 1:4])
    np.testing.assert_array_equal(CentreCrop(4, 5)(NUMBERS), NUMBERS)
    with pytest.raises(ValueError, match=r"CentreCrop: size is 5 x 5 and .* \(2, 3, 4, 5\), exp"):
        CentreCrop(5, 5)(NUMBERS)


def test_ten_crops_by_hand():
    image = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]])[None, None]
    crops = [crop[0, 0].tolist() for crop in ten_crops(image, 2, 2)]
    corners = [[1, 2], [4, 5]], [[2, 3], [5, 6]], [[4, 5], [7, 8]], [[5, 6], [8, 9]]
    centre = [[1, 2], [4, 5]]  # one row and one column are left over, at the end
    assert crops[:5] == [*corners, centre]
    assert crops[5:] == [[row[::-1] for row in crop] for crop in crops[:5]]
    for crop in ten_crops(NUMBERS, 2, 3):
        assert crop.shape == (2, 3, 2, 3)
        assert crop.flags.c_contiguous
        assert not np.shares_memory(crop, NUMBERS)


@pytest.mark.parametrize("size", [(5, 5), (4, 6)])
def test_crops_larger_than_the_images_are_refused(size):
    with pytest.raises(ValueError, match=r"ten_crops: size is .*: load larger images, .*enlarged"):
        list(ten_crops(NUMBERS, *size))
    with pytest.raises(ValueError, match="size .rows. is 0, expected at least 1"):
        list(ten_crops(NUMBERS, 0, 1))


@pytest.mark.parametrize("lazy", [False, True])
def test_a_folder_is_read_again_at_8_7_of_its_size(folder, monkeypatch, lazy):
    """Equal to Pillow's resize of the central square, in memory and decoded on use."""
    monkeypatch.setattr("minise.data.folder.IN_MEMORY_BYTES", 0 if lazy else 2**20)
    dataset = load(folder, "train", size=14, lazy=True).take([2, 0, 3, 1])
    larger = enlarged(dataset)
    assert isinstance(dataset.images, LazyImages)
    assert isinstance(larger.images, LazyImages) == lazy
    assert larger.images.shape == (4, 3, 16, 16)
    np.testing.assert_array_equal(larger.labels, dataset.labels)
    for image, path in zip(larger.images, files_of(dataset), strict=True):
        pixels = np.asarray(Image.open(path))
        side = min(pixels.shape[:2])
        top, left = ((length - side) // 2 for length in pixels.shape[:2])
        square = np.ascontiguousarray(pixels[top : top + side, left : left + side])
        np.testing.assert_array_equal(image, scaled(square, (16, 16)))


def files_of(dataset):
    root = Path(dataset.name) / "train"
    names = next(dataset.images.identity()).decode().split("\n")
    return [root / name.partition("\0")[0] for name in names]


def test_images_in_memory_are_scaled():
    images = np.random.default_rng(0).integers(0, 256, (3, 3, 14, 28), np.uint8)
    dataset = Dataset("three", images, np.arange(3), ("a", "b", "c"))
    larger = enlarged(dataset).images
    assert larger.shape == (3, 3, 16, 32)
    for image, expected in zip(larger, images, strict=True):
        np.testing.assert_array_equal(image, scaled(expected.transpose(1, 2, 0).copy(), (16, 32)))
    in_parts = LazyImages(lambda i: images[i], 3, 14, 28)
    lazy = enlarged(Dataset("three", in_parts, np.arange(3), ("a", "b", "c")))
    np.testing.assert_array_equal(lazy.images, larger)

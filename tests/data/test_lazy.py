"""LazyImages: equal to an array under every index, decoded on use, and within memory."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.data import Batches, Dataset, LazyImages, hold_out, moments
from minise.data.batches import MAX_MOMENTS_IMAGES
from minise.data.crops import Box

N, H, W = 12, 4, 5
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 3, H, W), np.uint8)


class Reader:
    """A read function for LazyImages that records its calls."""

    def __init__(self, pixels=PIXELS):
        self.pixels, self.calls = pixels, []

    def __call__(self, i):
        self.calls.append(i)
        return self.pixels[i]


def lazy(read=None, cache_bytes=0, count=N):
    return LazyImages(read or Reader(), count, H, W, cache_bytes=cache_bytes)


def test_attributes_and_conversion_are_an_arrays():
    images = lazy()
    assert (images.shape, images.ndim, images.dtype) == (PIXELS.shape, 4, np.uint8)
    assert (len(images), images.nbytes) == (N, PIXELS.nbytes)
    assert repr(images) == "<LazyImages of shape (12, 3, 4, 5), uint8>"
    np.testing.assert_array_equal(np.asarray(images), PIXELS)
    assert np.asarray(images, np.float32).dtype == np.float32
    np.testing.assert_array_equal(np.stack(list(images)), PIXELS)
    with pytest.raises(ValueError, match="copy is False"):
        np.asarray(images, copy=False)


INDICES = {
    "an integer": 3,
    "one from the end": -1,
    "a slice": slice(2, 9, 3),
    "backwards": slice(None, None, -1),
    "nothing": slice(5, 5),
    "a list": [5, 1, 5, -2],
    "an array": np.array([[0, 1], [11, 3]]),
    "a mask": np.arange(N) % 3 == 1,
    "all": Ellipsis,
    "a new axis": None,
    "a channel": (slice(0, 5), 1),
    "a pixel": (2, 0, 3, -1),
    "windows": ([4, 2], slice(None), slice(1, 3), slice(None, None, 2)),
    "an array's channel": (np.array([[0, 1], [11, 3]]), 2),
    "a channel by NumPy's integer": (slice(0, 5), np.int64(1)),
    "no index": (),
    "true": True,
    "ellipsis first": (Ellipsis, 0),
    "ellipsis last": ([1, 3], Ellipsis, 0),
    "arrays in two places": ([0, 1], [2, 1]),
    "a list and a channel of a list": (slice(1, 4), [0, 2]),
}


@pytest.mark.parametrize("name", INDICES)
@pytest.mark.parametrize("cache_bytes", [0, 5 * 3 * H * W, 10**6])
def test_every_index_gives_what_an_array_gives(name, cache_bytes):
    images, key = lazy(cache_bytes=cache_bytes), INDICES[name]
    for _ in range(2):  # the second time from the cache
        np.testing.assert_array_equal(images[key], PIXELS[key], strict=True)


@pytest.mark.parametrize("key", [N, -N - 1, [0, N], np.ones(N + 1, bool), "a", 0.5])
def test_wrong_indices_are_index_errors(key):
    with pytest.raises(IndexError):
        lazy()[key]


@given(st.lists(st.lists(st.integers(-N, N - 1)), max_size=4), st.integers(0, N + 2))
def test_views_of_views_are_correct_with_any_cache(selections, capacity):
    images, expected = lazy(cache_bytes=capacity * 3 * H * W), PIXELS
    for which in selections:
        which = [k for k in which if -len(expected) <= k < len(expected)]
        images, expected = images.view(np.array(which, int)), expected[np.array(which, int)]
        np.testing.assert_array_equal(images[:], expected)


def test_only_indexed_images_are_read():
    read = Reader()
    images = lazy(read, 4 * 3 * H * W)  # a cache of four images
    _ = images[9:, np.int64(1)]
    assert read.calls == [9, 10, 11]
    read.calls.clear()
    part = images.view(slice(2, 8))
    assert read.calls == []
    _ = part[[0, 3]], part[[0, 3]], images[2]
    assert read.calls == [2, 5, 5]


@pytest.mark.parametrize("image", [PIXELS[0, :1], PIXELS[0].astype(float), PIXELS[0].transpose()])
def test_a_reader_of_other_shapes_is_refused(image):
    with pytest.raises(ValueError, match=r"^LazyImages: read\(3\) returns .*, expected uint8"):
        lazy(lambda i: image)[3]
    with pytest.raises(ValueError, match="count is 0, expected at least 1"):
        lazy(count=0)


def test_a_data_set_decodes_nothing_before_its_batches():
    read = Reader()
    dataset = Dataset("twelve", lazy(read), np.arange(N) % 3, ("a", "b", "c"))
    train, val = hold_out(dataset.take(np.arange(N)[::-1]), 4)
    assert isinstance(val.images, LazyImages)
    assert read.calls == []
    np.testing.assert_array_equal(val.images[:], PIXELS[3::-1])
    settings = dict(mean=(0.5,) * 3, std=(0.25,) * 3, seed=3)
    in_memory = Dataset("twelve", np.asarray(train.images), train.labels, train.classes)
    for ours, theirs in zip(
        Batches(train, 3, **settings).epoch(1),
        Batches(in_memory, 3, **settings).epoch(1),
        strict=True,
    ):
        np.testing.assert_array_equal(ours.images, theirs.images)
        np.testing.assert_array_equal(ours.labels, theirs.labels)


def test_batches_are_decoded_ahead_by_a_thread():
    dataset = Dataset("twelve", lazy(), np.zeros(N, int), ("a",))
    settings = dict(mean=(0.5,) * 3, std=(0.25,) * 3)
    assert Batches(dataset, 3, **settings).prefetch == 2
    assert Batches(dataset, 3, prefetch=0, **settings).prefetch == 0
    in_memory = Dataset("twelve", PIXELS, np.zeros(N, int), ("a",))
    assert Batches(in_memory, 3, **settings).prefetch == 0


def test_moments_of_few_images_are_exact():
    dataset = Dataset("twelve", lazy(), np.zeros(N, int), ("a",))
    in_memory = Dataset("twelve", PIXELS, np.zeros(N, int), ("a",))
    assert moments(dataset) == moments(in_memory)


def test_moments_of_many_images_are_of_a_sample_by_seed():
    count = MAX_MOMENTS_IMAGES + 500
    pixels = np.random.default_rng(1).integers(0, 256, (count, 3, 1, 1), np.uint8)
    read = Reader(pixels)
    images = LazyImages(read, count, 1, 1)
    dataset = Dataset("many", images, np.zeros(count, int), ("a",))
    mean, std = moments(dataset, seed=1)
    drawn = pixels[read.calls] / 255
    assert len(set(read.calls)) == len(read.calls) == MAX_MOMENTS_IMAGES
    assert sum(k >= MAX_MOMENTS_IMAGES for k in read.calls) > 300  # 400 on average
    np.testing.assert_allclose(mean, drawn.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, drawn.std(axis=(0, 2, 3)), rtol=1e-9)
    assert moments(dataset, seed=1) == (mean, std) != moments(dataset, seed=2)


class Files(Reader):
    """A read function with `part`, for files whose images are larger."""

    def part(self, i, choose, size, reduced):
        self.calls.append((i, choose(100, 200), size, reduced))
        return np.full((3, *size), i, np.uint8)

    def fingerprint(self, rows):
        return " ".join(map(str, rows))


def test_parts_are_cut_out_of_the_files():
    read = Files()
    images = lazy(read).view(slice(3, 6))
    part = images.part(1, lambda height, width: Box(0, 0, height, width), reduced=True)
    np.testing.assert_array_equal(part, np.full((3, H, W), 4))
    assert read.calls == [(4, (0, 0, 100, 200), (H, W), True)]


def test_parts_of_a_reader_without_them_are_cut_out_of_its_images():
    images = lazy().view(slice(3, 6))
    part = images.part(1, lambda height, width: Box(1, 2, height - 1, width - 2), (H - 1, W - 2))
    np.testing.assert_array_equal(part, PIXELS[4, :, 1:, 2:])


def test_resized_images_are_read_again():
    read = Files()
    images = lazy(read).view(np.array([7, 2])).resized(10, 10)
    assert images.shape == (2, 3, 10, 10)
    assert read.calls == []
    np.testing.assert_array_equal(images[:, 0, 0, 0], [7, 2])
    assert [call[1:] for call in read.calls] == [((0, 50, 100, 100), (10, 10), False)] * 2
    assert list(images.view([1]).identity()) == [b"2"]
    same = lazy().resized(H, W)
    np.testing.assert_array_equal(same, PIXELS)
    assert list(same.identity()) != list(same.view([0]).identity())

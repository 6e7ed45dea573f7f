"""Batches: the same images for any batch size, order and way of access."""

import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minise.data import Augment, Batches, Dataset, LazyImages, moments
from minise.data.prefetch import prefetched
from minise.data.streams import rows, stream

few = settings(max_examples=25)
N = 23
RNG = np.random.default_rng(0)
DATA = Dataset(
    "noise",
    RNG.integers(0, 256, (N, 3, 8, 8), np.uint8),
    np.arange(N, dtype=np.uint8),  # so that a label is the image's number
    tuple(map(str, range(N))),
)
MEAN, STD = moments(DATA)
UNITS = dict(mean=(0, 0, 0), std=(1 / 255, 1 / 255, 1 / 255))  # batches show the bytes


def batches(size=4, **settings):
    return Batches(DATA, size, **{**dict(mean=MEAN, std=STD), **settings})


def workers():
    return [t for t in threading.enumerate() if t.name == "minise-prefetch"]


@few
@given(
    size=st.integers(1, N + 2),
    seed=st.integers(0, 2**40),
    epoch=st.integers(0, 300),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    prefetch=st.integers(0, 3),
    augment=st.sampled_from([None, Augment(), Augment(crop=1, cutout=3)]),
)
def test_a_batch_alone_is_the_batch_of_its_epoch(size, drop_last, epoch, **settings):
    drop_last = drop_last and size <= N
    all_batches = batches(size, drop_last=drop_last, **settings)
    all_of_epoch = list(all_batches.epoch(epoch))
    assert len(all_of_epoch) == len(all_batches) == (N // size if drop_last else -(-N // size))
    for k, (images, labels) in enumerate(all_of_epoch):
        alone = all_batches.batch(epoch, k)
        np.testing.assert_array_equal(alone.images, images)
        np.testing.assert_array_equal(alone.labels, labels)
        assert images.dtype == np.float32
        assert images.flags.c_contiguous
        assert labels.dtype == np.int64
    seen = np.concatenate([labels for _, labels in all_of_epoch])
    np.testing.assert_array_equal(seen, all_batches.order(epoch)[: len(seen)])


@pytest.mark.parametrize("prefetch", [0, 2])
@pytest.mark.parametrize("augment", [Augment(crop=1, cutout=3), Augment(resized_crop=True)])
def test_an_epoch_from_a_later_batch_on(augment, prefetch):
    """Each start yields the same bits as the whole epoch, and decodes no image that it skips."""
    decoded = []

    def read(i):
        decoded.append(i)
        return DATA.images[i]

    lazy = Dataset("lazy", LazyImages(read, N, 8, 8, cache_bytes=0), DATA.labels, DATA.classes)
    pytest.importorskip("PIL.Image")
    settings = dict(mean=MEAN, std=STD, augment=augment, prefetch=prefetch)
    source = Batches(lazy, 4, **settings)
    expected = list(batches(augment=settings["augment"]).epoch(3))
    for start in range(len(source) + 1):
        decoded.clear()
        rest = list(source.epoch(3, start))
        assert decoded == source.order(3)[4 * start :].tolist()
        for batch, other in zip(rest, expected[start:], strict=True):
            np.testing.assert_array_equal(batch.images, other.images)
            np.testing.assert_array_equal(batch.labels, other.labels)


def test_an_epoch_has_no_batch_before_0_or_after_its_end():
    with pytest.raises(ValueError, match=r"^epoch: start is 7, expected at most 6: an epoch has"):
        batches().epoch(0, 7)
    with pytest.raises(ValueError, match=r"^epoch: start is -1, expected at least 0"):
        batches().epoch(0, start=-1)


@few
@given(st.integers(1, N), st.integers(1, N), st.booleans())
def test_an_image_does_not_depend_on_its_batch(size, other, resized_crop):
    """Only its index determines crop and flip: sorted by index, epochs are bit-identical."""
    sorted_epochs = []
    for way in (dict(size=size), dict(size=other, shuffle=False)):
        augment = Augment(resized_crop=resized_crop)
        epoch = batches(augment=augment, seed=5, **way).epoch(2)
        images, labels = (np.concatenate(part) for part in zip(*epoch, strict=True))
        sorted_epochs.append(images[np.argsort(labels)])
    np.testing.assert_array_equal(*sorted_epochs)


def test_words_of_an_image_are_its_counter():
    images, labels = batches(augment=Augment(), seed=9, **UNITS).batch(4, 1)
    for image, number in zip(images, labels, strict=True):
        words = stream(9, 4, "augment").advance(int(number)).random_raw(4)[None]
        expected = Augment()(DATA.images[[number]], words)[0]
        np.testing.assert_array_equal(np.rint(image), expected)


def test_order():
    shuffled = batches(seed=1)
    orders = [shuffled.order(epoch).tolist() for epoch in range(20)]
    assert all(sorted(order) == list(range(N)) for order in orders)
    assert len(set(map(tuple, orders))) == 20
    assert batches(seed=2).order(0).tolist() != orders[0]
    words = stream(1, 3, "order").random_raw(N)
    assert orders[3] == sorted(range(N), key=lambda i: words[i])
    assert batches(shuffle=False).order(3).tolist() == list(range(N))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normalising(dtype):
    images, labels = batches(N, shuffle=False, dtype=dtype).batch(0, 0)
    assert images.dtype == dtype
    x = DATA.images[labels].astype(np.longdouble) / 255
    mean, std = (np.array(v, np.longdouble)[:, None, None] for v in (MEAN, STD))
    # scale, shift, product with the byte and sum are each rounded once, with the magnitudes below
    # (the float64 arithmetic for scale and shift adds at most four roundings)
    bound = 8 * np.finfo(dtype).eps * ((x + mean) / std)
    assert (abs(images - (x - mean) / std) <= bound).all()
    np.testing.assert_allclose(images.mean(axis=(0, 2, 3)), 0, atol=1e-6)
    np.testing.assert_allclose(images.std(axis=(0, 2, 3)), 1, atol=1e-6)


def test_moments_by_hand():
    images = np.zeros((1, 3, 1, 5), np.uint8)
    images[0, 0, 0, 0] = 255  # mean 1/5, variance 4/25
    images[0, 1] = 51  # mean 1/5, no variance
    images[0, 2, 0, 1:] = 255  # mean 4/5, variance 4/25
    mean, std = moments(Dataset("five", images, np.zeros(1, np.uint8), ("a",)))
    assert mean == (0.2, 0.2, 0.8)
    assert std == (0.4, 0.0, 0.4)


def test_moments_over_many_parts():
    images = RNG.integers(0, 256, (2500, 3, 2, 2), np.uint8)
    images[:, 0] = 255  # the largest sums there are
    mean, std = moments(Dataset("many", images, np.zeros(2500, np.uint8), ("a",)))
    exact = images.astype(np.float64) / 255
    np.testing.assert_allclose(mean, exact.mean(axis=(0, 2, 3)), rtol=1e-12)
    np.testing.assert_allclose(std, exact.std(axis=(0, 2, 3)), rtol=1e-9, atol=1e-12)
    assert (mean[0], std[0]) == (1.0, 0.0)


def test_thread_ends_with_its_generator():
    epoch = batches(1, prefetch=2).epoch(0)
    next(epoch)
    assert len(workers()) == 1
    epoch.close()
    assert workers() == []
    assert len(list(batches(1, prefetch=2).epoch(0))) == N
    assert workers() == []
    for _ in batches(1, prefetch=2).epoch(0):  # a generator without a reference
        break
    assert workers() == []


def test_thread_works_ahead_by_depth_and_no_more():
    made, enough = [], threading.Event()

    def numbers():
        for k in range(100):
            made.append(k)
            if k == 3:
                enough.set()
            yield k

    items = prefetched(numbers(), 3)
    assert next(items) == 0
    assert enough.wait(10)  # 1, 2, 3 are ready while 0 is being used
    assert not threading.Event().wait(0.05)  # time for a fifth, if there were a free slot
    assert len(made) == 4
    items.close()
    assert len(made) == 4


def test_an_error_in_the_thread_arrives_after_the_items_before_it():
    def items():
        yield 1
        yield 2
        raise KeyError("third")

    received = []
    with pytest.raises(KeyError, match="third"):
        received.extend(prefetched(items(), 2))  # extend keeps what came before an error
    assert received == [1, 2]
    assert workers() == []


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(size=0), ValueError, "batch_size is 0, expected at least 1"),
        (dict(size=2.0), TypeError, r"batch_size is 2\.0, expected an integer"),
        (dict(seed=-1), ValueError, "seed is -1, expected at least 0"),
        (dict(prefetch=-1), ValueError, "prefetch is -1, expected"),
        (dict(mean=0.5), ValueError, r"mean is 0\.5, expected three numbers"),
        (dict(std=(1, 0, 1)), ValueError, r"std \(1, 0, 1\), expected .* std above 0"),
        (dict(mean=(0, np.nan, 0)), ValueError, "expected finite numbers"),
        (dict(mean=(125.3, 123.0, 113.9)), ValueError, r"125\.3.* expected mean in 0..1 .* by 255"),
        (dict(std=(63.0, 62.1, 66.7)), ValueError, r"std \(63.* std at most 1, .* by 255$"),
        (dict(mean=(0.5, 0.5, -0.5)), ValueError, r"expected mean in 0\.\.1 .*: pass what moments"),
        (dict(dtype=np.float16), TypeError, r"dtype is .*float16.*, expected np\.float32 or"),
        (dict(shuffle="no"), TypeError, "shuffle is 'no', expected True or False"),
        (dict(size=24, drop_last=True), ValueError, "batch_size is 24, expected at most 23"),
        (dict(augment=Augment(crop=9)), ValueError, "crop is 9, expected at most"),
    ],
)
def test_messages(settings, error, message):
    with pytest.raises(error, match=message):
        batches(**settings)


def test_batch_out_of_range():
    with pytest.raises(ValueError, match=r"batch: k is 6, expected at most 5: an epoch"):
        batches().batch(0, 6)
    with pytest.raises(ValueError, match="epoch is -1"):
        batches().order(-1)


def test_four_words_per_row():
    assert rows(stream(0, 0, "augment"), 0, N).shape == (N, 4)

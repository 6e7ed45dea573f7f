"""Fingerprints: the same for equal data, another one for every change that they notice."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from minise.data import Dataset, ImageError, LazyImages, fingerprint, hold_out, shapes10
from minise.data.fingerprint import CHUNK_BYTES, MAX_MAPPED_IMAGES, new_digest, update

N, H, W = 12, 4, 5
PIXELS = np.random.default_rng(0).integers(0, 256, (N, 3, H, W), np.uint8)
LABELS, CLASSES = np.arange(N) % 3, ("a", "b", "c")


def dataset(pixels=PIXELS, labels=LABELS, classes=CLASSES, name="noise"):
    return Dataset(name, pixels, labels, classes)


def read(i):
    raise AssertionError(f"image {i} is decoded")


def lazy(read=read, count=N, labels=LABELS):
    return dataset(LazyImages(read, count, H, W), labels)


def described(text):
    """Return a read function with the attribute fingerprint."""

    def function(i):
        return read(i)

    function.fingerprint = text
    return function


def test_equal_data_in_another_form():
    expected = fingerprint(dataset())
    assert len(expected) == 32
    assert set(expected) <= set("0123456789abcdef")
    transposed = np.ascontiguousarray(PIXELS.transpose(1, 2, 3, 0)).transpose(3, 0, 1, 2)
    assert not transposed.flags.c_contiguous
    big_endian = LABELS.astype(">i4")
    others = [
        dataset(PIXELS.copy(), name="/another/folder"),
        dataset(transposed, LABELS.astype(np.uint8)),
        dataset(labels=big_endian, classes=list(CLASSES)),
        dataset(np.concatenate([PIXELS, PIXELS]), np.tile(LABELS, 2)).take(slice(N)),
    ]
    assert {fingerprint(other) for other in others} == {expected}


def test_every_change_of_data_in_memory():
    first, last = PIXELS.copy(), PIXELS.copy()
    first[0, 0, 0, 0] ^= 1
    last[-1, -1, -1, -1] ^= 128
    label = LABELS.copy()
    label[7] = 0
    changed = [
        dataset(),
        dataset(first),
        dataset(last),
        dataset(PIXELS[::-1]),
        dataset(PIXELS.reshape(N, 3, W, H)),
        dataset(labels=label),
        dataset(classes=("a", "c", "b")),
        dataset(classes=("a", "b", "c", "d")),
        dataset().take([0, 1]),
        dataset().take([1, 0]),
        dataset().take(slice(2, 4)),
        *hold_out(dataset(), 4),
        lazy(),
    ]
    assert len({fingerprint(data) for data in changed}) == len(changed)


def test_every_byte_of_an_array_is_hashed_once():
    array = np.arange(3 * CHUNK_BYTES // 8 + 5, dtype=np.float64).reshape(-1, 1)
    digest = new_digest("x")
    update(digest, array)
    expected = hashlib.blake2b(b'"x"' + array.tobytes(), digest_size=16)
    assert digest.hexdigest() == expected.hexdigest()
    for scalar in (np.float32(3), np.array(3, np.int64), np.zeros((0, 3)), np.zeros((3, 0))):
        digest = new_digest("x")
        update(digest, scalar)
        expected = hashlib.blake2b(b'"x"' + scalar.tobytes(), digest_size=16)
        assert digest.hexdigest() == expected.hexdigest()


def test_lazy_images_are_not_decoded():
    assert fingerprint(lazy()) == fingerprint(lazy(described("")))
    changed = [
        lazy(),
        lazy(described("version 1")),
        lazy(described("version 2")),
        lazy(described(lambda rows: f"rows {rows}")),
        lazy(labels=LABELS[::-1]),
        lazy().take([0, 3]),
        lazy().take([3, 0]),
        lazy(described("version 1")).take([0, 3]),
        *hold_out(lazy(), 3),
    ]
    assert len({fingerprint(data) for data in changed}) == len(changed)


def test_a_function_describes_the_images_of_a_subset():
    """Then the fingerprint does not depend on the other images of the source."""
    names = "abcdefghijkl"

    def text(order):
        return lambda rows: "".join(order[k] for k in rows)

    everything, part = (
        lazy(described(text(names))),
        lazy(described(text("cafe")), 4, np.zeros(4, int)),
    )
    subset = everything.take([2, 0, 5, 4])
    same_labels = Dataset("x", subset.images, np.zeros(4, int), CLASSES)
    assert fingerprint(same_labels) == fingerprint(part)


def test_a_mapped_file_is_not_read_as_a_whole(tmp_path):
    count = 3 * MAX_MAPPED_IMAGES
    shape, labels = (count, 3, 1, 2), np.zeros(count, int)
    mapped = np.memmap(tmp_path / "images", np.uint8, "w+", shape=shape)
    mapped[:] = 7
    first = fingerprint(dataset(mapped, labels))
    mapped[1] = 8  # not one of the evenly spaced
    assert fingerprint(dataset(mapped, labels)) == first
    mapped[3] = 8
    assert fingerprint(dataset(mapped, labels)) != first


CODE = """
from minise.data import fingerprint, hold_out, shapes10
print(*map(fingerprint, hold_out(shapes10("train", 30, 5), 10)))
"""


def test_another_process_has_the_same():
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    parts = hold_out(shapes10("train", 30, 5), 10)
    assert done.stdout.split() == [fingerprint(part) for part in parts]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Return a function that makes a folder of images and one that loads it without decoding."""
    image = pytest.importorskip(
        "PIL.Image", reason="Pillow is not installed: pip install -e '.[image]'"
    )
    from minise.data import folder as module
    from minise.data import load

    monkeypatch.setattr(module, "IN_MEMORY_BYTES", 0)
    monkeypatch.setattr(module, "read_image", lambda path, size: read(path))

    def make(name):
        for split in ("train", "test"):
            for label in ("ant", "bee"):
                for k in range(4):
                    path = tmp_path / name / split / label / f"{k}.png"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    image.new("RGB", (8, 8), (k, 0, 0)).save(path)
        return tmp_path / name

    return make, load


def test_a_folder_is_neither_decoded_nor_bound_to_its_place(folder):
    make, load = folder
    a, b = make("a"), make("b/c")
    everything = load(a)
    assert isinstance(everything.images, LazyImages)
    assert fingerprint(everything) == fingerprint(load(b))
    assert fingerprint(everything) == fingerprint(load(a, "test"))  # the same files
    assert fingerprint(everything) != fingerprint(load(a, size=16))
    train, val = hold_out(everything, 3)
    assert len({fingerprint(data) for data in (everything, train, val)}) == 3
    assert fingerprint(train) == fingerprint(load(b, n=5))  # the same images, in the same order


def test_changes_of_a_folder(folder):
    make, load = folder
    root = make("a")
    path = root / "train" / "ant" / "2.png"
    seen = [fingerprint(load(root))]
    os.utime(path, (0, 0))
    assert fingerprint(load(root)) == seen[0]  # the time of a copied file is another
    path.write_bytes(path.read_bytes() + b"x")
    seen.append(fingerprint(load(root)))
    path.rename(path.with_name("9.png"))
    seen.append(fingerprint(load(root)))
    path.with_name("9.png").rename(root / "train" / "bee" / "9.png")
    seen.append(fingerprint(load(root)))
    assert len(set(seen)) == 4
    listed = load(root)
    (root / "train" / "bee" / "9.png").unlink()
    with pytest.raises(ImageError, match=r"9\.png cannot be read: it has been removed since it"):
        fingerprint(listed)


def test_a_name_that_is_not_unicode(folder):
    make, load = folder
    root = make("a")
    name = os.fsencode(root / "train" / "ant" / "2") + b"\xff.png"
    try:
        os.rename(root / "train" / "ant" / "2.png", name)
    except OSError:
        pytest.skip("the file system only has names in Unicode")
    assert len(fingerprint(load(root))) == 32

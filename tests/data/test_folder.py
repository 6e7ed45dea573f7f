"""Image folders as data sets: order, labels, in memory or decoded on use."""

import subprocess
import sys

import numpy as np
import pytest

Image = pytest.importorskip(
    "PIL.Image", reason="Pillow is not installed: pip install -e '.[image]'"
)

from minise.data import Batches, DataWarning, ImageError, LazyImages, image_folder, load  # noqa: E402

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def save(path, colour, size=(32, 32), **settings):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path, **settings)


@pytest.fixture
def root(tmp_path):
    save(tmp_path / "zebra" / "b.png", RED)
    save(tmp_path / "zebra" / "a.PNG", GREEN)
    save(tmp_path / "ant" / "1.bmp", BLUE)
    return tmp_path


def colours(dataset):
    return [tuple(image[:, 0, 0]) for image in dataset.images]


def test_sorted_by_class_then_name(root):
    dataset = image_folder(root)
    assert dataset.classes == ("ant", "zebra")
    assert dataset.labels.tolist() == [0, 1, 1]
    assert colours(dataset) == [BLUE, GREEN, RED]
    assert dataset.images.shape == (3, 3, 32, 32)


def test_unreadable_files_are_named(root):
    path = root / "zebra" / "c.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"read_image: .*c\.png cannot be read .*: replace or rem"):
        image_folder(root)
    path.write_text("not an image")
    with pytest.raises(ValueError, match=r"c\.png cannot be read \(cannot identify"):
        image_folder(root)


def test_many_classes(tmp_path):
    for k in range(300):
        save(tmp_path / f"{k:03}" / "1.png", (k % 256, 0, 0), (4, 4))
    dataset = image_folder(tmp_path, 4)
    assert len(dataset.classes) == 300
    assert dataset.labels.tolist() == list(range(300))


def test_images_of_different_sizes(root):
    save(root / "ant" / "2.png", RED, (9, 200))
    save(root / "ant" / "3.png", RED, (1, 1))
    for size in (5, 48):
        assert image_folder(root, size).images.shape == (5, 3, size, size)
    with pytest.raises(ValueError, match="image_folder: size is 0, expected at least 1"):
        image_folder(root, size=0)


def test_classes_of_another_split(root):
    dataset = image_folder(root, classes=("zebra", "ant"))
    assert dataset.classes == ("zebra", "ant")
    assert colours(dataset) == [BLUE, GREEN, RED]  # sorted by the names
    assert dataset.labels.tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="^image_folder: .* has images of 'zebra', expected only"):
        image_folder(root, classes=("ant", "bee"))


def test_names_that_differ_only_in_spaces_are_reported(root):
    save(root / "ant " / "1.bmp", BLUE)
    with pytest.warns(DataWarning, match="classes 'ant' and 'ant ' differ only in spaces: if"):
        assert image_folder(root).classes == ("ant", "ant ", "zebra")


# A data set that is larger than memory


@pytest.fixture
def _no_memory(monkeypatch):
    monkeypatch.setattr("minise.data.folder.IN_MEMORY_BYTES", 100)


@pytest.mark.usefixtures("_no_memory")
def test_a_large_folder_is_decoded_on_use(root):
    dataset = image_folder(root)
    assert isinstance(dataset.images, LazyImages)
    assert colours(dataset) == [BLUE, GREEN, RED]
    (root / "ant" / "1.bmp").unlink()
    assert colours(dataset.take([0])) == [BLUE]  # from the cache


@pytest.mark.usefixtures("_no_memory")
def test_images_are_decoded_in_any_working_folder(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    dataset = image_folder(root.name)
    monkeypatch.chdir("/")
    assert colours(dataset) == [BLUE, GREEN, RED]


@pytest.mark.usefixtures("_no_memory")
def test_a_file_that_vanishes_is_named_when_it_is_decoded(root):
    dataset = image_folder(root)
    (root / "zebra" / "b.png").unlink()
    assert dataset.images[:2].shape == (2, 3, 32, 32)
    batches = Batches(dataset, 1, shuffle=False, mean=(0.5,) * 3, std=(0.25,) * 3)
    received = []
    with pytest.raises(ImageError, match=r"^read_image: .*b.png does not exist, expected an image"):
        received.extend(batches.epoch(0))
    assert len(received) == 2


@pytest.mark.long
def test_sixty_thousand_files_start_in_seconds_and_fit_into_little_memory(tmp_path):
    """In a separate process, whose memory is measured: at most 5 s and 300 MB."""
    rng = np.random.default_rng(0)
    for k in range(1000):
        for split, count in (("train", 60), ("test", 1)):
            (tmp_path / split / f"class{k:04}").mkdir(parents=True)
            for i, pixels in enumerate(rng.integers(0, 256, (count, 32, 32, 3), np.uint8)):
                Image.fromarray(pixels).save(tmp_path / split / f"class{k:04}" / f"{i}.png")
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, tmp_path], capture_output=True, text=True, check=True
    )
    classes, seconds, mebibytes = map(float, done.stdout.split())
    assert classes == 1000
    assert seconds < 5
    assert mebibytes < 300e6 / 2**20


MEASURED = """
import resource, sys, time
from minise.data import Augment, Batches, load, moments
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before, start = peak(), time.perf_counter()
dataset = load(sys.argv[1])
mean, std = moments(dataset)
batches = Batches(dataset, 128, augment=Augment(), mean=mean, std=std)
epoch = batches.epoch(0)
next(epoch)
seconds = time.perf_counter() - start
for _ in epoch:
    pass
print(len(dataset.classes), seconds, peak() - before)
"""


def test_load_shuffles_once_and_for_all(tmp_path):
    for split in ("train", "test"):
        for k in range(20):
            save(tmp_path / split / "dark" / f"{k:02}.png", (k, 0, 0), (4, 4))
            save(tmp_path / split / "light" / f"{k:02}.png", (255 - k, 0, 0), (4, 4))
    dataset = load(tmp_path, "train", size=4)
    assert dataset.name == str(tmp_path)
    assert sorted(colours(dataset)) == sorted(colours(image_folder(tmp_path / "train", size=4)))
    assert 0 < dataset.labels[-10:].sum() < 10
    first = load(str(tmp_path), "train", n=7, size=4, seed=3)
    np.testing.assert_array_equal(first.images, dataset.images[:7])
    with pytest.raises(ValueError, match=r"n is 41, expected at most 40: .* train has no more"):
        load(tmp_path, "train", n=41, size=4)


def test_without_pillow(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"needs Pillow: pip install -e '.\[image\]'"):
        image_folder(root)

"""Image folders: files, order, conversion, and messages."""

import sys

import numpy as np
import pytest

Image = pytest.importorskip(
    "PIL.Image", reason="Pillow is not installed: pip install -e '.[image]'"
)

from minise.data import image_folder, load  # noqa: E402

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


def test_hidden_and_other_files_are_passed_over(root):
    save(root / ".cache" / "x.png", RED)
    save(root / "ant" / ".x.png", RED)
    (root / "ant" / "notes.txt").write_text("six legs")
    (root / "README").write_text("two classes")
    assert colours(image_folder(root)) == [BLUE, GREEN, RED]


def test_central_square_resized(root):
    """Of three stripes, only the middle one, a square, is left; averages do not change."""
    pixels = np.zeros((40, 120, 3), np.uint8)
    pixels[:, :40], pixels[:, 40:80], pixels[:, 80:] = RED, (200, 100, 50), BLUE
    Image.fromarray(pixels).save(root / "ant" / "1.bmp")
    dataset = image_folder(root, size=8)
    assert dataset.images.shape == (3, 3, 8, 8)
    assert (dataset.images[0] == np.array((200, 100, 50))[:, None, None]).all()
    checks = np.indices((64, 64)).sum(axis=0) % 2 * 255
    Image.fromarray(checks.astype(np.uint8)).save(root / "ant" / "1.bmp")
    assert abs(image_folder(root, size=8).images[0].astype(int) - 127).max() <= 8  # no moire


def test_orientation(root):
    """EXIF orientation 6 means a camera on its side: the stored left column is the top row."""
    pixels = np.zeros((32, 32, 3), np.uint8)
    pixels[:, :16] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(root / "ant" / "1.png", exif=exif)
    (root / "ant" / "1.bmp").unlink()
    image = image_folder(root).images[0]
    assert (image[:, :16] == 255).all()
    assert (image[:, 16:] == 0).all()


def test_modes(root):
    """Grey becomes three equal channels, a palette its colours, transparent parts black."""
    Image.new("L", (32, 32), 77).save(root / "ant" / "2.png")
    Image.new("RGB", (32, 32), RED).quantize(4).save(root / "ant" / "3.png")
    Image.new("RGBA", (32, 32), (*GREEN, 0)).save(root / "ant" / "4.png")
    assert colours(image_folder(root))[:4] == [BLUE, (77, 77, 77), RED, (0, 0, 0)]


def test_sixteen_bits_are_refused_not_clipped(root):
    Image.fromarray(np.full((32, 32), 1000, np.uint16)).save(root / "ant" / "2.png")
    with pytest.raises(ValueError, match=r"2\.png cannot be read \(pixels of mode I.* 8 bits\)"):
        image_folder(root)


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


def test_folders(root, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"root is .*nowhere, expected a folder"):
        image_folder(root / "nowhere")
    with pytest.raises(ValueError, match="zebra has 0 sub-folders, expected 2 to 256"):
        image_folder(root / "zebra")
    (root / "bee").mkdir()
    with pytest.raises(ValueError, match=r"bee has no images, expected at least one \(\.png"):
        image_folder(root)
    with pytest.raises(ValueError, match="size is 0, expected at least 1"):
        image_folder(root, size=0)


def test_too_many_classes(tmp_path):
    for k in range(257):
        (tmp_path / f"{k}").mkdir()
    with pytest.raises(ValueError, match="has 257 sub-folders, expected 2 to 256"):
        image_folder(tmp_path)


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


def test_load_wants_both_splits(root):
    with pytest.raises(ValueError, match="has no folder train/, expected train/ and test/"):
        load(root)


def test_without_pillow(root, monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(ImportError, match=r"needs Pillow: pip install -e '.\[image\]'"):
        image_folder(root)

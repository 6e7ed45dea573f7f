"""CIFAR from generated files of the official size, and from real files under MINISE_DATA."""

import os

import numpy as np
import pytest

from minise.data import availability, cifar10, cifar100, moments
from minise.data.names import CIFAR10, CIFAR100_COARSE, CIFAR100_FINE

FILES10 = (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin")
PATTERN = np.arange(3072).astype(np.uint8)  # red, green and blue alike, rows of 32 all different


def write10(folder, names=FILES10):
    """Write files whose image i of file k has label i % 10 and in its first pixel k, i."""
    folder.mkdir(exist_ok=True)
    for k, name in enumerate(names):
        records = np.zeros((10_000, 3073), np.uint8)
        records[:, 0] = np.arange(10_000) % 10
        records[:, 1:] = PATTERN
        records[:, 1] = k
        records[:, 1 + 1024] = np.arange(10_000) % 256
        records.tofile(folder / name)
    return folder


@pytest.fixture(scope="module")
def root10(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar")
    write10(root / "cifar-10-batches-bin")
    return root


@pytest.fixture(scope="module")
def root100(tmp_path_factory):
    root = tmp_path_factory.mktemp("cifar")
    folder = root / "cifar-100-binary"
    folder.mkdir()
    for name, count in (("train.bin", 50_000), ("test.bin", 10_000)):
        records = np.zeros((count, 3074), np.uint8)
        records[:, 0] = np.arange(count) % 20
        records[:, 1] = np.arange(count) % 100
        records[:, 2:] = PATTERN
        records.tofile(folder / name)
    return root


@pytest.fixture
def altered(tmp_path, root10):
    """Return a folder that shares its files with root10 until a test replaces some."""
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for name in FILES10:
        (folder / name).symlink_to(root10 / "cifar-10-batches-bin" / name)
    return folder


def test_records_in_order(root10):
    train = cifar10(root10)
    assert (train.name, train.classes) == ("cifar10", CIFAR10)
    assert train.images.shape == (50_000, 3, 32, 32)
    np.testing.assert_array_equal(train.labels, np.arange(50_000) % 10)
    np.testing.assert_array_equal(train.images[:, 0, 0, 0], np.arange(50_000) // 10_000)
    np.testing.assert_array_equal(train.images[:, 1, 0, 0], np.arange(50_000) % 10_000 % 256)
    np.testing.assert_array_equal(train.images[123, 2], PATTERN[2048:].reshape(32, 32))
    assert train.images.flags.c_contiguous


def test_test_split(root10):
    test = cifar10(root10, "test")
    assert len(test) == 10_000
    assert (test.images[:, 0, 0, 0] == 5).all()


def test_both_labels_of_cifar100(root100):
    fine, coarse = cifar100(root100, "test"), cifar100(root100, "test", labels="coarse")
    np.testing.assert_array_equal(fine.labels, np.arange(10_000) % 100)
    np.testing.assert_array_equal(coarse.labels, np.arange(10_000) % 20)
    assert (fine.classes, coarse.classes) == (CIFAR100_FINE, CIFAR100_COARSE)
    np.testing.assert_array_equal(fine.images[7], PATTERN.reshape(3, 32, 32))


def test_names_are_as_the_authors_order_them():
    for names, count in ((CIFAR10, 10), (CIFAR100_FINE, 100), (CIFAR100_COARSE, 20)):
        assert len(set(names)) == count
        assert list(names) == sorted(names)


def test_the_folder_itself_its_parent_and_the_variable(root10, monkeypatch):
    inner = root10 / "cifar-10-batches-bin"
    monkeypatch.setenv("MINISE_DATA", str(inner))
    for root in (inner, str(inner), root10, None):
        assert len(cifar10(root, "test")) == 10_000


def test_without_a_root(monkeypatch):
    monkeypatch.delenv("MINISE_DATA", raising=False)
    with pytest.raises(
        FileNotFoundError,
        match=r"cifar10: root is None and MINISE_DATA is not set: .*MINISE_DATA=/path",
    ):
        cifar10()


def test_meta_file_names_the_classes(altered):
    meta = altered / "batches.meta.txt"
    meta.write_text("\n".join("zyxwvutsrq") + "\n\n")
    assert cifar10(altered, "test").classes == tuple("zyxwvutsrq")
    meta.write_text("one\ntwo\n")
    with pytest.raises(ValueError, match=r"batches\.meta\.txt has 2 names, expected 10"):
        cifar10(altered, "test")


def test_missing_files_are_listed(altered, tmp_path):
    (altered / "data_batch_3.bin").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"missing: data_batch_3\.bin\. Download cifar-10-bin"
    ):
        cifar10(tmp_path)
    with pytest.raises(
        FileNotFoundError, match=r"cifar100: looked in .* or .*cifar-100-binary for"
    ):
        cifar100(tmp_path)


@pytest.mark.parametrize("change", [-1, 1])
def test_size_must_be_exact(altered, change):
    path = altered / "data_batch_2.bin"
    path.unlink()
    with path.open("wb") as file:
        file.truncate(30_730_000 + change)
    message = rf"data_batch_2\.bin has {30_730_000 + change} bytes, expected 30730000: .* again"
    with pytest.raises(ValueError, match=message):
        cifar10(altered)


@pytest.mark.parametrize(
    ("read", "folder", "file", "archive"),
    [
        (cifar10, "cifar-10-batches-py", "data_batch_1", "cifar-10-binary.tar.gz"),
        (cifar100, "cifar-100-python", "train", "cifar-100-binary.tar.gz"),
    ],
)
def test_the_version_for_python_is_named(tmp_path, read, folder, file, archive):
    (tmp_path / folder).mkdir()
    (tmp_path / folder / file).touch()
    text = f"{folder} holds the Python version, expected the binary version: download {archive}"
    for root in (tmp_path, tmp_path / folder):
        with pytest.raises(FileNotFoundError, match=text):
            read(root)


def test_labels_out_of_range(altered):
    path = altered / "test_batch.bin"
    content = bytearray(path.read_bytes())
    path.unlink()
    content[3073 * 42] = 10
    path.write_bytes(content)
    with pytest.raises(
        ValueError, match=r"test_batch\.bin has label 10, expected 0\.\.9, in record 42"
    ):
        cifar10(altered, "test")


def test_unknown_settings(root10, root100):
    with pytest.raises(ValueError, match="cifar10: split is 'val', expected one of train, test"):
        cifar10(root10, "val")
    with pytest.raises(
        ValueError, match="cifar100: labels is 'Fine', expected one of coarse, fine"
    ):
        cifar100(root100, labels="Fine")


def test_availability(root10, altered, monkeypatch):
    monkeypatch.delenv("MINISE_DATA", raising=False)
    states = dict(availability(root10))
    assert states["cifar10"] == f"complete in {root10 / 'cifar-10-batches-bin'}"
    assert states["cifar100"].startswith("looked in")
    assert states["shapes10"].startswith("built in")
    (altered / "data_batch_1.bin").unlink()
    (altered / "data_batch_1.bin").write_bytes(b"abc")
    assert "data_batch_1.bin has 3 bytes" in dict(availability(altered))["cifar10"]
    assert "MINISE_DATA" in dict(availability())["cifar10"]


@pytest.mark.skipif(
    not os.environ.get("MINISE_DATA"), reason="MINISE_DATA is not set: no real CIFAR to read"
)
def test_real_images():
    if not dict(availability())["cifar10"].startswith("complete"):
        pytest.skip(f"no CIFAR-10 under MINISE_DATA: {dict(availability())['cifar10']}")
    train, test = cifar10(), cifar10(split="test")
    assert train.classes == CIFAR10
    for part, each in ((train, 5000), (test, 1000)):
        np.testing.assert_array_equal(np.bincount(part.labels), [each] * 10)
    mean, std = moments(train)
    # the usual constants; the differences of JPEG-compressed copies are smaller than atol
    np.testing.assert_allclose(mean, (0.4914, 0.4822, 0.4465), atol=0.001)
    np.testing.assert_allclose(std, (0.2470, 0.2435, 0.2616), atol=0.003)

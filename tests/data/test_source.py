"""Data sets by name."""

import os
import re
import shutil

import numpy as np
import pytest

from minise import data
from minise.data import DataWarning, availability, load, names, shapes10
from minise.data.source import has_validation


def test_availability_lists_all_names():
    assert names() == ("cifar10", "cifar100", "shapes10")
    assert tuple(name for name, _ in availability()) == names()


def test_found_is_an_old_name():
    assert data.found is availability
    with pytest.raises(AttributeError, match="minise.data has no 'missing', expected one of"):
        _ = data.missing


def test_shapes10_by_name():
    assert len(load("shapes10", "test")) == 2000
    dataset = load("shapes10", "train", seed=5, n=30)
    np.testing.assert_array_equal(dataset.images, shapes10("train", 30, seed=5).images)


def test_cifar_by_name(tmp_path):
    for name in (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"):
        with (tmp_path / name).open("wb") as file:
            file.truncate(30_730_000)
    assert len(load("cifar10", "test", root=tmp_path)) == 10_000
    assert len(load("cifar10", "test", root=tmp_path, n=12)) == 12
    with pytest.raises(ValueError, match="n is 10001, expected at most 10000: cifar10 test has no"):
        load("cifar10", "test", root=tmp_path, n=10_001)


def test_unknown_names():
    for name, hint in (("cifra10", ": did you mean cifar10"), ("CIFAR10", "Did you mean cifar10")):
        with pytest.raises(
            ValueError,
            match=rf"source is '{name}', expected one of cifar10, cifar100, "
            rf"shapes10, or a folder .*{hint}",
        ):
            load(name)
    with pytest.raises(ValueError, match=r"source is 'imagenet'.* per class$"):
        load("imagenet")
    with pytest.raises(ValueError, match="split is 'val', expected one of train, test"):
        load("shapes10", "val")
    with pytest.raises(ValueError, match="n is 0, expected at least 1"):
        load("shapes10", n=0)
    with pytest.raises(ValueError, match="size is 64, expected 32, the only size of shapes10: le"):
        load("shapes10", size=64)


def test_classes_of_a_net():
    classes = shapes10(n=10).classes
    assert load("shapes10", n=10, classes=classes).classes == classes
    reversed_labels = load("shapes10", n=10, classes=classes[::-1])
    np.testing.assert_array_equal(reversed_labels.labels, 9 - shapes10(n=10).labels)
    with pytest.raises(
        ValueError, match="^load: shapes10 has images of .*, expected only the classes"
    ):
        load("shapes10", n=10, classes=classes[1:])


# Folders


@pytest.fixture
def folder(tmp_path):
    """Return a folder with three classes in train/, of which the first is not in test/."""
    Image = pytest.importorskip("PIL.Image")
    for k, name in enumerate(("a/x", "b", "c")):
        for split, count in (("train", 7), ("test", 3)):
            path = tmp_path / split / name
            path.mkdir(parents=True)
            for i in range(count if (split, k) != ("test", 0) else 0):
                Image.new("RGB", (2, 2), (k, i, 0)).save(path / f"{i}.png")
    return tmp_path


LACKING = "test has no images of 1 of 3 classes: 'a/x'$"


def test_labels_of_all_splits_index_the_classes_of_train(folder):
    train = load(folder, size=2)
    assert (train.name, train.classes) == (str(folder), ("a/x", "b", "c"))
    np.testing.assert_array_equal(train.images[:, 0, 0, 0], train.labels)
    with pytest.warns(DataWarning, match=LACKING):
        test = load(folder, "test", size=2)
    assert (test.name, test.classes) == (train.name, train.classes)
    np.testing.assert_array_equal(test.images[:, 0, 0, 0], test.labels)
    assert sorted(test.labels) == [1, 1, 1, 2, 2, 2]
    shutil.rmtree(folder / "train")
    with pytest.warns(DataWarning, match=r"no images of 2 of 4 classes: 'd', 'a'$"):
        test = load(folder, "test", size=2, classes=("d", "c", "b", "a"))
    np.testing.assert_array_equal(3 - test.images[:, 0, 0, 0], test.labels)


@pytest.mark.parametrize("name", ["d", "B", "b ", "a", "a/x/y/../../z"])
def test_classes_that_train_does_not_have_are_refused(folder, name):
    path = folder / "test" / name
    path.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "test" / "b" / "0.png", path)
    known = re.escape(f"expected only the classes of {folder / 'train'} ('a/x', 'b', 'c')")
    unknown = os.path.normpath(name)
    with pytest.raises(ValueError, match=f"^load: .*test has images of '{unknown}', {known}"):
        load(folder, "test", size=2)


def test_val_is_a_split_of_folders(folder):
    assert not has_validation(folder)
    with pytest.raises(ValueError, match="has no folder val/, expected train/ and test/"):
        load(folder, "val")
    shutil.copytree(folder / "train", folder / "val")
    assert has_validation(str(folder))
    assert load(folder, "val", size=2).classes == ("a/x", "b", "c")
    assert not has_validation("cifar10")


def test_a_folder_without_test_is_tested_on_val(folder):
    """ImageNet's: val/ is then no validation set; with test/, val/ is not read for a test."""
    shutil.copytree(folder / "test" / "b", folder / "test" / "a" / "x", dirs_exist_ok=True)
    expected = load(folder, "test", size=2)
    (folder / "test").rename(folder / "val")
    assert not has_validation(folder)
    text = f"^{re.escape(str(folder))} has no folder test/, so the test images are those of .*/val$"
    with pytest.warns(DataWarning, match=text):
        test = load(folder, "test", size=2)
    np.testing.assert_array_equal(test.images, expected.images)
    np.testing.assert_array_equal(test.labels, expected.labels)
    shutil.copytree(folder / "train", folder / "test")
    assert has_validation(folder)
    assert len(load(folder, "test", size=2)) == 21


def test_splits_that_a_folder_lacks(folder):
    shutil.rmtree(folder / "test")
    assert len(load(folder, "train", size=2)) == 21
    text = "has no folder test/, expected train/ and test/ with a sub-folder per class: move"
    with pytest.raises(ValueError, match=text):
        load(folder, "test")
    shutil.copytree(folder / "train", folder / "val")
    (folder / "train").rename(folder / "training")
    for split in ("train", "val"):
        with pytest.raises(
            ValueError, match="has no folder train/, expected train/ and test/ with"
        ):
            load(folder, split)


def test_the_first_images_of_a_folder(folder):
    dataset = load(folder, size=2)
    np.testing.assert_array_equal(load(folder, n=5, size=2).images, dataset.images[:5])
    with pytest.raises(ValueError, match=r"n is 22, expected at most 21: .* train has no more"):
        load(folder, n=22)
    (folder / "train" / "b" / ".hidden").touch()
    with pytest.warns(
        DataWarning, match=r"train: 1 file or folder is not read: 1 hidden \('b/.hid"
    ):
        load(folder, n=5)

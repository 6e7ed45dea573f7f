"""Data sets by name."""

import numpy as np
import pytest

from minise import data
from minise.data import availability, load, names, shapes10


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
    for name in ("cifra10", "CIFAR10"):
        with pytest.raises(
            ValueError,
            match=rf"source is '{name}', expected one of cifar10, cifar100, "
            r"shapes10, or a folder .*: did you mean cifar10",
        ):
            load(name)
    with pytest.raises(ValueError, match=r"source is 'imagenet'.* per class$"):
        load("imagenet")
    with pytest.raises(ValueError, match="split is 'val', expected one of train, test"):
        load("shapes10", "val")
    with pytest.raises(ValueError, match="n is 0, expected at least 1"):
        load("shapes10", n=0)

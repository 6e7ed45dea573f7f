"""Data of a run: the same labels in all splits, normalisation, sizes, messages."""

import io
import shutil
import warnings

import numpy as np
import pytest
from rich.console import Console

from minise import nn
from minise.data import Batches, Dataset, DataWarning, ImageError, LazyImages, load, moments
from minise.train import SGD, SoftmaxCrossEntropy, TrainConfig, checkpoint, fit, prepare, run
from minise.train.setup import for_evaluation

Image = pytest.importorskip("PIL.Image")
COLOURS = {"blue": (0, 0, 200), "green": (0, 200, 0), "red": (200, 0, 0)}


@pytest.fixture
def folder(tmp_path):
    """Return a folder with twelve training and three test images of each colour."""
    for split, count in (("train", 12), ("test", 3)):
        for name, colour in COLOURS.items():
            path = tmp_path / "data" / split / name
            path.mkdir(parents=True)
            for i in range(count):
                Image.new("RGB", (8, 8), tuple(c + i for c in colour)).save(path / f"{i}.png")
    return tmp_path / "data"


def config(folder, **settings):
    small = dict(model="se_resnet8", epochs=1, batch_size=12, val=6, crop=0, size=8)
    return TrainConfig(data=str(folder), out=folder.parent / "runs", **{**small, **settings})


def labels_of_colours(batches):
    """Return the labels that belong to the brightest channels, and the labels of the batches."""
    images, labels = zip(*batches.epoch(0), strict=True)
    order = np.array([2, 1, 0])  # blue, green, red are the channels 2, 1, 0
    return order[np.concatenate(images).mean(axis=(2, 3)).argmax(axis=1)], np.concatenate(labels)


def test_all_batches_have_the_same_labels_for_a_colour(folder):
    shutil.rmtree(folder / "test" / "blue")
    with pytest.warns(DataWarning, match="test has no images of 1 of 3 classes: 'blue'"):
        training = prepare(config(folder, mean=(0.3, 0.3, 0.3), std=(0.3, 0.3, 0.3)))
    assert training.data["classes"] == ("blue", "green", "red")
    for batches, count in ((training.train, 30), (training.val, 6), (training.test, 6)):
        expected, labels = labels_of_colours(batches)
        np.testing.assert_array_equal(labels, expected)
        assert len(labels) == count


@pytest.mark.parametrize("split", ["test", "val"])
def test_a_class_missing_from_train_is_refused_before_the_run_folder_is_created(folder, split):
    if split == "val":
        shutil.copytree(folder / "test", folder / "val")
    shutil.copytree(folder / split / "red", folder / split / "rose")
    text = (
        rf"{split} has images of 'rose', expected only the classes of .*\('blue', 'green', 'red'\)"
    )
    with pytest.raises(ValueError, match=text):
        prepare(config(folder))
    assert not (folder.parent / "runs").exists()


def test_a_folder_without_test_is_refused_before_the_run_folder_is_created(folder):
    shutil.rmtree(folder / "test")
    with pytest.raises(ValueError, match="has no folder test/"):
        prepare(config(folder))
    assert not (folder.parent / "runs").exists()


def test_validation_images_of_a_folder(folder):
    shutil.copytree(folder / "test", folder / "val")
    with pytest.warns(DataWarning, match="validation images are from .*val, not the last 6 of"):
        training = prepare(config(folder))
    assert len(training.train.dataset) == 36
    assert len(training.val.dataset) == 9
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert prepare(config(folder, val=0)).val is None


def test_a_folder_without_test_is_tested_on_val_and_holds_images_out(folder):
    (folder / "test").rename(folder / "val")
    with pytest.warns(DataWarning, match="has no folder test/, so the test images are those of"):
        training = prepare(config(folder))
    assert [len(b.dataset) for b in (training.train, training.val, training.test)] == [30, 6, 9]


@pytest.mark.parametrize("size", [8, 13, 64])
def test_resized_crops_of_a_folder(folder, monkeypatch, size):
    """Training and held-out images are read from the files, also if they would fit into memory."""
    training = prepare(config(folder, size=size, resized_crop=True))
    assert isinstance(training.train.dataset.images, LazyImages)
    images, labels = next(iter(training.train.epoch(0)))
    assert images.shape == (12, 3, size, size)
    larger = round(size * 8 / 7)
    for batches in (training.val, training.test):
        assert batches.dataset.images.shape[2:] == (larger, larger)
        images, labels = next(iter(batches.epoch(0)))
        assert images.shape[2:] == (size, size)
        inner = slice((larger - size) // 2, (larger - size) // 2 + size)
        centre = batches.dataset.images[: len(images)][:, :, inner, inner] / 255
        mean, std = (np.reshape(training.data[key], (3, 1, 1)) for key in ("mean", "std"))
        np.testing.assert_allclose(images, (centre - mean) / std, rtol=0, atol=1e-4)
    expected, labels = labels_of_colours(training.val)
    np.testing.assert_array_equal(labels, expected)
    in_order = [*load(folder, "train").labels][-6:]
    assert labels.tolist() == in_order  # the last ones, as without resized crops
    monkeypatch.setattr("minise.data.folder.IN_MEMORY_BYTES", 0)
    lazy = prepare(config(folder, size=size, resized_crop=True))
    for ours, theirs in ((training.train, lazy.train), (training.val, lazy.val)):
        assert isinstance(theirs.dataset.images, LazyImages)
        for batch, other in zip(ours.epoch(1), theirs.epoch(1), strict=True):
            np.testing.assert_array_equal(batch.images, other.images)


def test_resized_crops_of_images_in_memory(monkeypatch):
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 10)
    training = prepare(TrainConfig(data="shapes10", limit=40, val=8, resized_crop=True))
    assert training.train.batch(0, 0).images.shape == (32, 3, 32, 32)
    assert training.val.dataset.images.shape == (8, 3, 37, 37)
    assert training.val.batch(0, 0).images.shape == (8, 3, 32, 32)


def test_batches_of_evaluation_are_small_where_images_are_large():
    for side, count in ((32, 250), (129, 250), (224, 83), (4096, 1)):
        images = LazyImages(lambda k: np.zeros((3, 1, 1)), 300, side, side)
        dataset = Dataset("zeros", images, np.zeros(300, int), ("a",))
        batches = for_evaluation(dataset, {"mean": (0.5,) * 3, "std": (0.5,) * 3})
        assert batches.batch_size == count


def test_size_and_normalisation_are_in_the_checkpoint(folder):
    training = prepare(config(folder, size=16))
    assert training.train.dataset.images.shape == (30, 3, 16, 16)
    assert training.settings["size"] == 16
    train_set = training.train.dataset
    assert (training.data["mean"], training.data["std"]) == moments(train_set)
    chosen = prepare(config(folder, mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6)))
    assert (chosen.data["mean"], chosen.data["std"]) == ((0.1, 0.2, 0.3), (0.4, 0.5, 0.6))
    with pytest.raises(
        ValueError, match="load: size is 16, expected 32, the only size of shapes10"
    ):
        prepare(TrainConfig(data="shapes10", size=16))


def test_a_large_folder_gives_the_same_run(folder, monkeypatch):
    """Images decoded on use, in a thread, give the same bits as images decoded at once."""
    results = []
    for in_memory in (10**9, 0):
        monkeypatch.setattr("minise.data.folder.IN_MEMORY_BYTES", in_memory)
        training = prepare(config(folder))
        assert isinstance(training.train.dataset.images, LazyImages) == (not in_memory)
        assert training.test.prefetch == (0 if in_memory else 2)
        results.append(fit(config(folder), Console(file=io.StringIO())))
    assert results[0].test == results[1].test
    ours, theirs = (checkpoint.load(r.folder / "last.safetensors") for r in results)
    assert ours.data == theirs.data
    for name, array in ours.arrays.items():
        np.testing.assert_array_equal(array, theirs.arrays[name])


def test_a_file_deleted_during_training_is_named(folder, monkeypatch):
    monkeypatch.setattr("minise.data.folder.IN_MEMORY_BYTES", 0)
    training = prepare(config(folder, mean=(0.5,) * 3, std=(0.5,) * 3))
    for path in (folder / "train" / "red").iterdir():
        path.unlink()
    with pytest.raises(ImageError, match=r"red.*\.png does not exist"):
        list(training.train.epoch(0))


# Data sets of the user's own


def own_run(tmp_path, train_set, test_set, **settings):
    size = dict(mean=(0.5,) * 3, std=(0.5,) * 3)
    net = nn.Chain(nn.GlobalAvgPool2d(), nn.Linear(3, 3, rng=0))
    batches, test = Batches(train_set, 12, **size), Batches(test_set, 12, **size)
    quiet = dict(console=Console(file=io.StringIO()), out=tmp_path / "runs")
    start = dict(epochs=1, test=test, **quiet, **settings)
    return run(net, SoftmaxCrossEntropy(), batches, SGD(net), **start)


def test_batches_whose_classes_differ_are_refused_before_training(folder, tmp_path):
    train_set = load(folder, size=8)
    order = ("red", "green", "blue")
    other = load(folder, "test", size=8).with_classes(order)
    text = r"^run: the labels of test are numbered by the classes 'red', .*, expected those of bat"
    with pytest.raises(ValueError, match=text):
        own_run(tmp_path, train_set, other)
    for names in (order, ("red", "green")):
        with pytest.raises(
            ValueError, match=r"^run: .* of batches .*, expected those of data\[.cl"
        ):
            own_run(tmp_path, train_set, train_set, data=dict(classes=names))
    assert not (tmp_path / "runs").exists()
    other_words = dict(classes=["bleu", "vert", "rouge"])
    own_run(tmp_path, train_set, other.with_classes(train_set.classes), data=other_words)


def test_labels_beyond_the_outputs_of_the_net(tmp_path):
    images = np.zeros((4, 3, 2, 2), np.uint8)
    many = Dataset("many", images, np.array([0, 1, 2, 300]), tuple(map(str, range(301))))
    with pytest.raises(ValueError, match=r"labels\[\d\] is 300, expected 0..2 as logits has 3 col"):
        own_run(tmp_path, many, many)

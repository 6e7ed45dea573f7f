"""Read CIFAR-10 and CIFAR-100 from their official binary folders.

A file is a sequence of records: one label byte (CIFAR-100: coarse, then fine), then 1024 bytes each
of red, green and blue, row by row. So the size of a complete file is known, and unlike in a pickle
no code is loaded.

Source: Krizhevsky, "Learning multiple layers of features from tiny images", 2009;
https://www.cs.toronto.edu/~kriz/cifar.html.
"""

import os
from pathlib import Path
from typing import NamedTuple

import numpy as np

from minise.checks import StrPath, as_path, check_choice
from minise.data.dataset import Bytes, Dataset
from minise.data.names import CIFAR10, CIFAR100_COARSE, CIFAR100_FINE

BYTES_PER_IMAGE = 3 * 32 * 32


class Names(NamedTuple):
    """The class names of one label byte."""

    file: str  # of the official folder, with the names
    built_in: tuple[str, ...]  # if there is no such file


class Layout(NamedTuple):
    """The content of an official folder."""

    folder: str
    archive: str
    python_folder: str  # of the version for Python, which is not read
    python_file: str  # one of its files
    splits: dict[str, tuple[tuple[str, ...], int]]  # files, and records in each
    labels: dict[str, Names]  # in the order of the label bytes

    def record_size(self) -> int:
        """Return the number of bytes in a record."""
        return len(self.labels) + BYTES_PER_IMAGE


LAYOUTS = {
    "cifar10": Layout(
        folder="cifar-10-batches-bin",
        archive="cifar-10-binary.tar.gz",
        python_folder="cifar-10-batches-py",
        python_file="data_batch_1",
        splits={
            "train": (tuple(f"data_batch_{k}.bin" for k in range(1, 6)), 10_000),
            "test": (("test_batch.bin",), 10_000),
        },
        labels={"fine": Names("batches.meta.txt", CIFAR10)},
    ),
    "cifar100": Layout(
        folder="cifar-100-binary",
        archive="cifar-100-binary.tar.gz",
        python_folder="cifar-100-python",
        python_file="train",
        splits={"train": (("train.bin",), 50_000), "test": (("test.bin",), 10_000)},
        labels={
            "coarse": Names("coarse_label_names.txt", CIFAR100_COARSE),
            "fine": Names("fine_label_names.txt", CIFAR100_FINE),
        },
    ),
}


def cifar10(root: StrPath | None = None, split: str = "train") -> Dataset:
    """Read CIFAR-10: 50,000 training or 10,000 test images of ten classes.

    Parameters
    ----------
    root : path or None
        The folder cifar-10-batches-bin, or its parent; None uses the environment variable
        MINISE_DATA.
    split : {"train", "test"}
        Training or test images.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file does not have the expected size, or a label is out of range.
    """
    return _read("cifar10", root, split, "fine")


def cifar100(root: StrPath | None = None, split: str = "train", labels: str = "fine") -> Dataset:
    """Read CIFAR-100: 50,000 training or 10,000 test images.

    Parameters
    ----------
    root, split
        As for cifar10; the folder is cifar-100-binary.
    labels : {"fine", "coarse"}
        100 classes, or 20 groups of five classes each.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If a file does not have the expected size, or a label is out of range.
    """
    return _read("cifar100", root, split, labels)


def locate(source: str, root: StrPath | None = None) -> Path:
    """Return the folder of cifar10 or cifar100 under a root; check that it is complete.

    Raises
    ------
    FileNotFoundError
        If root and MINISE_DATA are not set, or files are missing.
    ValueError
        If a file does not have the expected size.
    """
    layout = LAYOUTS[source]
    if root is None and not os.environ.get("MINISE_DATA"):
        raise FileNotFoundError(
            f"{source}: root is None and MINISE_DATA is not set: pass root (--root on the command "
            f"line), or set the environment variable to the folder that contains {layout.folder} "
            "(export MINISE_DATA=/path/to/data)"
        )
    parent = as_path(root if root is not None else os.environ["MINISE_DATA"])
    inner = parent / layout.folder
    folder = inner if inner.is_dir() else parent
    sizes = {
        name: count * layout.record_size()
        for names, count in layout.splits.values()
        for name in names
    }
    missing = [name for name in sizes if not (folder / name).is_file()]
    if missing:
        places = f"{parent} or {inner}" if folder == parent else f"{folder}"
        if other := _python_version(parent, layout):
            raise FileNotFoundError(
                f"{source}: {other} holds the Python version, expected the binary version: "
                f"download {layout.archive} from https://www.cs.toronto.edu/~kriz/ and unpack it "
                "there"
            )
        raise FileNotFoundError(
            f"{source}: looked in {places} for {', '.join(sizes)}; missing: {', '.join(missing)}. "
            f"Download {layout.archive} from https://www.cs.toronto.edu/~kriz/ and unpack it there"
        )
    for name, size in sizes.items():
        actual = (folder / name).stat().st_size
        if actual != size:
            raise ValueError(
                f"{source}: {folder / name} has {actual} bytes, expected {size}: "
                f"the copy is damaged, so download {layout.archive} again"
            )
    return folder


def _python_version(parent: Path, layout: Layout) -> Path | None:
    """Return the folder of the version for Python, files of pickles, if it is there."""
    for folder in (parent / layout.python_folder, parent):
        if (folder / layout.python_file).is_file():
            return folder
    return None


def _read(source: str, root: StrPath | None, split: str, labels: str) -> Dataset:
    layout = LAYOUTS[source]
    check_choice(source, "split", split, layout.splits)
    check_choice(source, "labels", labels, layout.labels)
    folder = locate(source, root)
    classes = _classes(source, folder, layout.labels[labels])
    files, count = layout.splits[split]
    images = np.empty((len(files) * count, 3, 32, 32), np.uint8)
    values = np.empty(len(images), np.uint8)
    for k, name in enumerate(files):
        records = np.fromfile(folder / name, np.uint8).reshape(count, layout.record_size())
        part = slice(k * count, (k + 1) * count)
        images[part] = records[:, -BYTES_PER_IMAGE:].reshape(count, 3, 32, 32)
        values[part] = records[:, list(layout.labels).index(labels)]
        _check_labels(source, folder / name, values[part], len(classes))
    return Dataset(source, images, values, classes)


def _classes(source: str, folder: Path, names: Names) -> tuple[str, ...]:
    path = folder / names.file
    if not path.is_file():
        return names.built_in
    lines = path.read_text(encoding="utf-8", errors="replace").split()
    if len(lines) != len(names.built_in):
        raise ValueError(
            f"{source}: {path} has {len(lines)} names, expected {len(names.built_in)}: "
            "download it again, or remove it to use the built-in names"
        )
    return tuple(lines)


def _check_labels(source: str, path: Path, labels: Bytes, classes: int) -> None:
    wrong = np.flatnonzero(labels >= classes)
    if len(wrong):
        raise ValueError(
            f"{source}: {path} has label {labels[wrong[0]]}, expected 0..{classes - 1}, in "
            f"record {wrong[0]}, counted from 0: the file was altered, so download it again"
        )

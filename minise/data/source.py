"""Load data sets by name or folder, the values of `--data`, and list which are available."""

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from minise.checks import StrPath, as_path, check_choice, check_integer, check_within, did_you_mean
from minise.data.cifar import LAYOUTS, cifar10, cifar100, locate
from minise.data.dataset import Dataset, numbered_by
from minise.data.folder import dataset_of
from minise.data.listing import SPLITS as FOLDER_SPLITS
from minise.data.listing import list_images
from minise.data.shapes10 import SIDE, shapes10
from minise.data.streams import stream
from minise.data.values import DataWarning

SPLITS = ("train", "test")


def names() -> tuple[str, ...]:
    """Return the names of the data sets that `load` accepts."""
    return (*LAYOUTS, "shapes10")


def load(
    source: StrPath,
    split: str = "train",
    *,
    root: StrPath | None = None,
    seed: int = 0,
    n: int | None = None,
    size: int = SIDE,
    classes: Sequence[str] | None = None,
    lazy: bool = False,
) -> Dataset:
    """Load a data set by name, or from a folder of images.

    Parameters
    ----------
    source : str or path
        One of `names`, or a folder with the sub-folders train and test, each as for `image_folder`.
        A name takes precedence over a folder with the same name: for the folder, pass ./cifar10.
    split : {"train", "test", "val"}
        Training, test or validation images; only folders can have val. A folder without test, such
        as ImageNet's, is tested on val.
    root : path or None
        Folder that contains CIFAR; None uses the environment variable MINISE_DATA.
    seed : int
        Seed of shapes10.
    n : int or None
        Number of images to load, from the first one on. None loads all; for shapes10, 10,000
        training or 2,000 test images.
    size : int
        Number of rows and of columns to which a folder's images are resized; 32 for the others.
    classes : sequence of str, optional
        Names of all classes in the order of their labels, such as those of a trained net. By
        default those of train/, so that a label means the same class in all splits of a folder.
    lazy : bool
        Whether a folder's images are decoded on use, whatever their number, and not kept: for
        Augment(resized_crop=True), which decodes other parts of them in each epoch.

    Returns
    -------
    Dataset
        A folder's images are in a random order that is always the same, so that the last images
        for `hold_out` and the first n are fair samples.

    Raises
    ------
    FileNotFoundError, ImportError
        If the data set is missing, or Pillow, which folders need.
    ValueError
        If the source is unknown or damaged, or if a split has images of other classes.

    Warns
    -----
    DataWarning
        If files of a folder are not read, if the split has no images of some classes, or if the
        test images are those of val.
    """
    if n is not None:
        check_integer("load", "n", n, 1)
    if source not in names():
        return _folder(source, split, n, size, classes, lazy)
    check_choice("load", "split", split, SPLITS)
    if size != SIDE:
        raise ValueError(
            f"load: size is {size}, expected {SIDE}, the only size of {source}: leave it out"
        )
    if source == "shapes10":
        dataset: Dataset = shapes10(split, n or {"train": 10_000, "test": 2_000}[split], seed)
    else:
        dataset = (cifar10 if source == "cifar10" else cifar100)(root, split)
        if n is not None:
            dataset = dataset.take(slice(_checked_count(source, split, n, len(dataset))))
    return dataset if classes is None else numbered_by(classes, dataset, "load")


def availability(root: StrPath | None = None) -> list[tuple[str, str]]:
    """Return (name, text) for each of `names`: its folder, or why it cannot be loaded.

    Only the sizes of files are checked.
    """
    states = []
    for name in names():
        if name not in LAYOUTS:
            states.append((name, "built in, generated when needed"))
            continue
        try:
            states.append((name, f"complete in {locate(name, root)}"))
        except (FileNotFoundError, ValueError) as error:
            states.append((name, str(error).removeprefix(f"{name}: ")))
    return states


def has_validation(source: StrPath) -> bool:
    """Return True if a data set is a folder with its own validation images, in val/.

    They are not for validation if the folder has no test/, because they are the test images.
    """
    path = as_path(source)
    return source not in names() and all((path / name).is_dir() for name in ("val", "test"))


def split_folder(path: Path, split: str) -> Path | None:
    """Return the folder of a split, val/ for a test without test/; None if it does not exist."""
    candidates = ("test", "val") if split == "test" else (split,)
    return next((path / name for name in candidates if (path / name).is_dir()), None)


def _folder(
    source: StrPath,
    split: str,
    n: int | None,
    size: int,
    classes: Sequence[str] | None,
    lazy: bool,
) -> Dataset:
    check_choice("load", "split", split, FOLDER_SPLITS)
    check_integer("load", "size", size, 1)
    path = as_path(source)
    if not path.is_dir():
        hint = did_you_mean(source, names(), 0.4)
        if str(source).lower() in names():
            hint = f". Did you mean {str(source).lower()}?"
        kind = "the file " if path.exists() else ""
        raise ValueError(
            f"load: source is {kind}{str(source)!r}, expected one of {', '.join(names())}, or a "
            f"folder that has train/ and test/ (or val/) with a sub-folder per class{hint}"
        )
    owner: object = "the training images"
    if classes is None and split != "train":
        owner = _existing_folder(path, "train")
        classes = list_images("load", path / "train").classes
    folder = _existing_folder(path, split)
    if folder.name != split:
        text = f"{path} has no folder test/, so the test images are those of {folder}"
        warnings.warn(text, DataWarning, stacklevel=3)
    listing = list_images("load", folder, () if classes is None else classes)
    count = len(listing.paths)
    order = np.argsort(stream(0, 0, "folder").random_raw(count), kind="stable")
    if n is not None:
        order = order[: _checked_count(source, split, n, count)]
    dataset = dataset_of("load", listing.take(order), size, classes, owner, lazy)
    return replace(dataset, name=str(source))


def _existing_folder(path: Path, split: str) -> Path:
    """Return the folder of a split; raise ValueError if it does not exist."""
    if (folder := split_folder(path, split)) is not None:
        return folder
    raise ValueError(
        f"load: {path} has no folder {split}/, expected train/ and test/ with a "
        "sub-folder per class: move the classes into them"
    )


def _checked_count(source: StrPath, split: str, n: int, count: int) -> int:
    check_within("load", "n", n, 1, count, f"{source} {split} has no more images")
    return n

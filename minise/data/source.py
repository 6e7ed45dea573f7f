"""Load data sets by name or folder, the values of `--data`, and list which are available."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from minise.checks import StrPath, check_choice, check_integer, check_within, did_you_mean
from minise.data.cifar import LAYOUTS, cifar10, cifar100, locate
from minise.data.dataset import Dataset
from minise.data.folder import image_folder
from minise.data.shapes10 import shapes10
from minise.data.streams import stream

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
    size: int = 32,
) -> Dataset:
    """Load a data set by name, or from a folder of images.

    Parameters
    ----------
    source : str or path
        One of `names`, or a folder with the sub-folders train and test, each as for `image_folder`.
        A name takes precedence over a folder with the same name: for the folder, pass ./cifar10.
    split : {"train", "test"}
        Training or test images.
    root : path or None
        Folder that contains CIFAR; None uses the environment variable MINISE_DATA.
    seed : int
        Seed of shapes10.
    n : int or None
        Number of images to load, from the first one on. None loads all; for shapes10, 10,000
        training or 2,000 test images.
    size : int
        Number of rows and of columns to which a folder's images are resized.

    Returns
    -------
    Dataset
        A folder's images are in a random order that is always the same, so that the last images
        for `hold_out` and the first n are fair samples.
    """
    check_choice("load", "split", split, SPLITS)
    if n is not None:
        check_integer("load", "n", n, 1)
    if source == "shapes10":
        return shapes10(split, n or {"train": 10_000, "test": 2_000}[split], seed)
    if source == "cifar10":
        dataset = cifar10(root, split)
    elif source == "cifar100":
        dataset = cifar100(root, split)
    else:
        dataset = _folder(source, split, size)
    if n is None:
        return dataset
    check_within("load", "n", n, 1, len(dataset), f"{source} {split} has no more images")
    return dataset.take(slice(n))


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


def _folder(source: StrPath, split: str, size: int) -> Dataset:
    path = Path(source).expanduser()
    if not path.is_dir():
        hint = did_you_mean(source, names(), 0.4)
        raise ValueError(
            f"load: source is {str(source)!r}, expected one of {', '.join(names())}, or a folder "
            f"that has train/ and test/ with a sub-folder per class{hint}"
        )
    parts = {part: path / part for part in SPLITS}
    for part in parts.values():
        if not part.is_dir():
            raise ValueError(
                f"load: {path} has no folder {part.name}/, expected train/ and test/ with a "
                "sub-folder per class: move the classes into them"
            )
    dataset = replace(image_folder(parts[split], size), name=str(source))
    order = np.argsort(stream(0, 0, "folder").random_raw(len(dataset)), kind="stable")
    return dataset.take(order)

"""Labelled images: uint8, channels first, one label per image, in memory or decoded on use."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeAlias
from unicodedata import normalize

import numpy as np
from numpy.typing import NDArray

from minise.checks import check_within, did_you_mean
from minise.data.lazy import LazyImages
from minise.data.values import DataWarning, check_images, check_labels

Bytes: TypeAlias = NDArray[np.uint8]
NAMES_IN_MESSAGE = 10  # of classes


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their labels.

    Parameters
    ----------
    name : str
        Name of the source, such as "cifar10".
    images : ndarray of shape (N, 3, H, W), uint8, or LazyImages
        Red, green, blue in 0..255. ``images[indices]`` is an ndarray in both cases.
    labels : ndarray of shape (N,), of any integer dtype
        Class of each image, 0..classes-1.
    classes : tuple of str
        Name of each class, in the order of the labels.

    Raises
    ------
    ValueError, TypeError
        If a shape, a dtype or a label is wrong.
    """

    name: str
    images: Bytes | LazyImages
    labels: NDArray[Any]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_images(self.images)
        check_labels(self.labels, len(self.images), self.classes)

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        _, _, H, W = self.images.shape
        size = f"{len(self)} images of {H} x {W}"
        return f"<{type(self).__name__} {self.name}: {size}, {len(self.classes)} classes>"

    def take(self, which: slice | NDArray[Any] | list[int]) -> Self:
        """Return the images that a slice, a list of indices or a boolean mask selects.

        A slice shares memory with this data set; indices and masks copy. LazyImages are not
        decoded.
        """
        if not isinstance(which, slice):
            which = _checked_indices(which, len(self))
        if not len(np.arange(len(self))[which]):
            raise ValueError(f"take: which selects 0 of {len(self)} images, expected at least one")
        arrays: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, LazyImages):
                arrays[field.name] = value.view(which)
            elif isinstance(value, np.ndarray):
                arrays[field.name] = value[which]
        return replace(self, **arrays)

    def with_classes(self, classes: Sequence[str]) -> Self:
        """Return the data set with labels that index another list of class names, such as a net's.

        Parameters
        ----------
        classes : sequence of str
            Class names by label. They are compared in Unicode normal form C.

        Returns
        -------
        Dataset
            The same images, with these classes.

        Raises
        ------
        ValueError
            If classes has a name twice, or an image's class is not in classes.

        Warns
        -----
        DataWarning
            If no image is of one of the classes.
        """
        return numbered_by(classes, self, "with_classes")


def numbered_by(
    classes: Sequence[str], dataset: Any, where: str, owner: object = "the training images"
) -> Any:
    """Return the data set with labels that index classes; messages call them those of owner."""
    numbers = {normalize("NFC", name): k for k, name in enumerate(classes)}
    if len(numbers) < len(classes):
        raise ValueError(f"{where}: classes has a name twice, expected different names: rename one")
    counts = np.bincount(dataset.labels, minlength=len(dataset.classes))
    names = [normalize("NFC", name) for name in dataset.classes]
    if len(set(names)) < len(names):
        twice = next(name for k, name in enumerate(names) if name in names[:k])
        raise ValueError(
            f"{where}: {dataset.name} has two classes named {twice!r}, expected different names: "
            "rename one, or merge them"
        )
    unknown = [name for name, n in zip(names, counts, strict=True) if n and name not in numbers]
    if unknown:
        hint = did_you_mean(unknown[0], numbers)
        if not hint or not hint.isprintable():
            hint = ": rename or remove them"
        raise ValueError(
            f"{where}: {dataset.name} has images of {listed(unknown)}, expected only the "
            f"classes of {owner} ({listed(classes)}){hint}"
        )
    labels = dataset.labels
    if names != list(numbers):
        labels = np.array([numbers.get(name, 0) for name in names])[labels]
    counts = np.bincount(labels, minlength=len(classes))
    lacking = [name for name, n in zip(classes, counts, strict=True) if not n]
    if lacking:
        warnings.warn(
            f"{dataset.name} has no images of {len(lacking)} of {len(classes)} classes: "
            f"{listed(lacking)}",
            DataWarning,
            stacklevel=3,
        )
    return replace(dataset, labels=labels, classes=tuple(classes))


def listed(names: Sequence[str]) -> str:
    """Return names for a message, quoted and escaped, and the number of those left out."""
    text = ", ".join(map(repr, names[:NAMES_IN_MESSAGE]))
    rest = len(names) - NAMES_IN_MESSAGE
    return text if rest <= 0 else f"{text} and {rest} more"


def hold_out(dataset: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """Split off the last images for validation; both parts share memory with the data set.

    Parameters
    ----------
    dataset : Dataset
        In random order, so that the last images are a fair sample. CIFAR and shapes10 are; the
        images of `image_folder` are sorted by class, but those of `load` are shuffled.
    count : int
        Number of images to hold out, at least 1 and fewer than the data set has.

    Returns
    -------
    train, validation : Dataset
        The first N - count images, and the last count.
    """
    check_within("hold_out", "count", count, 1, len(dataset) - 1, "leave some to train on")
    return dataset.take(slice(-count)), dataset.take(slice(-count, None))


def _checked_indices(which: Any, count: int) -> NDArray[Any]:
    """Return indices or a mask as an array (n,); raise an error if they are neither."""
    array = np.asarray(which)
    if not array.size:
        return np.zeros(0, np.int64)
    if array.dtype.kind not in "biu" or array.ndim != 1:
        raise TypeError(
            f"take: which is {array.dtype} of shape {array.shape}, expected a slice, a list of "
            "indices, or a mask: pass [i] for one image"
        )
    if array.dtype.kind == "b":
        if len(array) != count:
            raise ValueError(
                f"take: which is a mask of {len(array)} entries, expected {count}: pass one for "
                "each image"
            )
    elif array.min() < -count or array.max() >= count:
        wrong = array[(array < -count) | (array >= count)][0]
        raise IndexError(
            f"take: which has index {wrong}, expected -{count}..{count - 1}: the data set has "
            f"{count} images"
        )
    return array

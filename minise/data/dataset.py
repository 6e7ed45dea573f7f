"""Labelled images in memory: uint8, channels first, one label per image."""

from dataclasses import dataclass, fields, replace
from typing import Any, Self, TypeAlias

import numpy as np
from numpy.typing import NDArray

from minise.checks import check_within

Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images with their labels.

    Parameters
    ----------
    name : str
        Name of the source, such as "cifar10".
    images : ndarray of shape (N, 3, H, W), uint8
        Red, green, blue in 0..255.
    labels : ndarray of shape (N,), uint8
        Class of each image, 0..classes-1.
    classes : tuple of str
        Name of each class, in the order of the labels.

    Raises
    ------
    ValueError, TypeError
        If a shape, a dtype or a label is wrong.
    """

    name: str
    images: Bytes
    labels: Bytes
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        for field, axes in (("images", 4), ("labels", 1)):
            array = getattr(self, field)
            if not isinstance(array, np.ndarray) or array.dtype != np.uint8:
                kind = getattr(array, "dtype", type(array).__name__)
                raise TypeError(
                    f"Dataset: {field} is {kind}, expected an array of uint8: "
                    f"pass np.asarray({field}).astype(np.uint8)"
                )
            if array.ndim != axes or 0 in array.shape:
                raise _shape_error(field, array)
        if self.images.shape[1] != 3:
            raise _shape_error("images", self.images)
        if len(self.labels) != len(self.images):
            raise ValueError(
                f"Dataset: {len(self.labels)} labels for {len(self.images)} images: pass one per "
                "image"
            )
        if self.labels.max() >= len(self.classes):
            raise ValueError(
                f"Dataset: label {self.labels.max()} has no name, expected 0..classes-1 with "
                f"{len(self.classes)} classes: name more classes or correct the labels"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        _, _, H, W = self.images.shape
        size = f"{len(self)} images of {H} x {W}"
        return f"<{type(self).__name__} {self.name}: {size}, {len(self.classes)} classes>"

    def take(self, which: slice | NDArray[Any] | list[int]) -> Self:
        """Return the images that a slice, a list of indices or a boolean mask selects.

        A slice shares memory with this data set; indices and masks copy.
        """
        which = which if isinstance(which, slice) else np.asarray(which)
        arrays: dict[str, Any] = {
            field.name: value[which]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        if len(arrays["labels"]) == 0:
            raise ValueError(f"take: which selects 0 of {len(self)} images, expected at least one")
        return replace(self, **arrays)


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


def _shape_error(field: str, array: Bytes) -> ValueError:
    wanted = {"images": "(N, 3, H, W)", "labels": "(N,)"}[field]
    return ValueError(
        f"Dataset: {field} has shape {array.shape}, expected {wanted} and no axis empty: "
        "transpose or reshape"
    )

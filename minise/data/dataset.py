"""Labelled images in memory: uint8, channels first, one label each."""

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
        Where they come from, such as "cifar10".
    images : ndarray of shape (N, 3, H, W), uint8
        Red, green, blue in 0..255.
    labels : ndarray of shape (N,), uint8
        Each in 0..classes-1.
    classes : tuple of str
        Name of each class; its place is the label.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or labels are not these.
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
                f"Dataset: {len(self.labels)} labels for {len(self.images)} images: pass one each"
            )
        if self.labels.max() >= len(self.classes):
            raise ValueError(
                f"Dataset: label {self.labels.max()} has no name, expected 0..classes-1 with "
                f"{len(self.classes)} classes: name more classes or mend the labels"
            )

    def __len__(self) -> int:
        return len(self.labels)

    def __repr__(self) -> str:
        _, _, H, W = self.images.shape
        size = f"{len(self)} images of {H} x {W}"
        return f"<{type(self).__name__} {self.name}: {size}, {len(self.classes)} classes>"

    def take(self, which: slice | NDArray[Any] | list[int]) -> Self:
        """Return the images that a slice, a list of indices or a boolean mask names.

        A slice shares memory with the whole; indices and masks copy.
        """
        which = which if isinstance(which, slice) else np.asarray(which)
        arrays: dict[str, Any] = {
            field.name: value[which]
            for field in fields(self)
            if isinstance(value := getattr(self, field.name), np.ndarray)
        }
        if len(arrays["labels"]) == 0:
            raise ValueError(
                f"take: nothing is left of {len(self)} images: a set needs at least one"
            )
        return replace(self, **arrays)


def hold_out(dataset: Dataset, count: int) -> tuple[Dataset, Dataset]:
    """Split off the last images for validation; both parts share memory with the whole.

    Parameters
    ----------
    dataset : Dataset
        In an order in which the last images are as good a sample as any. CIFAR and shapes10 are;
        `image_folder` sorts by class, and `load` shuffles what it returns.
    count : int
        Images to hold out, at least 1 and fewer than there are.

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

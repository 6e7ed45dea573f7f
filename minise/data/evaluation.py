"""Images for the evaluation of a net that was trained on random resized crops.

A random resized crop magnifies: on average, it has about half of the image's area. So evaluation
magnifies too, as Krizhevsky et al. (NIPS 2012) did: the shorter side of an image is scaled to 8/7
of the training size, 256 for 224, and the net gets the centre of its central square, or ten crops.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from minise.checks import Array, check_pair
from minise.data.crops import central_box, evaluation_size
from minise.data.dataset import Bytes, Dataset
from minise.data.folder import fits_in_memory
from minise.data.lazy import LazyImages
from minise.data.pictures import part_of
from minise.data.streams import Words


@dataclass(frozen=True)
class CentreCrop:
    """The central rows and columns of images, as the `augment` of `Batches` for evaluation."""

    height: int
    width: int

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if images of shape (N, 3, H, W) are smaller than the crop."""
        check_fits("CentreCrop", (self.height, self.width), shape)

    def __call__(self, images: Bytes, words: Words | None = None) -> Bytes:
        """Return the centre (N, 3, height, width) of images (N, 3, H, W); words have no effect."""
        self.check(images.shape)
        _, _, H, W = images.shape
        top, left = (H - self.height) // 2, (W - self.width) // 2
        return images[:, :, top : top + self.height, left : left + self.width]


def enlarged(dataset: Dataset) -> Dataset:
    """Return the data set with its images scaled by 8/7, for evaluation.

    LazyImages are read again, a folder's from their files; if the result takes at most 64 MiB, they
    are read now, otherwise on use. Images in memory are resized with an antialiasing filter.
    """
    _, _, H, W = dataset.images.shape
    size = evaluation_size(H), evaluation_size(W)
    images: Any = dataset.images
    if not isinstance(images, LazyImages):
        images = np.stack([part_of(image, central_box(H, W, *size), size) for image in images])
    elif fits_in_memory((images := images.resized(*size)).nbytes):
        images = np.asarray(images)
    return replace(dataset, images=images)


def ten_crops(images: Array, height: int, width: int) -> Iterator[Array]:
    """Yield ten crops of images: the four corners, the centre, and their mirror images.

    Parameters
    ----------
    images : ndarray of shape (N, C, H, W)
        Images, normalised or not, also of another back end.
    height, width : int
        Rows and columns of a crop.

    Yields
    ------
    ndarray of shape (N, C, height, width)
        Contiguous copies: top left, top right, bottom left, bottom right, centre; then the same
        mirrored left to right.
    """
    check_fits("ten_crops", (height, width), images.shape)
    down, right = images.shape[2] - height, images.shape[3] - width
    corners = ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2))
    for step in (1, -1):
        for top, left in corners:
            crop = images[:, :, top : top + height, left : left + width]
            yield crop[:, :, :, ::step].copy()


def check_fits(where: str, size: tuple[int, int], shape: tuple[int, ...]) -> None:
    """Raise an error unless size is a pair of integers, at most those of images (N, C, H, W)."""
    check_pair(where, "size", size, 1)
    if len(shape) != 4 or size[0] > shape[2] or size[1] > shape[3]:
        raise ValueError(
            f"{where}: size is {size[0]} x {size[1]} and images have shape {shape}, expected (N, "
            "C, H, W) of at least that size: load larger images, for example with data.enlarged"
        )

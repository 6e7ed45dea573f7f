"""Data sets from folders of image files, one folder per class."""

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from minise.checks import Pair, StrPath, as_absolute, as_path, check_integer
from minise.data.crops import ChooseBox, central_box
from minise.data.dataset import Bytes, Dataset, numbered_by
from minise.data.lazy import CACHE_BYTES, LazyImages
from minise.data.listing import Listing, list_images
from minise.data.pictures import ImageError, pillow, read_image, read_part
from minise.data.values import DataWarning

__all__ = ["dataset_of", "image_folder", "read_image"]

# Largest data set that is decoded at once, 21,845 images of 32 x 32; others are decoded on use.
IN_MEMORY_BYTES = 64 * 2**20
REMOVED = "it has been removed since it was listed, put it back"


def image_folder(root: StrPath, size: int = 32, classes: Sequence[str] | None = None) -> Dataset:
    """Read every image below root as a square of size x size pixels.

    Parameters
    ----------
    root : path
        A folder with a sub-folder per class, which may have sub-folders itself. The class of an
        image is the shallowest folder on its path that has images itself: cat/1.png and
        cat/wild/2.png have the class cat, and a/airfield/1.png has the class a/airfield if a/ has
        no images of its own.
    size : int
        Number of rows and of columns of the resulting images.
    classes : sequence of str, optional
        Names of all classes in the order of their labels, such as another split's `classes`; by
        default the sorted names of the class folders, at least two.

    Returns
    -------
    Dataset
        Images sorted by class, then by path: shuffle before `hold_out`, as `load` does. If their
        pixels take more than 64 MiB, they are decoded when they are indexed (LazyImages).

    Raises
    ------
    FileNotFoundError, ImportError
        If root is not a folder, or Pillow is not installed.
    ValueError
        If there are too few classes, a class has no images, or a class is not in `classes`.
    ImageError
        If a file is damaged; with LazyImages when it is decoded.

    Warns
    -----
    DataWarning
        If files are not read: hidden files (names with a leading dot), files without an image
        suffix, files outside of the class folders, or unreadable files.

    Notes
    -----
    `read_image` describes how an image becomes RGB of 8 bits.
    """
    check_integer("image_folder", "size", size, 1)
    path = as_path(root)
    listing = list_images("image_folder", path, classes or ())
    return dataset_of("image_folder", listing, size, classes)


def dataset_of(
    where: str,
    listing: Listing,
    size: int,
    classes: Sequence[str] | None,
    owner: object = "the training images",
    lazy: bool = False,
) -> Dataset:
    """Return the data set of listed files; `numbered_by` explains classes and owner.

    With lazy, images are decoded on use, whatever their number, and not cached.
    """
    pillow()
    if text := listing.skipped_text():
        warnings.warn(text, DataWarning, stacklevel=3)
    read, count = _Files(str(as_absolute(listing.root)), listing.paths, size), len(listing.paths)
    small = fits_in_memory(count * 3 * size * size)
    images = LazyImages(read, count, size, size, cache_bytes=0 if small or lazy else CACHE_BYTES)
    dataset = Dataset(f"{listing.root}", images, listing.labels, listing.classes)
    if classes is None:
        _warn_of_spaces(listing)
    else:
        dataset = numbered_by(classes, dataset, where, owner)
    return replace(dataset, images=np.asarray(images)) if small and not lazy else dataset


def fits_in_memory(nbytes: int) -> bool:
    """Return True if images of this total size are decoded at once."""
    return nbytes <= IN_MEMORY_BYTES


def _warn_of_spaces(listing: Listing) -> None:
    for name, other in pairwise(sorted(listing.classes, key=str.split)):
        if name.split() == other.split():
            warnings.warn(
                f"{listing.root}: classes {name!r} and {other!r} differ only in spaces: if they "
                "are the same class, merge their folders",
                DataWarning,
                stacklevel=4,
            )


@dataclass(frozen=True)
class _Files:
    """Image files, decoded by a call with the index of one."""

    root: str  # absolute, as are the paths
    paths: list[str]
    size: int  # rows and columns of the decoded images

    def __call__(self, k: int) -> Bytes:
        """Return image k of shape (3, size, size)."""
        return self.part(k, central_box, (self.size, self.size), False)

    def part(self, k: int, choose: ChooseBox, size: Pair, reduced: bool) -> Bytes:
        """Return a part of image k, scaled to (3, rows, columns)."""
        try:
            return read_part(self.paths[k], choose, size, reduced=reduced)
        except FileNotFoundError as error:
            raise ImageError(f"{error}: {REMOVED}") from None

    def fingerprint(self, rows: NDArray[np.int64]) -> str:
        """Return the path below the root, and the size in bytes, of each of the files."""
        paths, begin = [self.paths[k] for k in rows], len(self.root) + 1
        try:
            sizes = [os.stat(path).st_size for path in paths]
        except OSError as error:
            raise ImageError(f"{error.filename} cannot be read: {REMOVED}") from None
        names = (path[begin:].replace(os.sep, "/") for path in paths)
        return "\n".join(f"{name}\0{size}" for name, size in zip(names, sizes, strict=True))

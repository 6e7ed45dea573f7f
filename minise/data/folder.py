"""Image files sorted into folders, one folder a class."""

from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import StrPath, check_integer
from minise.data.dataset import Bytes, Dataset
from minise.data.pictures import pillow

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def image_folder(root: StrPath, size: int = 32) -> Dataset:
    """Read every image in root/<class>/ as a square of one size.

    Parameters
    ----------
    root : path
        A folder with 2 to 256 sub-folders, whose sorted names are the classes. What is hidden (its
        name opens with a dot) and files with other suffixes than SUFFIXES are passed over.
    size : int
        Rows and columns of the result.

    Returns
    -------
    Dataset
        Sorted by class, then by file name: shuffle before `hold_out` (`load` does).

    Raises
    ------
    FileNotFoundError, ImportError
        If root is no folder, or Pillow is missing.
    ValueError
        If there are too few or too many classes, a class without images, or an unreadable image.

    Notes
    -----
    An image is turned upright by its EXIF orientation, laid on black where it is transparent,
    cut to its central square and resized with Lanczos' filter, which averages over what it drops.
    Of an animation the first picture counts.
    """
    check_integer("image_folder", "size", size, 1)
    files = _files(Path(root).expanduser())
    paths = [path for group in files.values() for path in group]
    images = np.stack([_square(path, size) for path in paths])
    counts = [len(group) for group in files.values()]
    labels = np.repeat(np.arange(len(files), dtype=np.uint8), counts)
    return Dataset(f"{root}", images, labels, tuple(files))


def _files(root: Path) -> dict[str, list[Path]]:
    """Return the image files of each class, both in order of their names."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"image_folder: root is {root}, expected a folder with a sub-folder for each class"
        )
    folders = [path for path in _visible(root) if path.is_dir()]
    if not 2 <= len(folders) <= 256:
        raise ValueError(
            f"image_folder: {root} has {len(folders)} sub-folders, expected 2 to 256, "
            "one a class: name the folder just above the classes"
        )
    files = {}
    for folder in folders:
        images = [path for path in _visible(folder) if path.suffix.lower() in SUFFIXES]
        if not images:
            raise ValueError(
                f"image_folder: {folder} has no images, expected at least one "
                f"({' '.join(SUFFIXES)}): add some, or remove the folder"
            )
        files[folder.name] = images
    return files


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))


def _square(path: Path, size: int) -> Bytes:
    """Return an image file's central square as (3, size, size)."""
    Image, ImageOps = pillow()
    try:
        with Image.open(path) as file:
            image = _in_colour(ImageOps.exif_transpose(file), Image)
            side = min(image.size)
            left, top = ((length - side) // 2 for length in image.size)
            # cut first: ImageOps.fit lets the filter reach over the edge of what it keeps
            square = image.crop((left, top, left + side, top + side))
            square = square.resize((size, size), Image.Resampling.LANCZOS)
    except Exception as error:  # each of Pillow's decoders fails in its own way
        raise ValueError(
            f"image_folder: {path} cannot be read ({error}): replace or remove it"
        ) from error
    return np.asarray(square, np.uint8).transpose(2, 0, 1)


def _in_colour(image: Any, Image: Any) -> Any:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"pixels of mode {image.mode} have more than 8 bits")
    if not image.has_transparency_data:
        return image.convert("RGB")
    image = image.convert("RGBA")
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image).convert("RGB")

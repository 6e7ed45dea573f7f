"""Read image files from folders, one folder per class."""

from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import StrPath, check_integer
from minise.data.dataset import Bytes, Dataset
from minise.data.pictures import pillow

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")


def image_folder(root: StrPath, size: int = 32) -> Dataset:
    """Read every image in root/<class>/ as a square of size x size pixels.

    Parameters
    ----------
    root : path
        A folder with 2 to 256 sub-folders, whose sorted names are the classes. Hidden files and
        folders (names with a leading dot) and files without a suffix in SUFFIXES are ignored.
    size : int
        Number of rows and of columns of the resulting images.

    Returns
    -------
    Dataset
        Images sorted by class, then by file name: shuffle before `hold_out`, as `load` does.

    Raises
    ------
    FileNotFoundError, ImportError
        If root is not a folder, or Pillow is not installed.
    ValueError
        If there are too few or too many classes, a class without images, or an unreadable image.

    Notes
    -----
    An image is rotated by its EXIF orientation, composed with black where it is transparent,
    cropped to its central square and resized with an antialiasing Lanczos filter. Only the first
    frame of an animation is read.
    """
    check_integer("image_folder", "size", size, 1)
    files = _files(Path(root).expanduser())
    paths = [path for group in files.values() for path in group]
    images = np.stack([read_image(path, size) for path in paths])
    counts = [len(group) for group in files.values()]
    labels = np.repeat(np.arange(len(files), dtype=np.uint8), counts)
    return Dataset(f"{root}", images, labels, tuple(files))


def _files(root: Path) -> dict[str, list[Path]]:
    """Return the image files of each class, classes and files sorted by name."""
    if not root.is_dir():
        raise FileNotFoundError(
            f"image_folder: root is {root}, expected a folder with a sub-folder for each class"
        )
    folders = [path for path in _visible(root) if path.is_dir()]
    if not 2 <= len(folders) <= 256:
        raise ValueError(
            f"image_folder: {root} has {len(folders)} sub-folders, expected 2 to 256, "
            "one per class: pass the folder that contains the classes"
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


def read_image(path: StrPath, size: int = 32) -> Bytes:
    """Return the central square of an image file, scaled: uint8 (3, size, size), RGB.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such file, or Pillow cannot read it as an image of 8 bits.
    ImportError
        If Pillow is not installed.
    """
    path = Path(path)
    if not path.is_file():
        fault = "is a folder" if path.is_dir() else "does not exist"
        raise FileNotFoundError(f"read_image: {path} {fault}, expected an image file")
    Image, ImageOps = pillow()
    try:
        with Image.open(path) as file:
            image = _in_colour(ImageOps.exif_transpose(file), Image)
            side = min(image.size)
            left, top = ((length - side) // 2 for length in image.size)
            # crop first: with ImageOps.fit, the filter would use pixels outside the square
            square = image.crop((left, top, left + side, top + side))
            square = square.resize((size, size), Image.Resampling.LANCZOS)
    except Exception as error:  # Pillow's decoders raise many classes of exceptions
        raise ValueError(
            f"read_image: {path} cannot be read ({error}): replace or remove it"
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

"""Read an image file, or a part of it, as uint8 with Pillow, an optional dependency."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minise.checks import Pair, StrPath, check_integer
from minise.data.crops import Box, ChooseBox, central_box

ORIENTATION = 0x0112  # in EXIF; 1 is upright
REDUCTIONS = (8, 4, 2)  # factors by which JPEG files can be decoded smaller
MIN_GAP = 2  # rows that a part must have at least after this reduction, per row of the result


class ImageError(ValueError):
    """An image file that is missing, damaged or of an unknown format; the message has its path."""


def pillow() -> tuple[ModuleType, ModuleType]:
    """Return the modules PIL.Image and PIL.ImageOps.

    Raises
    ------
    ImportError
        If Pillow is not installed.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError:
        raise ImportError(
            "reading and writing image files needs Pillow: pip install -e '.[image]'"
        ) from None
    return Image, ImageOps


def read_image(path: StrPath, size: int = 32) -> NDArray[np.uint8]:
    """Return the central square of an image file, scaled.

    Parameters
    ----------
    path : path
        The image file, of any format that Pillow reads.
    size : int
        Number of rows and of columns of the result.

    Returns
    -------
    ndarray of shape (3, size, size), uint8
        Red, green and blue in 0..255.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ImageError
        If Pillow cannot read the file, or its pixels have no fixed range; a ValueError.
    ImportError
        If Pillow is not installed.

    Notes
    -----
    An image is rotated by its EXIF orientation, converted as below, cropped to its central square
    and resized with an antialiasing Lanczos filter. Only the first frame of an animation is read.

    ============================  ==========================================================
    pixels                        become
    ============================  ==========================================================
    grey, 8 bits, or 1 bit        three equal channels; of one bit, 0 and 255
    grey, 16 bits                 v / 257, rounded, so that 65535 becomes 255, whatever the
                                  largest value in the file
    colour, 16 bits per channel   their upper 8 bits, as Pillow reads them
    palette, CMYK, YCbCr          RGB
    transparent parts             black, or composed with black
    float, integers of 32 bits    refused: they have no fixed range
    ============================  ==========================================================
    """
    check_integer("read_image", "size", size, 1)
    return read_part(path, central_box, (size, size))


def read_part(
    path: StrPath, choose: ChooseBox, size: Pair, *, reduced: bool = False
) -> NDArray[np.uint8]:
    """Return a part of an image file, scaled.

    Parameters
    ----------
    path : path
        The image file.
    choose : callable
        choose(height, width) returns the part, a Box, of an upright image of this size.
    size : pair of int
        Rows and columns of the result.
    reduced : bool
        Whether a large JPEG file is decoded at a half, a quarter or an eighth of its size, which is
        faster, if the part has at least twice the rows and columns of the result even then. The
        decoder averages over squares of pixels before the filter does, so values differ, on average
        by one or two of 255 levels; at sharp edges, and of patterns as fine as the squares, by
        more.

    Returns
    -------
    ndarray of shape (3, rows, columns), uint8

    Raises
    ------
    FileNotFoundError, ImageError, ImportError
        As from `read_image`.
    """
    if not os.path.isfile(path):  # also a pipe, which opening would wait for
        fault = "is a folder" if os.path.isdir(path) else "does not exist"
        raise FileNotFoundError(f"read_image: {path} {fault}, expected an image file")
    Image, ImageOps = pillow()
    with _naming_the_file(path), Image.open(path) as file:
        rotated = file.getexif().get(ORIENTATION, 1) != 1
        box, factor = None, 1
        if reduced and not rotated and file.format == "JPEG":
            box = choose(file.height, file.width)
            factor = _reduce(file, box, size)
        upright = ImageOps.exif_transpose(file) if rotated else file
        image = _as_rgb(upright, file.format, Image)
        return _scaled_part(image, box or choose(image.height, image.width), size, factor)


def part_of(image: NDArray[np.uint8], box: Box, size: Pair) -> NDArray[np.uint8]:
    """Return a part of an image of shape (3, H, W), scaled to (3, rows, columns)."""
    Image, _ = pillow()
    pixels = np.ascontiguousarray(image.transpose(1, 2, 0))
    return _scaled_part(Image.fromarray(pixels), box, size)


@contextmanager
def _naming_the_file(path: StrPath) -> Iterator[None]:
    """Raise ImageError for every error of Pillow, whose decoders raise many classes."""
    try:
        yield
    except Exception as error:
        reason, remedy = str(error), "replace or remove it"
        if isinstance(error, OSError) and error.errno:  # not of the decoders
            reason, remedy = error.strerror or reason, "check its permissions and the disk"
        raise ImageError(f"read_image: {path} cannot be read ({reason}): {remedy}") from error


def _reduce(file: Any, box: Box, size: Pair) -> int:
    """Let a JPEG file be decoded smaller if the part allows it; return the factor."""
    gap = min(box.height // (MIN_GAP * size[0]), box.width // (MIN_GAP * size[1]))
    factor = next((factor for factor in REDUCTIONS if factor <= gap), 1)
    if factor == 1 or file.draft(None, (file.width // factor, file.height // factor)) is None:
        return 1
    return factor


def _scaled_part(image: Any, box: Box, size: Pair, factor: int = 1) -> NDArray[np.uint8]:
    """Return a part of an RGB image; the box is in pixels of the image before the reduction."""
    Image, _ = pillow()
    left, top = box.left / factor, box.top / factor
    right, bottom = (box.left + box.width) / factor, (box.top + box.height) / factor
    # crop first: otherwise, the filter would use pixels outside the part
    x, y = math.floor(left), math.floor(top)
    image = image.crop((x, y, math.ceil(right), math.ceil(bottom)))
    inner = (left - x, top - y, right - x, bottom - y)
    image = image.resize((size[1], size[0]), Image.Resampling.LANCZOS, inner)
    return np.asarray(image, np.uint8).transpose(2, 0, 1)


def _as_rgb(image: Any, file_format: str | None, Image: Any) -> Any:
    if image.mode.startswith(("I", "F")):
        # Pillow reads grey PNG and PGM files of 16 bits as I;16 or as I, depending on its version
        if image.mode[:4] != "I;16" and (image.mode, file_format) not in (
            ("I", "PNG"),
            ("I", "PPM"),
        ):
            raise ValueError(
                f"pixels of mode {image.mode} have no fixed range, so convert them to 8 or 16 bits"
            )
        grey = np.asarray(image).astype(np.int64)
        if (transparent := image.info.get("transparency")) is not None:
            grey = np.where(grey == transparent, 0, grey)
        return Image.fromarray(((grey + 128) // 257).astype(np.uint8)).convert("RGB")
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    image = image.convert("RGBA")
    black = Image.new("RGBA", image.size, (0, 0, 0, 255))
    return Image.alpha_composite(black, image).convert("RGB")

"""Read an image file with Pillow, an optional dependency, as a square of 8 bits per channel."""

import os
from types import ModuleType
from typing import Any

import numpy as np

from minise.checks import StrPath, check_integer
from minise.data.dataset import Bytes

ORIENTATION = 0x0112  # in EXIF; 1 is upright


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


def read_image(path: StrPath, size: int = 32) -> Bytes:
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
    if not os.path.isfile(path):  # also a pipe, which opening would wait for
        fault = "is a folder" if os.path.isdir(path) else "does not exist"
        raise FileNotFoundError(f"read_image: {path} {fault}, expected an image file")
    Image, ImageOps = pillow()
    try:
        with Image.open(path) as file:
            rotated = file.getexif().get(ORIENTATION, 1) != 1
            upright = ImageOps.exif_transpose(file) if rotated else file
            image = _as_rgb(upright, file.format, Image)
            side = min(image.size)
            left, top = ((length - side) // 2 for length in image.size)
            if image.size != (size, size):
                # crop first: with ImageOps.fit, the filter would use pixels outside the square
                image = image.crop((left, top, left + side, top + side))
                image = image.resize((size, size), Image.Resampling.LANCZOS)
            pixels = np.asarray(image, np.uint8)
    except Exception as error:  # Pillow's decoders raise many classes of exceptions
        reason, remedy = str(error), "replace or remove it"
        if isinstance(error, OSError) and error.errno:  # not of the decoders
            reason, remedy = error.strerror or reason, "check its permissions and the disk"
        raise ImageError(f"read_image: {path} cannot be read ({reason}): {remedy}") from error
    return pixels.transpose(2, 0, 1)


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

"""Contact sheets: many images in one array, PNG file, or coloured text for a terminal."""

from pathlib import Path

import numpy as np

from minise.atomic import writing
from minise.checks import StrPath, check_integer
from minise.data.dataset import Bytes
from minise.data.pictures import pillow

GAP_GREY = 24  # of 0..255, the colour of the gaps


def sheet(images: Bytes, columns: int = 16, scale: int = 1, gap: int = 1) -> Bytes:
    """Arrange images in a grid.

    Parameters
    ----------
    images : ndarray of shape (N, 3, H, W), uint8
        Red, green, blue.
    columns : int
        Images per row, at most N.
    scale : int
        Factor by which the sheet is enlarged.
    gap : int
        Width of the dark gaps between and around images in pixels, before scaling.

    Returns
    -------
    pixels : ndarray of shape (rows, columns, 3), uint8
        rows = scale * (gap + ceil(N / columns) * (H + gap)), columns likewise.
    """
    check_integer("sheet", "columns", columns, 1)
    check_integer("sheet", "scale", scale, 1)
    check_integer("sheet", "gap", gap, 0)
    if not isinstance(images, np.ndarray) or images.dtype != np.uint8:
        kind = getattr(images, "dtype", type(images).__name__)
        raise TypeError(f"sheet: images is {kind}, expected an array of uint8: pass dataset.images")
    if images.ndim != 4 or images.shape[1] != 3 or 0 in images.shape:
        raise ValueError(
            f"sheet: images has shape {images.shape}, expected (N, 3, H, W) and no axis empty: "
            "transpose, or add an axis to a single image"
        )
    N, _, H, W = images.shape
    columns = min(columns, N)
    lines = -(-N // columns)
    pixels = np.full((gap + lines * (H + gap), gap + columns * (W + gap), 3), GAP_GREY, np.uint8)
    for i, image in enumerate(images):
        top, left = gap + i // columns * (H + gap), gap + i % columns * (W + gap)
        pixels[top : top + H, left : left + W] = image.transpose(1, 2, 0)
    return pixels.repeat(scale, axis=0).repeat(scale, axis=1)


def write_png(path: StrPath, pixels: Bytes) -> None:
    """Write pixels of shape (rows, columns, 3), uint8, as a PNG file."""
    Image, _ = pillow()
    image = Image.fromarray(_checked("write_png", pixels))
    with writing(Path(path)):
        image.save(path, format="PNG", optimize=True)


def blocks(pixels: Bytes) -> str:
    """Return pixels of shape (rows, columns, 3), uint8, as text for a terminal.

    Each character shows two pixels, one above the other: an upper half block with the first as
    foreground and the second as background (24-bit ANSI colours). Below an odd last row the
    background is the terminal's. Every line ends with a reset of the colours.
    """
    pixels = _checked("blocks", pixels)
    lines = []
    for top in range(0, len(pixels), 2):
        line, last = [], ""
        for pair in pixels[top : top + 2].transpose(1, 0, 2):
            colour = ";".join(
                f"{layer};2;{r};{g};{b}" for layer, (r, g, b) in zip((38, 48), pair, strict=False)
            )
            line.append("▀" if colour == last else f"\x1b[{colour}m▀")
            last = colour
        lines.append("".join(line) + "\x1b[0m")
    return "\n".join(lines)


def _checked(function: str, pixels: Bytes) -> Bytes:
    shape, dtype = np.shape(pixels), getattr(pixels, "dtype", type(pixels).__name__)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or dtype != np.uint8:
        raise ValueError(
            f"{function}: pixels is {dtype} of shape {shape}, expected uint8 of shape "
            "(rows, columns, 3), none empty: pass what sheet(images) returns"
        )
    return pixels

"""Random crops, flips and cutouts of a batch, determined by random words of each image."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from minise.checks import check_flag, check_integer, check_triple, check_within
from minise.data.crops import CROP_WORDS, random_box
from minise.data.dataset import Bytes
from minise.data.lazy import LazyImages
from minise.data.pictures import part_of, pillow
from minise.data.streams import ROW, Words, integers_below, rows, rows_at, stream

Draw: TypeAlias = Callable[[NDArray[np.int64]], Words]  # indices (n,) to their random words
CROP = 4  # default padding in pixels


@dataclass(frozen=True)
class Augment:
    """Random crop with padding, or random resized crop; horizontal flip and cutout.

    Parameters
    ----------
    crop : int
        Padding in pixels before a random crop of the original size.
    flip : bool
        Whether each image is mirrored left to right with probability 1/2.
    cutout : int
        Side of a square around a random pixel that is blanked, clipped at the image's border. 0 for
        none.
    fill : tuple of int
        Colour of the padding and the square in 0..255, (red, green, blue).
    resized_crop : bool
        Whether a random part of each image (8 to 100 % of its area, aspect ratio 3/4 to 4/3),
        scaled to the size of the images with an antialiasing filter, replaces the crop with
        padding. The part is cut out of the image in its file if the images are decoded on use
        (load(…, lazy=True)), otherwise out of the array. Needs Pillow.

    Notes
    -----
    The default fill, black, equals torchvision's RandomCrop(32, padding=4) on images before
    normalisation, the usual recipe. He et al. (arXiv:1512.03385) and DeVries & Taylor blank with
    zero after normalisation, which is the mean colour: for that pass
    ``fill=tuple(round(255 * m) for m in mean)``.

    Source: DeVries and Taylor, "Improved regularization of convolutional neural networks with
    cutout", arXiv:1708.04552. For an even side the square extends one pixel further up and left
    of its pixel than down and right, as in their code.
    """

    crop: int = CROP
    flip: bool = True
    cutout: int = 0
    fill: tuple[int, int, int] = (0, 0, 0)
    resized_crop: bool = False

    def __post_init__(self) -> None:
        check_integer("Augment", "crop", self.crop, 0)
        check_flag("Augment", "flip", self.flip)
        check_flag("Augment", "resized_crop", self.resized_crop)
        check_one_crop("Augment", self.crop, self.resized_crop)
        check_integer("Augment", "cutout", self.cutout, 0)
        for channel in check_triple("Augment", "fill", self.fill):
            if not (channel.is_integer() and 0 <= channel <= 255):
                raise ValueError(
                    f"Augment: fill is {self.fill!r}, expected three integers in 0..255: "
                    "scale means in 0..1 by 255 and round them"
                )

    def __repr__(self) -> str:
        # a run is resumed if the text is that in its checkpoint, which may lack resized_crop
        names = [field.name for field in fields(self) if field.name != "resized_crop"]
        names += ["resized_crop"] * self.resized_crop
        return f"Augment({', '.join(f'{name}={getattr(self, name)!r}' for name in names)})"

    @property
    def words(self) -> int:
        """The number of random words of an image."""
        return ROW + CROP_WORDS * self.resized_crop

    def draw(self, seed: int, epoch: int, count: int) -> Draw:
        """Return a function from indices (n,), below count, to the random words of these images.

        The words (n, self.words) depend on seed, epoch and index only.
        """
        table = rows(stream(seed, epoch, "augment"), 0, count, ROW)
        if not self.resized_crop:
            return table.__getitem__
        bits = stream(seed, epoch, "resized crop")
        return lambda which: np.hstack([table[which], rows_at(bits, which, CROP_WORDS)])

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise an error if images of shape (N, 3, H, W) are too small for these settings.

        Raises
        ------
        ValueError
            If crop or cutout is larger than the images.
        ImportError
            If a resized crop needs Pillow, and it is not installed.
        """
        side = min(shape[2:])
        if self.resized_crop:
            pillow()
        for name in ("cutout",) if self.resized_crop else ("crop", "cutout"):
            hint = f"the images are {shape[2]} x {shape[3]}"
            check_within("Augment", name, getattr(self, name), 0, side, hint)

    def __call__(self, images: Bytes | LazyImages, words: Words) -> Bytes:
        """Return augmented copies of images, of the same shape.

        Parameters
        ----------
        images : ndarray of shape (N, 3, H, W), uint8, or LazyImages
            Images; they are not changed.
        words : ndarray of shape (N, 4) or, with resized_crop, (N, 44), uint64
            Random words of each image: row of the crop, column of the crop, flip, and the cutout's
            centre, its row in the upper and its column in the lower half; then those of the resized
            crop (data.crops.random_box).
        """
        self.check(images.shape)
        if words.shape != (len(images), self.words):
            raise ValueError(
                f"Augment: words has shape {words.shape}, expected ({len(images)}, {self.words}): "
                "pass one row per image, for example augment.draw(seed, epoch, N)(np.arange(N))"
            )
        if self.resized_crop:
            out = _resized_crops(images, words[:, ROW:])
        else:
            pixels = images[:] if isinstance(images, LazyImages) else images
            out = self._cropped(pixels, words) if self.crop else pixels.copy()
        if self.flip:
            mirrored = integers_below(words[:, 2], 2) == 1
            out[mirrored] = out[mirrored, :, :, ::-1]
        if self.cutout:
            self._blank_squares(out, words[:, 3])
        return out

    def _cropped(self, images: Bytes, words: Words) -> Bytes:
        N, C, H, W = images.shape
        padded = np.empty((N, C, H + 2 * self.crop, W + 2 * self.crop), np.uint8)
        padded[:] = np.array(self.fill, np.uint8)[:, None, None]
        padded[:, :, self.crop : self.crop + H, self.crop : self.crop + W] = images
        windows = sliding_window_view(padded, (H, W), axis=(2, 3))
        top = integers_below(words[:, 0], 2 * self.crop + 1)
        left = integers_below(words[:, 1], 2 * self.crop + 1)
        return windows[np.arange(N), :, top, left]

    def _blank_squares(self, out: Bytes, words: Words) -> None:
        _, _, H, W = out.shape
        rows = self._span(integers_below(words, H), H)
        columns = self._span(integers_below(words << np.uint64(32), W), W)
        hole = rows[:, None, :, None] & columns[:, None, None, :]
        np.copyto(out, np.array(self.fill, np.uint8)[:, None, None], where=hole)

    def _span(self, centre: NDArray[np.int64], size: int) -> NDArray[np.bool_]:
        """Return for each centre a mask (size,) of the rows or columns that the square covers."""
        start = centre[:, None] - self.cutout // 2
        index = np.arange(size)
        return (start <= index) & (index < start + self.cutout)


def check_one_crop(where: str, crop: int, resized_crop: bool, fix: str = "leave one out") -> None:
    """Raise ValueError if a crop with padding other than the default is set with resized_crop."""
    if resized_crop and crop not in (0, CROP):
        raise ValueError(
            f"{where}: crop is {crop} and resized_crop is True, expected one of them, because a "
            f"resized crop replaces the crop with padding: {fix}"
        )


def _resized_crops(images: Bytes | LazyImages, words: Words) -> Bytes:
    """Return a random part of each image, scaled to the images' size; words are (N, 40)."""
    out = np.empty(images.shape, np.uint8)
    _, _, H, W = images.shape
    for k, row in enumerate(words):
        if isinstance(images, LazyImages):
            out[k] = images.part(k, partial(random_box, words=row), reduced=True)
        else:
            out[k] = part_of(images[k], random_box(H, W, row), (H, W))
    return out

"""Random crops, flips and cutouts of a batch, determined by four random words per image."""

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from minise.checks import check_flag, check_integer, check_triple, check_within
from minise.data.dataset import Bytes
from minise.data.streams import ROW, Words, integers_below


@dataclass(frozen=True)
class Augment:
    """Random crop with padding, horizontal flip and cutout.

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

    crop: int = 4
    flip: bool = True
    cutout: int = 0
    fill: tuple[int, int, int] = (0, 0, 0)

    def __post_init__(self) -> None:
        check_integer("Augment", "crop", self.crop, 0)
        check_flag("Augment", "flip", self.flip)
        check_integer("Augment", "cutout", self.cutout, 0)
        for channel in check_triple("Augment", "fill", self.fill):
            if not (channel.is_integer() and 0 <= channel <= 255):
                raise ValueError(
                    f"Augment: fill is {self.fill!r}, expected three integers in 0..255: "
                    "scale means in 0..1 by 255 and round them"
                )

    def check(self, shape: tuple[int, ...]) -> None:
        """Raise ValueError if images of shape (N, 3, H, W) are too small for these settings."""
        side = min(shape[2:])
        for name in ("crop", "cutout"):
            hint = f"the images are {shape[2]} x {shape[3]}"
            check_within("Augment", name, getattr(self, name), 0, side, hint)

    def __call__(self, images: Bytes, words: Words) -> Bytes:
        """Return augmented copies of images, of the same shape.

        Parameters
        ----------
        images : ndarray of shape (N, 3, H, W), uint8
            Images; they are not changed.
        words : ndarray of shape (N, 4), uint64
            Four random words per image: row of the crop, column of the crop, flip, and the cutout's
            centre, its row in the upper and its column in the lower half.
        """
        self.check(images.shape)
        if words.shape != (len(images), ROW):
            raise ValueError(
                f"Augment: words has shape {words.shape}, expected ({len(images)}, {ROW}): "
                "pass one row per image, for example rows(stream(...), 0, N)"
            )
        out = self._cropped(images, words) if self.crop else images.copy()
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

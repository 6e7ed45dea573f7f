"""The picture of batch normalisation's axes: the numbers that share a mean, beside those of SE."""

from typing import NamedTuple

from minise.ops.reference import norm
from minise.ops.reference.squeezes import SQUEEZES
from minise.pictures.svg import Canvas, Picture, Point

N, C, PIXELS = 3, 4, 5  # drawn; PIXELS stands for H * W
CHOSEN = (0, C - 1)  # n, c of the number whose companions are coloured
CELL, DEPTH = 27, 15  # size of a cell, and how far the next image lies back
AXES_OF_X = ("N", "C", "H", "W")


class Mean(NamedTuple):
    """A mean that an op takes."""

    op: str
    name: str
    axes: tuple[int, ...]  # of x, over which the mean is taken
    shape: str
    lines: tuple[str, ...]
    back: str

    def shares(self, n: int, c: int) -> bool:
        """Return whether the pixels of image n, channel c are in the mean of CHOSEN."""
        index = n, c
        return all(axis in self.axes or index[axis] == CHOSEN[axis] for axis in (0, 1))


MEANS = (
    Mean(
        "batch_norm2d",
        "mean",
        norm.AXES,
        "(C,)",
        ("one for each channel,",),
        "each dx needs dout of all",
    ),
    Mean(
        "squeeze_excite",
        "z",
        SQUEEZES["avg"],
        "(N, C, 1, 1)",
        ("one for each channel", "of each image,"),
        "each gets dz / (H * W)",
    ),
)


def batch_norm_axes() -> Picture:
    """Return the picture of the numbers of x (N, C, H, W) that share a mean."""
    canvas = Canvas(540)
    for mean, left in zip(MEANS, (44, 282), strict=True):
        canvas.text(left - 10, 32, mean.op, "ink strong code")
        _volume(canvas, mean, left, 106)
        _labels(canvas, left, 106)
        middle = left + C * CELL / 2
        canvas.arrow([(middle, 272), (middle, 304)])
        _means(canvas, mean, left, 316)
        over = " * ".join(AXES_OF_X[axis] for axis in mean.axes)
        texts = [*mean.lines, f"from {over} numbers"]
        canvas.text(left, 424, [(mean.name, "forward strong code"), ("  " + mean.shape, "soft")])
        for k, text in enumerate(texts):
            canvas.text(left, 448 + 22 * k, text, "soft")
        canvas.text(left, 524, mean.back, "backward")
    return canvas.picture(
        "The numbers that share a mean in batch normalisation",
        "x is a box with the axes N, C and H, W. In batch_norm2d all numbers of a channel, of all "
        "images and pixels, share one mean, so that there are C means. In squeeze_excite only the "
        "pixels of one channel of one image share z, so that there are N * C. Backward, each dx of "
        "batch_norm2d depends on the dout of all numbers that share its mean; in squeeze_excite "
        "each pixel gets an equal share of dz.",
    )


def _volume(canvas: Canvas, mean: Mean, x: float, y: float) -> None:
    """Draw the box of x; (x, y) is the upper left corner of the front, image 0."""

    def face(corner: Point, across: Point, down: Point, shared: bool, wash: float) -> None:
        (a, b), (u, v), (s, t) = corner, across, down
        points = [(a, b), (a + u, b + v), (a + u + s, b + v + t), (a + s, b + t)]
        fill, opacity = ("forward", wash) if shared else ("panel", 1)
        canvas.polygon(points, "paper")
        canvas.polygon(points, fill, "soft", opacity=opacity)

    back = (DEPTH, -DEPTH)
    for n in reversed(range(N)):
        at = x + DEPTH * n, y - DEPTH * n
        for c in range(C):
            face((at[0] + CELL * c, at[1]), (CELL, 0), back, mean.shares(n, c), 0.45)
        for p in range(PIXELS):
            face((at[0] + CELL * C, at[1] + CELL * p), back, (0, CELL), mean.shares(n, C - 1), 0.85)
    for c in range(C):
        for p in range(PIXELS):
            corner = x + CELL * c, y + CELL * p
            face(corner, (CELL, 0), (0, CELL), mean.shares(0, c), 0.65)


def _labels(canvas: Canvas, x: float, y: float) -> None:
    """Write the names of the axes beside the box."""
    right, bottom = x + CELL * C, y + CELL * PIXELS
    canvas.text(x + CELL * C / 2, bottom + 20, "C", "soft code", anchor="middle")
    canvas.text(x - 10, y + CELL * PIXELS / 2, "H", "soft code", anchor="end")
    canvas.text(x - 10, y + CELL * PIXELS / 2 + 20, "W", "soft code", anchor="end")
    canvas.text(right + DEPTH * N / 2 + 12, bottom - DEPTH * N / 2 + 14, "N", "soft code")


def _means(canvas: Canvas, mean: Mean, x: float, y: float) -> None:
    """Draw the means as cells, one row for all images or one for each."""
    rows = 1 if 0 in mean.axes else N
    for n in range(rows):
        for c in range(C):
            chosen = mean.shares(n, c) and c == CHOSEN[1]
            canvas.box(
                x + CELL * c,
                y + CELL * n,
                CELL,
                CELL,
                "forward" if chosen else "panel",
                "soft",
                radius=0,
                opacity=0.65 if chosen else 1,
                thick=1,
            )

"""The picture of max pooling with overlapping windows: forward takes maxima, backward goes back."""

from itertools import product

import numpy as np

from minise.checks import Array, Pair
from minise.ops.reference.pool import MaxPool2dCache, max_pool2d_backward, max_pool2d_forward
from minise.pictures.svg import Canvas, Picture, Point

X = ((1, 3, 6, 0), (2, 8, 1, 5), (9, 0, 5, 4))  # 8 is the maximum of three windows; 5 and 5 tie
DOUT = ((1, 2, 3), (4, 2, 1))
FRAMED = (0, 0)  # p, q of the window that is framed
KERNEL, STRIDE = (2, 2), (1, 1)
CELL = 84
LEFT = 72
RING = 17  # radius of a maximum's circle


class Routes:
    """A run of max_pool2d on the drawn numbers."""

    def __init__(self) -> None:
        self.x = np.array(X, float)[None, None]
        self.dout = np.array(DOUT, float)[None, None]
        self.out, self.cache = max_pool2d_forward(self.x, kernel=KERNEL, stride=STRIDE)
        (self.dx,) = max_pool2d_backward(self.dout, self.cache)

    def routes(self) -> dict[Pair, Pair]:
        """Return the row and column of each window's maximum, by p, q of the window."""
        return routes_of(self.cache)

    def ties(self) -> dict[Pair, list[Pair]]:
        """Return the other pixels of a window that are as large as its maximum, by p, q."""
        ties = {}
        for (p, q), first in self.routes().items():
            inside = product(range(p, p + KERNEL[0]), range(q, q + KERNEL[1]))
            equal = [at for at in inside if self.x[0, 0][at] == self.out[0, 0, p, q]]
            if len(equal) > 1:
                ties[p, q] = [at for at in equal if at != first]
        return ties


def routes_of(cache: MaxPool2dCache) -> dict[Pair, Pair]:
    """Return the row and column of each window's maximum, by p, q, in the first channel."""
    W = cache.x.shape[3]
    argmax = cache.argmax[0, 0]
    return {(p, q): divmod(int(argmax[p, q]), W) for p, q in np.ndindex(*argmax.shape)}


def max_pool_routes() -> Picture:
    """Return the picture of the maxima of windows, and of the way of dout back to them."""
    run = Routes()
    maxima = set(run.routes().values())
    first, second = 88, 88 + CELL * len(X) + 118  # y of the two grids
    canvas = Canvas(second + CELL * len(X) + 24)
    canvas.text(
        LEFT, 36, [("out", "forward strong code"), (": the maximum of each window", "soft")]
    )
    canvas.text(LEFT, 62, "of 2 x 2 pixels, in a square at its centre", "soft")
    _grid(canvas, first, run.x[0, 0], "forward", maxima)
    ties = {at for others in run.ties().values() for at in others}
    for tied in ties:
        x, y = _centre(first, tied)
        canvas.circle(x, y, RING, "none", "forward", dashed=True)
    canvas.text(LEFT, second - 84, "dashed: tied, but the first wins", "soft")
    canvas.text(
        LEFT, second - 50, [("dout", "backward strong code"), (" goes to the maximum;", "soft")]
    )
    canvas.text(
        LEFT, second - 24, [("dx", "backward strong code"), (" is the sum of what arrives", "soft")]
    )
    _grid(canvas, second, run.dx[0, 0], "backward", maxima)
    p, q = FRAMED
    corner = LEFT + CELL * q * STRIDE[1] + 17, first + CELL * p * STRIDE[0] + 17
    canvas.box(*corner, KERNEL[1] * CELL - 34, KERNEL[0] * CELL - 34, "none", "ink", thick=2)
    for at, maximum in run.routes().items():
        _window(canvas, first, at, maximum, "forward", run.out[0, 0][at])
        _window(canvas, second, at, maximum, "backward", run.dout[0, 0][at])
    return canvas.picture(
        "Max pooling: where a maximum comes from, and where its gradient goes",
        "Windows of 2 x 2 pixels overlap. Above, an arrow leads from the maximum of each window to "
        "out. Below, dout returns along the same arrows and is added up in dx: a pixel that is the "
        "maximum of several windows gets the sum, a pixel that is of none gets 0. Of tied maxima "
        "the first gets all.",
    )


def _grid(canvas: Canvas, y: float, values: Array, role: str, maxima: set[Pair]) -> None:
    """Draw the pixels, those of maxima in circles."""
    rows, columns = values.shape
    for r, c in product(range(rows), range(columns)):
        at = LEFT + CELL * c, y + CELL * r
        canvas.box(*at, CELL, CELL, "panel", "rule", radius=0, thick=1)
        x, middle = _centre(y, (r, c))
        if (r, c) in maxima:
            canvas.circle(x, middle, RING, f"{role}-wash", role)
        style = "ink strong" if (r, c) in maxima else "soft"
        canvas.text(x, middle + 6, f"{values[r, c]:.0f}", style, anchor="middle", size=18)


def _centre(top: float, pixel: Pair) -> Point:
    return LEFT + CELL * (pixel[1] + 0.5), top + CELL * (pixel[0] + 0.5)


def _window(
    canvas: Canvas, top: float, window: Pair, maximum: Pair, role: str, value: float
) -> None:
    """Draw a window's number where its pixels meet, and the arrow from or to its maximum."""
    x, y = LEFT + CELL * (window[1] + 1), top + CELL * (window[0] + 1)
    u, v = _centre(top, maximum)
    far = 0.43  # of the way from the maximum: the rim of its circle
    near = 0.78
    start = u + far * (x - u), v + far * (y - v)
    end = u + near * (x - u), v + near * (y - v)
    canvas.arrow([start, end] if role == "forward" else [end, start], role)
    canvas.box(x - 12, y - 12, 24, 24, "paper", role, radius=4)
    canvas.text(x, y + 5.5, f"{value:.0f}", role, anchor="middle")

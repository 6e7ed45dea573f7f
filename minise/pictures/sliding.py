"""The picture of windows: an image with its padding, one window, and one offset of all windows."""

import inspect
import re
from itertools import product

import numpy as np

from minise.checks import Array, Pair
from minise.ops.reference import windows
from minise.ops.reference.windows import Windows, pad, windows_of
from minise.pictures.svg import Canvas, Picture

CELL = 36
LEFT, VIEW = 22, 350  # x of the image and of the strided view
CASES = (
    windows_of((5, 5), (3, 3), (2, 2), (1, 1)),
    windows_of((5, 5), (3, 3), (1, 1), (1, 1), (2, 2)),
)
OFFSET: Pair = (1, 2)  # i, j of the pixels that are coloured
FRAMED: Pair = (0, 0)  # p, q of the window that is framed


def image(where: Windows) -> Array:
    """Return the drawn image, (H, W): its pixels count from 1; the padding is 0."""
    H, W = where.image
    return np.arange(1, H * W + 1).reshape(H, W)


def pixels(where: Windows, framed: Pair) -> set[Pair]:
    """Return the rows and columns, in the padded image, of the pixels of one window."""
    p, q = framed
    return {
        (p * where.stride[0] + i * where.dilation[0], q * where.stride[1] + j * where.dilation[1])
        for i, j in where.offsets()
    }


def view(where: Windows, offset: Pair) -> set[Pair]:
    """Return the rows and columns, in the padded image, of the pixels at one offset."""
    places = np.indices(pad(image(where), where).shape)
    rows, columns = (windows.window(np.asarray(index), where, *offset) for index in places)
    at = zip(rows.ravel().tolist(), columns.ravel().tolist(), strict=True)
    return set(at)


def formula() -> tuple[str, str, str]:
    """Return three parts of the formula of a view, from the docstring of the windows."""
    match = re.search(r"(window\(padded.*\]) = (padded.*?,) (q .*)", inspect.getdoc(windows) or "")
    assert match
    return match[1], match[2], match[3]


def window() -> Picture:
    """Return the picture of two settings of windows on a padded image."""
    height = 352
    end = height * len(CASES)
    canvas = Canvas(end + 104)
    for k, where in enumerate(CASES):
        _case(canvas, height * k, where)
    for k, (role, text) in enumerate(
        [
            ("ink", "framed: the"),
            ("ink", "first window"),
            ("forward", "filled: offset"),
            ("forward", f"{OFFSET} of each"),
        ]
    ):
        canvas.text(VIEW - 8, 252 + 22 * k + 10 * (k > 1), text, role)
    left, row, column = formula()
    canvas.text(LEFT, end, left, "forward code")
    canvas.text(LEFT + 19, end + 24, f"= {row}", "forward code")
    canvas.text(LEFT + 106, end + 48, column, "forward code")
    for k, text in enumerate(("outside:", f"padding {CASES[0].padding[0]}")):
        canvas.text(VIEW - 8, height + 252 + 22 * k, text, "soft")
    canvas.text(LEFT, end + 80, "Backward adds a gradient to the same view.", "backward")
    return canvas.picture(
        "A window, and one offset of all windows",
        "Two images of 5 x 5 pixels with a frame of zeros. A window of 3 x 3 pixels is framed. All "
        "pixels at one offset (i, j) of their window are filled: they are one strided view of the "
        "padded image, shown beside it. In the first image the windows are 2 pixels apart; in the "
        "second the pixels of a window are, which is dilation 2. Backward adds a gradient to the "
        "same view.",
    )


def _case(canvas: Canvas, top: float, where: Windows) -> None:
    """Draw one padded image and its view."""
    i, j = OFFSET
    settings = f"stride {where.stride[0]}, dilation {where.dilation[0]}"
    canvas.text(LEFT, top + 36, settings, "ink strong")
    padded = pad(image(where), where)
    _grid(canvas, LEFT, top + 54, where, padded)
    canvas.text(456, top + 36, f"window(padded, {i}, {j})", "forward code", anchor="end")
    canvas.arrow([(LEFT + 7 * CELL + 16, top + 144), (VIEW - 14, top + 144)])
    _view(canvas, VIEW, top + 144, windows.window(padded, where, i, j))


def _grid(canvas: Canvas, x: float, y: float, where: Windows, padded: Array) -> None:
    filled, framed = view(where, OFFSET), pixels(where, FRAMED)
    inside = {(r + where.padding[0], c + where.padding[1]) for r, c in np.ndindex(where.image)}
    for r, c in product(*map(range, padded.shape)):
        at = x + CELL * c, y + CELL * r
        inner = (r, c) in inside
        canvas.box(*at, CELL, CELL, "panel" if inner else "paper", "rule", radius=0, thick=1)
        if (r, c) in filled:
            canvas.box(*at, CELL, CELL, "forward", "none", radius=0, opacity=0.4)
        role = "ink" if inner or (r, c) in filled else "soft"
        canvas.text(
            at[0] + CELL / 2, at[1] + CELL / 2 + 5.5, f"{padded[r, c]}", role, anchor="middle"
        )
    top, left = where.padding
    canvas.box(
        x + CELL * left,
        y + CELL * top,
        CELL * where.image[1],
        CELL * where.image[0],
        "none",
        "soft",
        radius=0,
    )
    for r, c in framed:
        at = x + CELL * c + 3, y + CELL * r + 3
        canvas.box(*at, CELL - 6, CELL - 6, "none", "ink", radius=4, thick=2)


def _view(canvas: Canvas, x: float, y: float, values: Array) -> None:
    OH, OW = values.shape
    top = y - CELL * OH / 2
    for p, q in np.ndindex(OH, OW):
        at = x + CELL * q, top + CELL * p
        canvas.box(*at, CELL, CELL, "forward", "none", radius=0, opacity=0.4)
        canvas.box(*at, CELL, CELL, "none", "forward", radius=0, thick=1)
        canvas.text(at[0] + CELL / 2, at[1] + CELL / 2 + 5.5, f"{values[p, q]}", anchor="middle")
    canvas.text(x + CELL * OW / 2, top - 12, "(OH, OW)", "soft", anchor="middle")

"""Charts in the style of minise.pictures: axes, lines, bands, points with bars, small images."""

from base64 import b64encode
from collections.abc import Sequence
from io import BytesIO

import numpy as np

from minise.checks import Array
from minise.pictures.svg import WIDTH, Canvas, Picture

LEFT, RIGHT = 56, 18  # width of the margins beside the axes
Span = tuple[float, float]


class Chart(Canvas):
    """A canvas with a horizontal and a vertical axis.

    Parameters
    ----------
    height : float
        Height of the picture.
    xs, ys : (float, float)
        First and last value on each axis.
    top, bottom : float
        Height of the margins above and below the axes.
    """

    def __init__(
        self, height: float, xs: Span, ys: Span, *, top: float = 40, bottom: float = 50
    ) -> None:
        super().__init__(height)
        self.xs, self.ys, self.top, self.bottom = xs, ys, top, bottom

    def x(self, value: float) -> float:
        """Return the x coordinate of a value."""
        share = (value - self.xs[0]) / (self.xs[1] - self.xs[0])
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        """Return the y coordinate of a value."""
        share = (value - self.ys[0]) / (self.ys[1] - self.ys[0])
        return self.height - self.bottom - share * (self.height - self.bottom - self.top)

    def axes(self, xlabel: str, ylabel: str, ticks: Sequence[tuple[float, str]]) -> None:
        """Draw the values of the vertical axis with their lines, and both labels."""
        for value, label in ticks:
            self.line([(self.xs[0], value), (self.xs[1], value)], "rule", thick=1)
            self.text(LEFT - 8, self.y(value) + 5, label, "soft", anchor="end")
        self.text(12, 24, ylabel, "soft")
        if xlabel:
            self.text(WIDTH - RIGHT, self.height - 12, xlabel, "soft", anchor="end")

    def xticks(self, ticks: Sequence[tuple[float, str]]) -> None:
        """Write values below the horizontal axis."""
        for value, label in ticks:
            self.text(self.x(value), self.height - self.bottom + 20, label, "soft", anchor="middle")

    def line(self, points: Sequence[tuple[float, float]], role: str, *, thick: float = 2) -> None:
        """Draw a line through points, given as values."""
        places = [(self.x(x), self.y(y)) for x, y in points]
        self.polygon([*places, *reversed(places)], "none", role, thick=thick)

    def band(
        self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], role: str
    ) -> None:
        """Fill the area between two lines, half transparent."""
        upper = [(self.x(x), self.y(y)) for x, y in zip(xs, high, strict=True)]
        lower = [(self.x(x), self.y(y)) for x, y in zip(xs, low, strict=True)]
        self.polygon([*upper, *reversed(lower)], role, opacity=0.22)

    def point(self, x: float, y: float, role: str, *, radius: float = 5) -> None:
        """Draw a point."""
        self.circle(self.x(x), self.y(y), radius, role, "none")

    def bar(self, x: float, low: float, high: float, role: str) -> None:
        """Draw a vertical interval."""
        self.line([(x, low), (x, high)], role, thick=2)

    def image(self, x: float, y: float, size: float, pixels: Array, label: str) -> None:
        """Draw uint8 pixels, (3, H, W), as a square whose upper left corner is at (x, y)."""
        address = f"data:image/png;base64,{b64encode(png(pixels)).decode()}"
        position = f'x="{x:g}" y="{y:g}" width="{size:g}" height="{size:g}"'
        style = "image-rendering:pixelated"
        self._parts.append(
            f'<image {position} href="{address}" style="{style}" role="img" aria-label="{label}"/>'
        )


def png(pixels: Array) -> bytes:
    """Return an image of uint8 pixels, (3, H, W), as the bytes of a PNG file."""
    from PIL import Image

    stream = BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels.transpose(1, 2, 0))).save(stream, "PNG")
    return stream.getvalue()


def figure(picture: Picture, caption: str) -> str:
    """Return a picture with its caption as HTML, one block of Markdown."""
    svg = "\n".join(line for line in picture.svg.splitlines() if line.strip())
    return f'<figure class="figure">\n{svg}\n<figcaption>{caption}</figcaption>\n</figure>'

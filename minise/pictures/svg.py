"""A picture as SVG, and the primitives it is drawn with: text, boxes, arrows, stacks of channels.

A picture is `WIDTH` units wide and its text `TEXT` units high, so that text is at least 12 px high
on a phone of 360 px. Colours have roles, as on the pages of `minise walk`, whose stylesheet defines
them: "forward" and "backward" for the two passes, "ink" and "soft" for text, "rule" for frames,
"panel" and the two washes for areas. Inline in a page of the package a picture has the page's
colours; alone, as the file of an <img>, it follows the reader's colour scheme.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from html import escape
from typing import TypeAlias

from minise.walk.page import asset

WIDTH = 480
TEXT = 16  # 12 px where the picture is 360 px wide
ROLES = (
    *("ink", "soft", "rule", "paper", "panel"),
    *("forward", "forward-wash", "backward", "backward-wash"),
)
ROUND = 10  # radius of an arrow's corners
HEAD = 9  # length of an arrow's head

Point: TypeAlias = tuple[float, float]
Runs: TypeAlias = "str | Sequence[tuple[str, str]]"  # text, or pairs of a text and its classes


@dataclass(frozen=True)
class Picture:
    """A picture as SVG, with the text for readers who do not see it.

    A notebook shows it inline.

    Attributes
    ----------
    title : str
        What the picture shows, in a few words.
    description : str
        What the picture says, in sentences: the alternative text of an image.
    svg : str
        The SVG element.
    """

    title: str
    description: str
    svg: str

    def _repr_html_(self) -> str:
        """Return the SVG, which is at most WIDTH px wide and narrower on a phone."""
        return f'<div style="margin:1rem 0">{self.svg}</div>'


class Canvas:
    """An area to draw on, `WIDTH` wide; y grows downwards."""

    def __init__(self, height: float) -> None:
        self.height = height
        self._parts: list[str] = []

    def text(
        self,
        x: float,
        y: float,
        runs: Runs,
        classes: str = "ink",
        *,
        anchor: str = "start",
        size: float = TEXT,
    ) -> None:
        """Write a line; y is its baseline, and anchor is "start", "middle" or "end".

        Classes are a colour's role, and "code" for names of the code or "strong" for bold text.
        """
        spans = [(runs, "")] if isinstance(runs, str) else runs
        inner = "".join(
            f'<tspan class="{_prefixed(own)}">{escape(text)}</tspan>' if own else escape(text)
            for text, own in spans
        )
        font = "" if size == TEXT else f' style="font-size:{_number(size)}px"'
        end = "" if anchor == "start" else f' text-anchor="{anchor}"'
        position = f'x="{_number(x)}" y="{_number(y)}"'
        self._parts.append(
            f'<text class="{_prefixed(classes)}" {position}{end}{font}>{inner}</text>'
        )

    def box(
        self,
        x: float,
        y: float,
        width: float,
        height: float,
        fill: str = "panel",
        stroke: str = "rule",
        *,
        radius: float = 6,
        opacity: float = 1,
        dashed: bool = False,
        thick: float = 1.5,
    ) -> None:
        """Draw a rectangle; fill and stroke are roles, or "none"."""
        position = " ".join(
            f'{name}="{_number(value)}"'
            for name, value in (("x", x), ("y", y), ("width", width), ("height", height))
        )
        rounded = f' rx="{_number(radius)}"' if radius else ""
        self._parts.append(
            f"<rect {position}{rounded}{_paint(fill, stroke, opacity, dashed, thick)}/>"
        )

    def polygon(
        self,
        points: Sequence[Point],
        fill: str = "panel",
        stroke: str = "none",
        *,
        opacity: float = 1,
        thick: float = 1,
    ) -> None:
        """Draw a filled polygon."""
        corners = " ".join(f"{_number(x)},{_number(y)}" for x, y in points)
        self._parts.append(
            f'<polygon points="{corners}"{_paint(fill, stroke, opacity, False, thick)}/>'
        )

    def circle(
        self,
        x: float,
        y: float,
        radius: float,
        fill: str = "paper",
        stroke: str = "ink",
        *,
        dashed: bool = False,
    ) -> None:
        """Draw a circle around (x, y)."""
        position = f'cx="{_number(x)}" cy="{_number(y)}" r="{_number(radius)}"'
        self._parts.append(f"<circle {position}{_paint(fill, stroke, 1, dashed, 1.5)}/>")

    def arrow(
        self,
        points: Sequence[Point],
        role: str = "forward",
        *,
        head: bool = True,
        thick: float = 2.5,
        dashed: bool = False,
    ) -> None:
        """Draw a line through points, with round corners and a head at its end."""
        if head:
            points = [*points[:-1], _before(points[-2], points[-1], HEAD * 0.7)]
        path = f"M{_pair(points[0])}"
        for before, corner, after in zip(points, points[1:], points[2:], strict=False):
            start, end = _before(before, corner, ROUND), _before(after, corner, ROUND)
            path += f"L{_pair(start)}Q{_pair(corner)} {_pair(end)}"
        path += f"L{_pair(points[-1])}"
        self._parts.append(f'<path d="{path}"{_paint("none", role, 1, dashed, thick)}/>')
        if head:
            self._head(points[-2], points[-1], role)

    def _head(self, before: Point, base: Point, role: str) -> None:
        (x, y), (u, v) = base, _direction(before, base)
        tip = x + 0.7 * HEAD * u, y + 0.7 * HEAD * v
        back = x - 0.3 * HEAD * u, y - 0.3 * HEAD * v
        side = 0.55 * HEAD
        left = back[0] - side * v, back[1] + side * u
        right = back[0] + side * v, back[1] - side * u
        self.polygon([tip, left, right], role)

    def cells(
        self,
        x: float,
        y: float,
        shades: Sequence[float],
        role: str = "forward",
        *,
        size: float = 22,
    ) -> None:
        """Draw a row of square cells, each filled with a share of a colour, 0..1."""
        for k, shade in enumerate(shades):
            at = x + k * size
            self.box(at, y, size, size, role, "none", radius=0, opacity=shade)
            self.box(at, y, size, size, "none", role, radius=0)

    def stack(
        self,
        x: float,
        y: float,
        shades: Sequence[float],
        role: str = "forward",
        *,
        size: float = 72,
        step: float = 9,
    ) -> None:
        """Draw channels one behind the other, each filled with a share of a colour, 0..1.

        (x, y) is the upper left corner of the first channel, which lies in front.
        """
        for k in reversed(range(len(shades))):
            at = x + k * step, y - k * step
            self.box(*at, size, size, "paper", "none", radius=2)
            self.box(*at, size, size, role, "none", radius=2, opacity=shades[k])
            self.box(*at, size, size, "none", role, radius=2)

    def picture(self, title: str, description: str) -> Picture:
        """Return what was drawn as a picture."""
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" class="mp" role="img" '
            f'viewBox="0 0 {WIDTH} {_number(self.height)}" width="{WIDTH}" '
            f'height="{_number(self.height)}">'
        )
        names = f"<title>{escape(title)}</title>\n<desc>{escape(description)}</desc>"
        ground = f'<rect width="{WIDTH}" height="{_number(self.height)}" rx="8" class="mp-ground"/>'
        parts = [head, names, f"<style>{stylesheet()}</style>", ground, *self._parts, "</svg>"]
        return Picture(title, description, "\n".join(parts) + "\n")


@cache
def colours() -> dict[str, dict[str, str]]:
    """Return the colours of each theme, "light" and "dark", by role, as in the pages of walk."""
    rules = re.findall(r"^:root(.*?)\{(.*?)\}", asset("page.css"), re.DOTALL | re.MULTILINE)
    light, dark = (dict(re.findall(r"--([\w-]+):\s*(#\w+)", body)) for _, body in rules[:2])
    return {
        "light": {role: light[role] for role in ROLES},
        "dark": {role: dark[role] for role in ROLES},
    }


@cache
def stylesheet() -> str:
    """Return the style of all pictures: a page's own colours where it defines them."""
    variables = {
        theme: "".join(f"--mp-{role}:var(--{role},{value});" for role, value in table.items())
        for theme, table in colours().items()
    }
    roles = "".join(f".mp .mp-{role}{{fill:var(--mp-{role})}}" for role in ROLES)
    return (
        f".mp{{display:block;margin:auto;max-width:100%;height:auto;{variables['light']}}}"
        f"@media(prefers-color-scheme:dark){{.mp{{{variables['dark']}}}}}"
        f'[data-theme="light"] .mp{{{variables["light"]}}}'
        f'[data-theme="dark"] .mp{{{variables["dark"]}}}'
        f".mp .mp-ground{{fill:var(--mp-paper)}}"
        f".mp text{{font:{TEXT}px var(--ui,system-ui,-apple-system,'Segoe UI',Roboto,"
        f"'Helvetica Neue','DejaVu Sans',sans-serif)}}"
        f"{roles}"
        f".mp .mp-code{{font-family:var(--code,ui-monospace,SFMono-Regular,Menlo,Consolas,"
        f"'DejaVu Sans Mono',monospace)}}"
        f".mp .mp-strong{{font-weight:600}}"
    )


def _prefixed(classes: str) -> str:
    return " ".join(f"mp-{name}" for name in classes.split())


def _paint(fill: str, stroke: str, opacity: float, dashed: bool, thick: float) -> str:
    style = f"fill:{_colour(fill)}"
    if opacity != 1:
        style += f";fill-opacity:{_number(opacity)}"
    if stroke != "none":
        style += f";stroke:{_colour(stroke)};stroke-width:{_number(thick)}"
    if dashed:
        style += ";stroke-dasharray:5 4"
    return f' style="{style}"'


def _colour(role: str) -> str:
    if role != "none" and role not in ROLES:
        raise ValueError(f"pictures: role is {role!r}, expected one of {', '.join(ROLES)}")
    return role if role == "none" else f"var(--mp-{role})"


def _number(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")


def _pair(point: Point) -> str:
    return f"{_number(point[0])} {_number(point[1])}"


def _direction(start: Point, end: Point) -> Point:
    across, down = end[0] - start[0], end[1] - start[1]
    length = max(1e-9, (across**2 + down**2) ** 0.5)
    return across / length, down / length


def _before(start: Point, end: Point, length: float) -> Point:
    """Return the point on the line from start to end that is a length before its end."""
    u, v = _direction(start, end)
    return end[0] - length * u, end[1] - length * v

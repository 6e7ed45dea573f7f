"""Where the texts of a picture stand, measured with a table of the widths of characters."""

import re
from typing import NamedTuple
from xml.etree import ElementTree

SVG = "{http://www.w3.org/2000/svg}"
MONO, BOLD = 0.602, 1.1  # widths of a character of code in em; of bold text, relative
# widths in em of DejaVu Sans, among the widest of the usual fonts, rounded up to 0.05
WIDTHS = {
    0.3: "'IJijl",
    0.35: " ,./:;\\|·",
    0.4: "()-[]ft",
    0.45: "!r",
    0.5: '"*_`',
    0.55: "?csz",
    0.6: "FLkvxy",
    0.65: "$0123456789EPSTYabdeghnopqu{}",
    0.7: "ABCKRVXZ",
    0.75: "NU",
    0.8: "&DGHOQ",
    0.85: "#+<=>^w~↓↑→←≤",
    0.9: "M",
    1.0: "%@Wm…",
}
WIDTHS[0.85] += "\N{MULTIPLICATION SIGN}\N{MINUS SIGN}"
EM = {character: width for width, characters in WIDTHS.items() for character in characters}


class Box(NamedTuple):
    """The rectangle of a line of text."""

    left: float
    top: float
    right: float
    bottom: float
    text: str
    size: float

    def overlaps(self, other):
        """Return whether two boxes have an area in common."""
        return min(self.right, other.right) > max(self.left, other.left) and min(
            self.bottom, other.bottom
        ) > max(self.top, other.top)


def width(text, classes, size):
    """Return the width of a text."""
    if "mp-code" in classes:
        return len(text) * MONO * size
    em = sum(EM[character] for character in text)
    return em * size * (BOLD if "mp-strong" in classes else 1)


def boxes(svg):
    """Return the box of every text of a picture, after rotation."""
    return [_box(element) for element in ElementTree.fromstring(svg).iter(f"{SVG}text")]


def _box(element):
    own = element.get("class", "").split()
    size = float(re.search(r"font-size:([\d.]+)", element.get("style", "font-size:16"))[1])
    runs = [(element.text or "", own)]
    for span in element:
        runs += [(span.text or "", own + span.get("class", "").split()), (span.tail or "", own)]
    long = sum(width(text, classes, size) for text, classes in runs if text)
    x, y = float(element.get("x")), float(element.get("y"))
    left = x - long * {"start": 0, "middle": 0.5, "end": 1}[element.get("text-anchor", "start")]
    text = "".join(text for text, _ in runs)
    return Box(left, y - 0.76 * size, left + long, y + 0.24 * size, text, size)


def grounds(svg):
    """Return (text, its role, the fills and opacities of the shapes below it) for every text."""
    shapes, texts = [], []
    for element in ElementTree.fromstring(svg):
        style = dict(re.findall(r"([\w-]+):([^;]+)", element.get("style", "")))
        fill = re.search(r"--mp-([\w-]+)", style.get("fill", ""))
        if fill:
            shapes.append((element, fill[1], float(style.get("fill-opacity", 1))))
        if element.tag != f"{SVG}text":
            continue
        box = _box(element)
        middle = (box.left + box.right) / 2, (box.top + box.bottom) / 2
        layers = [(role, opacity) for shape, role, opacity in shapes if _covers(shape, *middle)]
        for run in [element, *element]:
            classes = [*element.get("class").split(), *run.get("class", "").split()]
            roles = [c.removeprefix("mp-") for c in classes if c not in ("mp-code", "mp-strong")]
            texts += [(run.text, roles[-1], layers)] if run.text else []
            texts += [(run.tail, roles[0], layers)] if run is not element and run.tail else []
    return texts


def _covers(shape, x, y):
    """Return whether a rectangle, circle or polygon contains a point."""
    number = {key: float(value) for key, value in shape.items() if re.fullmatch(r"[\d.-]+", value)}
    if shape.tag == f"{SVG}rect":
        inside = number["x"] <= x <= number["x"] + number["width"]
        return inside and number["y"] <= y <= number["y"] + number["height"]
    if shape.tag == f"{SVG}circle":
        return (number["cx"] - x) ** 2 + (number["cy"] - y) ** 2 <= number["r"] ** 2
    if shape.tag != f"{SVG}polygon":
        return False
    corners = [tuple(map(float, pair.split(","))) for pair in shape.get("points").split()]
    sides = [
        (b[0] - a[0]) * (y - a[1]) - (b[1] - a[1]) * (x - a[0])
        for a, b in zip(corners, corners[1:] + corners[:1], strict=True)
    ]
    return min(sides) > 0 or max(sides) < 0  # on one side of each edge of a convex polygon

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

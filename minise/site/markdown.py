"""Markdown and notebook HTML as static HTML: formulas as MathML, and no element of marimo's own."""

import json
import re
import unicodedata
from collections.abc import Callable
from functools import cache
from html import unescape
from html.parser import HTMLParser
from typing import Any

from minise.lessons.mathml import mathml
from minise.site.checkout import BrokenSite

# Colours that arrays, answers and plots carry in their styles, and those of the site's two themes
# that have enough contrast on its background.
COLOURS = {
    "#888": "var(--soft)",
    "#777": "var(--soft)",
    "#2e7d32": "var(--good)",
    "#c62828": "var(--bad)",
    "#b3541e": "var(--bad)",
    "#2166ac": "var(--forward)",
}
COLOUR = re.compile(r"(?<=[:\s])(" + "|".join(COLOURS) + r")(?=[;'\"\s])")
VOID = {"area", "br", "col", "hr", "img", "input", "link", "meta", "source", "wbr"}
CONTROLS = ("marimo-slider", "marimo-dropdown", "marimo-checkbox", "marimo-number")


@cache
def _converter() -> Any:
    """Return the converter of Markdown, with the extensions that marimo uses."""
    from marimo._output.md import _get_extension_configs, _get_extensions
    from markdown import Markdown

    settings = {**_get_extension_configs(), "toc": {"slugify": slug}}
    settings["pymdownx.highlight"] = {"use_pygments": True, "guess_lang": False}
    return Markdown(extensions=[*_get_extensions(), "md_in_html"], extension_configs=settings)


def slug(title: str, separator: str = "-") -> str:
    """Return the id of a heading, as forges make it.

    Examples
    --------
    >>> slug("A net, of your own")
    'a-net-of-your-own'
    """
    text = unicodedata.normalize("NFKC", title).strip().lower()
    return re.sub(r"[^\w\- ]", "", text).replace(" ", separator)


def html_of(markdown: str) -> str:
    """Return Markdown as static HTML."""
    converter = _converter()
    converter.reset()
    return static(converter.convert(markdown))


def static(html: str, element: Callable[[str], str] = str) -> str:
    """Return HTML with formulas as MathML and folded parts as <details>, in the site's colours.

    Parameters
    ----------
    html : str
        HTML as Markdown or marimo makes it.
    element : callable
        Returns the HTML that stands for a control, by the id that marimo gave it.
    """
    parser = _Static(element)
    parser.feed(html)
    parser.close()
    return COLOUR.sub(lambda match: COLOURS[match[1]], "".join(parser.out))


class _Static(HTMLParser):
    """Copies HTML, and puts static elements in the place of marimo's."""

    def __init__(self, element: Callable[[str], str]) -> None:
        super().__init__(convert_charrefs=False)
        self.out: list[str] = []
        self._element = element
        self._open: list[tuple[str, str]] = []  # (tag in the source, what closes it)
        self._tex: list[str] | None = None
        self._labels: list[list[str]] = []  # of the accordions that are open

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Copy or replace the start of an element."""
        values = {name: value or "" for name, value in attributes}
        start = self.get_starttag_text() or ""
        end = f"</{start[1 : 1 + len(tag)]}>"  # in SVG, small and capital letters differ
        if tag == "marimo-tex":
            self._tex, start, end = [], "", ""
        elif tag == "marimo-ui-element":
            start, end = self._element(values["object-id"]), ""
        elif tag == "marimo-accordion":
            self._labels.append(json.loads(values["data-labels"]))
            start, end = "<div class='folds'>", "</div>"
        elif tag in CONTROLS:
            start, end = "", ""
        elif tag.startswith("marimo-"):
            raise BrokenSite(
                f"site: <{tag}> needs marimo's scripts, expected {', '.join(CONTROLS)}"
            )
        elif self._open and self._open[-1][0] == "marimo-accordion":
            title = _inline(static(self._labels[-1].pop(0)))
            start, end = f"<details><summary>{title}</summary><div>", "</div></details>"
        elif tag == "span" and values.get("class") == "paragraph":
            start, end = "<div class='paragraph'>", "</div>"
        elif tag == "span" and "prose" in values.get("class", "").split():
            start, end = "", ""
        elif tag == "table" and not values:
            start, end = "<div class='scroll'><table>", "</table></div>"
        if tag not in VOID:
            self._open.append((tag, end))
        self._write(start)

    def handle_startendtag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        """Copy an element without content, such as a part of an SVG."""
        self._write(self.get_starttag_text() or "")

    def handle_endtag(self, tag: str) -> None:
        """Close an element, and what its content left open."""
        while self._open:
            opened, end = self._open.pop()
            if opened == "marimo-tex" and self._tex is not None:
                text = unescape("".join(self._tex)).strip()
                self._tex = None
                end = _formula(text)
            elif opened == "marimo-accordion":
                self._labels.pop()
            self._write(end)
            if opened == tag:
                break

    def handle_data(self, data: str) -> None:
        """Copy text."""
        self._write(data)

    def handle_entityref(self, name: str) -> None:
        """Copy a character by name."""
        self._write(f"&{name};")

    def handle_charref(self, name: str) -> None:
        """Copy a character by number."""
        self._write(f"&#{name};")

    def _write(self, text: str) -> None:
        (self.out if self._tex is None else self._tex).append(text)


def _inline(html: str) -> str:
    """Return HTML without the element around its only paragraph, so that it may stand in a line."""
    match = re.fullmatch(r"<div class='paragraph'>(.*)</div>", html.strip(), re.DOTALL)
    return match[1] if match else html


def _formula(text: str) -> str:
    """Return a formula that arithmatex wrapped in ||( ||) or ||[ ||]."""
    block = text.startswith("||[")
    try:
        html = mathml(text[3:-3], block=block)
    except ValueError as error:
        raise BrokenSite(f"site: {error}") from error
    return f"<div class='formula'>{html}</div>" if block else html


def text_of(html: str) -> str:
    """Return the words of HTML, for search: without tags, formulas, scripts and pictures."""
    html = re.sub(r"<(script|style|math|svg)\b.*?</\1>", " ", html, flags=re.DOTALL)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", html)).split())

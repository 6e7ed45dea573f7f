"""The index of the search: each section of each page with its words, as a script."""

import itertools
import json
import re
from html import escape
from typing import NamedTuple

from minise.site.markdown import text_of

SECTION = re.compile(r"<(h[1-4]|section|div)\b[^>]*\bid=[\"']([^\"']+)[\"'][^>]*>", re.DOTALL)
HEADING = re.compile(r"<h[1-4][^>]*>(.*?)</h[1-4]>", re.DOTALL)
NOT_SEARCHED = (
    re.compile(r"<div data-when='[^']*' hidden>.*?</div><!--choice-->", re.DOTALL),
    re.compile(r"<p class='aside'>.*?</p>", re.DOTALL),
    re.compile(r"<details class='imports'>.*?</details>", re.DOTALL),
)


class Section(NamedTuple):
    """A part of a page that a search can find."""

    page: str  # title of the page
    address: str  # with the fragment of the section
    heading: str
    text: str


def sections_of(title: str, address: str, body: str) -> list[Section]:
    """Return the sections of a page: one before the first heading, and one for each heading."""
    for hidden in NOT_SEARCHED:
        body = hidden.sub("", body)
    places = [match for match in SECTION.finditer(body) if _is_section(match)]
    bounds = [0, *(match.start() for match in places), len(body)]
    sections = []
    for k, (start, end) in enumerate(itertools.pairwise(bounds)):
        html, id = body[start:end], places[k - 1][2] if k else ""
        heading = HEADING.search(html)
        name = text_of(heading[1]) if heading else id
        if text := text_of(html):
            is_top = not k or places[k - 1][1] == "h1"
            where = address if is_top else f"{address}#{id}"
            sections.append(Section(title, where, name, text.removeprefix(name).strip()))
    return sections


def _is_section(match: re.Match[str]) -> bool:
    return match[1] != "div" or "classattr" in match[0]


def index_of(sections: list[Section]) -> str:
    """Return the script that holds the sections, as `const SECTIONS = [[page, address, …], …]`."""
    lines = (json.dumps(section, ensure_ascii=False, separators=(",", ":")) for section in sections)
    return "const SECTIONS = [\n" + ",\n".join(lines).replace("</", "<\\/") + "\n];\n"


def box() -> str:
    """Return the field and the list of what a search finds."""
    help = "Words of a title, heading or text, such as: batch norm routes"
    return (
        "<search class='search'><label for='query'>Search all pages</label>"
        f"<input type='search' id='query' autocomplete='off' placeholder='{escape(help)}' "
        "aria-controls='found' aria-describedby='count'>"
        "<p class='aside' id='count' role='status' aria-live='polite'></p>"
        "<ol id='found'></ol></search>"
    )

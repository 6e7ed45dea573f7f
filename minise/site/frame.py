"""What every page of the site has: style, theme, way back, contents, previous and next page."""

import re
from collections.abc import Sequence
from functools import cache
from html import escape
from importlib.resources import files
from typing import NamedTuple

from minise.walk.page import asset as walk_asset
from minise.walk.page import fill

STYLE, SCRIPT = "site.css", "site.js"  # of pages that share them
WIDE = "wide"  # class of a page that uses the whole width
HEADING = re.compile(r"<h([23])[^>]*\bid=[\"']([^\"']+)[\"'][^>]*>(.*?)</h\1>", re.DOTALL)
MIN_HEADINGS = 3  # headings from which contents are worth their place


class Link(NamedTuple):
    """The address of a page, relative to the folder of the site, and its title."""

    address: str
    title: str


def page(
    address: str,
    title: str,
    body: str,
    *,
    kicker: str = "",
    before: Link | None = None,
    after: Link | None = None,
    script: str = "",
    scripts: Sequence[str] = (),
    wide: bool = False,
    shared: bool = False,
) -> str:
    """Return the HTML of a page in the frame of the site.

    Parameters
    ----------
    address : str
        Address of the page, relative to the folder of the site, such as "lessons/02_linear.html".
    title : str
        Title of the page; the body has the heading.
    body : str
        HTML with headings in order.
    kicker : str
        HTML that stands beside the way back to the start.
    before, after : Link, optional
        The previous and the next page.
    script : str
        JavaScript, after that of every page.
    scripts : sequence of str
        Addresses of scripts that come before.
    wide : bool
        Whether lines may be longer than those of prose.
    shared : bool
        Whether the page shares style and script with others, or has its own.
    """
    root = "../" * address.count("/")
    link = f"<link rel='stylesheet' href='{root}{STYLE}'>"
    return fill(
        asset("page.html"),
        title=escape(title),
        style=link if shared else f"<style>\n{style()}\n</style>",
        root=root,
        kicker=kicker,
        contents="" if wide else contents(body),
        body=body,
        around=around(root, before, after),
        kind=WIDE if wide else "",
        scripts="".join(f"<script src='{root}{name}'></script>" for name in scripts),
        script=f"<script src='{root}{SCRIPT}'></script>"
        if shared
        else f"<script>\n{program()}{script}\n</script>",
    )


def contents(body: str) -> str:
    """Return a folded list of the headings of a page, or "" if there are few."""
    headings = HEADING.findall(body)
    if len(headings) < MIN_HEADINGS:
        return ""
    items = (
        f"<li class='h{level}'><a href='#{escape(id)}'>{re.sub(r'<[^>]+>', '', title)}</a></li>"
        for level, id, title in headings
    )
    return (
        "<nav class='contents' aria-label='On this page'><details open><summary>On this page"
        f"</summary><ul>{''.join(items)}</ul></details></nav>"
    )


def around(root: str, before: Link | None, after: Link | None) -> str:
    """Return links to the previous and the next page."""
    links = [
        f"<a rel='{rel}' href='{root}{link.address}'><small>{word}</small>{escape(link.title)}</a>"
        for rel, word, link in (("prev", "Previous", before), ("next", "Next", after))
        if link is not None
    ]
    return (
        f"<nav class='around' aria-label='Order of reading'>{''.join(links)}</nav>" if links else ""
    )


def shared_files() -> dict[str, str]:
    """Return style and script of the pages that share them."""
    return {STYLE: style(), SCRIPT: program()}


def program() -> str:
    """Return the script of every page."""
    return '"use strict";\n' + asset("page.js")


@cache
def style() -> str:
    """Return the style sheet: the walk's colours and fonts, and the site's own rules."""
    css = walk_asset("page.css")
    screen = re.findall(r"^:root[^{]*\{[^}]*\}", css, re.MULTILINE)
    paper = re.findall(r"^ +:root[^{]*\{[^}]*\}", css, re.MULTILINE)
    return "\n".join([*screen, "@media print {", *paper, "}", asset("site.css")])


@cache
def asset(name: str) -> str:
    """Return the text of a file in assets."""
    return files("minise.site").joinpath("assets", name).read_text(encoding="utf-8")


def list_of(links: Sequence[tuple[Link, str]], root: str = "") -> str:
    """Return links with a line of description each, as a list."""
    items = (
        f"<li><a href='{root}{link.address}'><b>{escape(link.title)}</b>"
        f"<span class='says'>{escape(says)}</span></a></li>"
        for link, says in links
    )
    return f"<ul class='cards'>{''.join(items)}</ul>"

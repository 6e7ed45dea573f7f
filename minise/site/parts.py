"""The parts of the site, each made in its own process: pages with their search sections."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

from minise.site.checkout import ARTICLE, BrokenSite, Checkout
from minise.site.code import source_page
from minise.site.frame import Link, list_of, page
from minise.site.lesson import LessonPage, walk_frame
from minise.site.links import Links
from minise.site.markdown import html_of, text_of
from minise.site.search import Section, sections_of

BLOCK = re.compile(r"<p>\s*(@@\d+@@)\s*</p>")
WALK = re.compile(r"\{\{walk:([\w.-]+\.html(?:#[\w-]+)?)\}\}")
WALK_STYLE, WALK_SCRIPT = "walk.css", "walk.js"
WALK_PAGE = re.compile(
    r"(.*?)<style>(.*?)</style>(.*)<script>(\s*\"use strict\";.*)</script>(.*)", re.DOTALL
)
UNFILLED = re.compile(r"\{\{[^}]*\}\}")


def with_shared(address: str, html: str) -> dict[str, str]:
    """Return a walk's page as a file, and the style and the script that all walks share.

    Raises
    ------
    BrokenSite
        If the page has not the form of `minise.walk.page`.
    """
    form = WALK_PAGE.fullmatch(html)
    if form is None:
        raise BrokenSite(f"site: {address} is no page of a walk: see minise/walk/assets/page.html")
    head, style, middle, script, end = form.groups()
    head = head.replace("'unsafe-inline'", "'unsafe-inline' 'self' file:")
    short = (
        f"{head}<link rel='stylesheet' href='{WALK_STYLE}'>{middle}"
        f"<script src='{WALK_SCRIPT}'></script>{end}"
    )
    return {address: short, f"walks/{WALK_STYLE}": style, f"walks/{WALK_SCRIPT}": script}


@dataclass
class Part:
    """The files of a part of the site, with their titles, search sections and sources.

    Attributes
    ----------
    files : dict
        The content by address.
    titles : dict
        The title of each page, by its address; an address without one is no page.
    sections : list of Section
        What a search finds.
    sources : set of str
        Files and folders whose source must have a page.
    item : str
        HTML of the item on the index of walks.
    """

    files: dict[str, str] = field(default_factory=dict)
    titles: dict[str, str] = field(default_factory=dict)
    sections: list[Section] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    item: str = ""

    def add(self, address: str, title: str, body: str, **frame: Any) -> None:
        """Add a page with its sections."""
        self.files[address] = page(address, title, body, **frame)
        self.titles[address] = title
        self.sections += sections_of(title, address, body)

    def add_all(self, other: "Part") -> None:
        """Add the files of another part."""
        self.files |= other.files
        self.titles |= other.titles
        self.sections += other.sections
        self.sources |= other.sources


def lesson(name: str, around: tuple[Link | None, Link | None]) -> Part:
    """Make the page of a lesson, and those of the walks that it shows."""
    checkout, made = Checkout(), Part()
    address = checkout.addresses[name]
    links = Links(checkout, name, address)
    shown = LessonPage(checkout.root / name).shown()
    body = links.rewrite(shown.body)
    before, after = around
    made.add(address, shown.title, body, before=before, after=after)
    for walk_address, html in shown.walks.items():
        made.files |= with_shared(walk_address, html)
    made.titles |= dict.fromkeys(shown.walks, f"Walk of {shown.title}")
    made.sources = links.sources
    return made


def walk(number: int) -> Part:
    """Make the page of a walk."""
    from minise.pictures import picture_of
    from minise.walk.page import page as walk_page
    from minise.walk.pages import INDEX, entries, index_item, traced

    entry, made = entries()[number], Part()
    walked, picture = traced(entry), "" if entry.variant else picture_of(entry.subject)
    address, title = f"walks/{entry.file}", f"Walk: {entry.file.removesuffix('.html')}"
    made.files |= with_shared(address, walk_page(walked, INDEX, picture))
    made.titles[address] = title
    made.item = index_item(entry, walked)
    words = [walked.title, *walked.story]
    words += [f"{step.name} {step.code} {step.reason}" for step in walked.steps]
    made.sections = [Section(title, address, "", " ".join(" ".join(words).split()))]
    return made


def markdown(name: str) -> Part:
    """Make the page of a Markdown file."""
    checkout = Checkout()
    return _page_of(checkout, name, html_of(checkout.text(name)))


def article(values: Mapping[str, str], walks: Mapping[str, str]) -> Part:
    """Make the page of the article.

    Parameters
    ----------
    values : mapping
        What stands for each ``{{name}}``, as Markdown, LaTeX or HTML.
    walks : mapping
        The pages of its own walks, by the name of the file.

    Raises
    ------
    BrokenSite
        If a placeholder has no value.
    """
    checkout = Checkout()
    text, blocks = _filled(checkout.text(ARTICLE), values)
    html = BLOCK.sub(r"\1", html_of(text))
    for key, block in blocks.items():
        html = html.replace(key, block)
    made = _page_of(checkout, ARTICLE, html)
    for file, walk_html in walks.items():
        made.files |= with_shared(f"walks/{file}", walk_html)
    made.titles |= {f"walks/{file}": "Walk of the article" for file in walks}
    return made


def computed_article() -> Part:
    """Make the page of the article with the values that the package computes."""
    from minise.site.article import values, walks

    return article(values(), walks())


def _filled(text: str, values: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """Return a text with its values, and the HTML that stands for each mark in it."""
    blocks: dict[str, str] = {}

    def marked(html: str) -> str:
        key = f"@@{len(blocks)}@@"
        blocks[key] = html
        return f"\n\n{key}\n\n"

    for name, value in values.items():
        is_block = value.lstrip().startswith("<")
        text = text.replace(f"{{{{{name}}}}}", marked(value) if is_block else value)
    text = WALK.sub(lambda match: marked(_frame_of(match[1])), text)
    if left := UNFILLED.search(text):
        raise BrokenSite(f"site: {ARTICLE} has {left[0]}, which has no value: add it to values()")
    return text, blocks


def _frame_of(target: str) -> str:
    name = target.partition(".html")[0].replace("_", " ")
    return walk_frame(f"walks/{target}", name)


def _page_of(checkout: Checkout, name: str, html: str) -> Part:
    made, address = Part(), checkout.pages[name]
    links = Links(checkout, name, address)
    body = links.rewrite(html)
    heading = re.search(r"<h1[^>]*>(.*?)</h1>", body, re.DOTALL)
    if heading is None:
        body = f"<h1>{escape(Path(name).stem.capitalize())}</h1>{body}"
    title = text_of(heading[1]) if heading else Path(name).stem.capitalize()
    made.add(address, title, body)
    made.sources = links.sources
    return made


def sources(names: set[str]) -> Part:
    """Make the pages of source files and folders."""
    checkout, made = Checkout(), Part()
    for name in sorted(names):
        address = checkout.address(name)
        body = source_page(checkout, name, names)
        made.files[address] = page(address, name, body, kicker="source", wide=True, shared=True)
        made.titles[address] = name
    return made


def api() -> Part:
    """Make the API reference."""
    from minise.site.api import bodies

    made = Part()
    for address, (title, body) in bodies().items():
        made.add(address, title, body, kicker=_way_to_api(address), shared=True)
    return made


def _way_to_api(address: str) -> str:
    root = "../" * (address.count("/") - 1)
    return f"<a href='{root}index.html'>API reference</a>"


def start(
    checkout: Checkout, titles: Mapping[str, str], says: Callable[[str], str]
) -> tuple[str, str]:
    """Return title and body of the start page."""
    from minise.site.search import box

    def cards(addresses: list[str]) -> str:
        known = [Link(address, titles[address]) for address in addresses if address in titles]
        return list_of([(link, says(link.address)) for link in known])

    lessons = [checkout.addresses[name] for name in checkout.lessons]
    pages = [address for address in checkout.pages.values() if address != "article.html"]
    groups = {
        "Begin here": ["article.html", "walks/squeeze_excite.html", "pages/tutorials.html"],
        "Lessons": lessons,
        "Walks: every number of a backward pass": ["walks/index.html"],
        "Reference": ["api/index.html", *pages],
    }
    parts = [
        f"<h2 id='{escape(title.split(':')[0].lower().replace(' ', '-'))}'>{escape(title)}</h2>"
        f"{cards(addresses)}"
        for title, addresses in groups.items()
    ]
    head = (
        "<h1>Squeeze-and-excitation CNNs whose every gradient is written out by hand</h1>"
        "<p>An article, lessons with exercises, and pages that show every number of a forward and "
        "a backward pass. All of it opens from disk, without a network.</p>"
    )
    return "minise", head + box() + "".join(parts)

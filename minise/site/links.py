"""Links of lessons and Markdown files as addresses on the site, and pictures within the page."""

import posixpath
import re
from base64 import b64encode
from collections.abc import Callable
from html import escape, unescape
from urllib.parse import unquote

from minise.site.checkout import BrokenSite, Checkout

REFERENCE = re.compile(r"(<(?:a|iframe|img)\b[^>]*?\s(?:href|src)=)(\"[^\"]*\"|'[^']*')([^>]*>)")
CODE = re.compile(r"(?<!<pre>)<code>([\w.-]+(?:/[\w.-]+)+)</code>(?!</a>)")
SITE = "site:"  # before an address on the site, relative to its folder
OUTSIDE = ("http:", "https:", "mailto:", "data:")


class Links:
    """The links of one text.

    Parameters
    ----------
    checkout : Checkout
        The files to which links lead.
    name : str
        The file of the text, such as "tutorials/README.md".
    address : str
        Address of the page of the text.

    Attributes
    ----------
    sources : set of str
        Files and folders whose source must have a page, because a link leads there.
    """

    def __init__(self, checkout: Checkout, name: str, address: str) -> None:
        self.checkout, self.name, self.address = checkout, name, address
        self.sources: set[str] = set()

    def rewrite(self, html: str) -> str:
        """Return HTML whose links lead to pages of the site; paths of sources become links.

        Raises
        ------
        BrokenSite
            If a link leads nowhere.
        """
        html = REFERENCE.sub(self._reference, html)
        return CODE.sub(self._code, html)

    def to(self, target: str) -> str:
        """Return the address of a page, relative to this page."""
        path, sharp, fragment = target.partition("#")
        here = posixpath.dirname(self.address)
        return posixpath.relpath(path, here or ".") + sharp + fragment

    def _reference(self, match: re.Match[str]) -> str:
        start, quoted, end = match.groups()
        target = unescape(quoted[1:-1])
        if target.startswith(("#", *OUTSIDE)):
            return match[0]
        if start.startswith("<img"):
            return self._picture(match[0], target)
        return f'{start}"{escape(self._page(target))}"{end}'

    def _page(self, target: str) -> str:
        path, sharp, fragment = target.partition("#")
        if path.startswith(SITE):
            return self.to(path.removeprefix(SITE)) + sharp + fragment
        if path.startswith("?file="):
            path = path.removeprefix("?file=")
        elif path == "./":
            return self.to("index.html") + sharp + fragment
        name = self._file(path)
        address = self.checkout.address(name)
        if not address:
            raise BrokenSite(
                f"site: {self.name} links to {target}, expected a file of the project: correct "
                "the link"
            )
        return self.to(self._seen(name, address)) + sharp + fragment

    def _code(self, match: re.Match[str]) -> str:
        name = match[1].rstrip("/")
        address = self.checkout.address(name)
        if not address or address == self.address:
            return match[0]
        return f'<a href="{self.to(self._seen(name, address))}">{match[0]}</a>'

    def _seen(self, name: str, address: str) -> str:
        if name not in self.checkout.addresses:
            self.sources.add(name)
        return address

    def _file(self, path: str) -> str:
        return posixpath.normpath(posixpath.join(posixpath.dirname(self.name), unquote(path)))

    def _picture(self, tag: str, target: str) -> str:
        """Return a picture that needs no file: an SVG as it is, any other as data."""
        path = self.checkout.root / self._file(target)
        if not path.is_file():
            raise BrokenSite(f"site: {self.name} shows {target}, which does not exist")
        alt = re.search(r"\balt=[\"']([^\"']*)[\"']", tag)
        if path.suffix == ".svg":
            svg = path.read_text(encoding="utf-8")
            label = f'role="img" aria-label="{alt[1] if alt else ""}" class="picture"'
            return svg[svg.index("<svg") :].replace("<svg", f"<svg {label}", 1)
        kind = path.suffix.removeprefix(".").replace("jpg", "jpeg")
        data = f"data:image/{kind};base64,{b64encode(path.read_bytes()).decode()}"
        return tag.replace(target, data)


def each_reference(html: str, visit: Callable[[str], None]) -> None:
    """Call a function with each address that a page refers to."""
    for match in re.finditer(r"\s(?:href|src)=(\"[^\"]*\"|'[^']*')", html):
        visit(unescape(match[1][1:-1]))

"""Program text as HTML with the names of Pygments' classes, and pages of source files."""

import posixpath
import re
from html import escape
from pathlib import Path

from minise.site.checkout import Checkout

# parts of the text that have no colour of their own
PLAIN = re.compile(r'<span class="(?:n|nn|na|nb|bp|fm|vm|nv|o|p|w|x|err|esc)">([^<]*)</span>')
LEXERS = {".cu": "cuda", ".cuh": "cuda", ".h": "cpp", ".cff": "yaml", ".json": "text"}


def highlighted(code: str, suffix: str = ".py") -> str:
    """Return program text in the language of a file's suffix as a <pre> element."""
    from pygments import highlight
    from pygments.formatters import HtmlFormatter
    from pygments.lexers import TextLexer, get_lexer_by_name, get_lexer_for_filename
    from pygments.util import ClassNotFound

    try:
        named = LEXERS.get(suffix)
        lexer = get_lexer_by_name(named) if named else get_lexer_for_filename(f"x{suffix}")
    except ClassNotFound:
        lexer = TextLexer()
    html: str = highlight(code.strip("\n"), lexer, HtmlFormatter(cssclass="highlight"))
    return PLAIN.sub(r"\1", html.replace("<span></span>", ""))


def source_page(checkout: Checkout, name: str, known: set[str]) -> str:
    """Return the body of the page of a file, or of a folder with its files that have pages."""
    path = checkout.root / name
    title = f"<h1><code>{escape(name)}</code></h1>"
    if not path.is_dir():
        return title + highlighted(checkout.text(name), Path(name).suffix)
    here = posixpath.dirname(f"source/{name}.html")
    items = []
    for inner in sorted(path.iterdir()):
        inside = inner.relative_to(checkout.root).as_posix()
        if not checkout.is_source(inside):
            continue
        label = f"<code>{escape(inner.name)}{'/' if inner.is_dir() else ''}</code>"
        if inside in known:
            address = posixpath.relpath(checkout.address(inside), here)
            label = f"<a href='{escape(address)}'>{label}</a>"
        items.append(f"<li>{label}</li>")
    return f"{title}<ul>{''.join(items)}</ul>"

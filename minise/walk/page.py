"""A trace as one page that opens from disk: all in one file, no request to anywhere.

The page is put together from the files in `assets`: a skeleton, a style sheet, scripts. They show
what is in the data and hold no formula of their own.
"""

import json
from base64 import b64encode
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from minise.walk.data import data_of
from minise.walk.steps import Trace

SCRIPTS = ("model.js", "heatmap.js", "graph.js", "detail.js", "screens.js", "player.js")
MAX_BYTES = 1_000_000


def page(trace: Trace, home: str = "") -> str:
    """Return the whole page; `home` is the address of an index that it belongs to.

    Raises
    ------
    ValueError
        If it would be larger than a page that is shared may be.
    """
    data = data_of(trace)
    # "<" in a script element could end it
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    html = fill(
        "page.html",
        title=escape(f"{trace.name}: {trace.title}" if trace.title else trace.name),
        style=asset("page.css"),
        home=fill("home.html", address=escape(home)) if home else "",
        data=text,
        script="\n".join(asset(name) for name in SCRIPTS),
    )
    size = len(html.encode())
    if size > MAX_BYTES:
        raise ValueError(
            f"walk: the page of {trace.name} has {size:,} bytes, expected at most {MAX_BYTES:,}: "
            "choose a smaller shape"
        )
    return html


def folded(trace: Trace) -> str:
    """Return the page in a frame of its own, which opens at a click on one line above it.

    The frame has an address of its own, of the page itself, since its links lead to places on it.
    """
    text = b64encode(page(trace).encode()).decode()
    return (
        "<details><summary style='cursor:pointer'>Every number of "
        f"<code>{escape(trace.name)}</code>, in {len(trace.steps)} steps to click through"
        f"</summary><iframe title='{escape(trace.name)}, step by step' "
        "style='width:100%;height:80vh;min-height:36rem;border:1px solid #8886;"
        "border-radius:6px;margin-top:.6em' "
        f"src='data:text/html;base64,{text}'></iframe></details>"
    )


class NotebookTrace(Trace):
    """A trace that a notebook shows as its page, folded away under one line."""

    def _repr_html_(self) -> str:
        return folded(self)


def write_page(trace: Trace, path: Path) -> None:
    """Write the page of a trace.

    Raises
    ------
    ValueError
        If the folder is not there, or the path is a folder.
    """
    check_target(path)
    path.write_text(page(trace), encoding="utf-8")


def check_target(path: Path) -> None:
    """Check that a page can be written: its folder is there, and the path is no folder."""
    if not path.parent.is_dir():
        raise ValueError(
            f"walk: html is {path}, expected a file in a folder that is there: make the folder "
            f"{path.parent}"
        )
    if path.is_dir():
        raise ValueError(
            f"walk: html is the folder {path}, expected a file: pass {path / 'page.html'}"
        )


def asset(name: str) -> str:
    """Return a file of the page."""
    return files("minise.walk").joinpath("assets", name).read_text(encoding="utf-8")


def fill(name: str, **parts: Any) -> str:
    """Return a skeleton with its parts, each named in it as {{part}}, put in once."""
    pieces = asset(name).split("{{")
    text = pieces[0]
    for piece in pieces[1:]:
        key, _, rest = piece.partition("}}")
        text += str(parts[key]) + rest
    return text

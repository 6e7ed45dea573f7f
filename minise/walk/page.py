"""Write a trace as one self-contained HTML file that opens from disk and makes no requests.

The page is assembled from the files in `assets`: a template, style sheets and scripts. The scripts
display the data of the trace, and compute it again for other inputs from the recorded operations;
they contain no formula of an op.
"""

import json
from base64 import b64encode
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from minise.atomic import writing
from minise.walk.data import data_of
from minise.walk.steps import Trace

SCRIPTS = (
    "model.js",
    "evaluate.js",
    "tape.js",
    "live.js",
    "faults.js",
    "heatmap.js",
    "graph.js",
    "detail.js",
    "screens.js",
    "edit.js",
    "player.js",
    "print.js",
)
STYLES = ("page.css", "live.css")
MAX_BYTES = 1_000_000


def page(trace: Trace, home: str = "", picture: str = "") -> str:
    """Return the HTML of a page.

    Parameters
    ----------
    trace : Trace
        The trace to show.
    home : str, optional
        Address of an index, to which the page has a link.
    picture : str, optional
        SVG for the first screen.

    Raises
    ------
    ValueError
        If the page is larger than MAX_BYTES.
    """
    data = data_of(trace)
    # "<" in a script element could end the element
    text = json.dumps(data, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    html = fill(
        asset("page.html"),
        title=escape(f"{trace.name}: {trace.title}" if trace.title else trace.name),
        style="\n".join(asset(name) for name in STYLES),
        home=fill(asset("home.html"), address=escape(home)) if home else "",
        picture=picture,
        data=text,
        script="\n".join(asset(name) for name in SCRIPTS),
    )
    size = len(html.encode())
    if size > MAX_BYTES:
        raise ValueError(
            f"walk: page of {trace.name} has {size:,} bytes, expected at most {MAX_BYTES:,}: "
            "choose a smaller shape"
        )
    return html


def folded(trace: Trace) -> str:
    """Return the page in a frame inside a <details> element, which a click opens.

    The frame's address is a data URL of the page, so that links within the page work.
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
    """A trace that a notebook shows as a page inside a <details> element."""

    def _repr_html_(self) -> str:
        return folded(self)


def write_page(trace: Trace, path: Path, picture: str = "") -> None:
    """Write the page of a trace, with an SVG on its first screen if there is one.

    Raises
    ------
    ValueError
        If the folder does not exist, or the path is a folder.
    """
    check_target(path)
    html = page(trace, picture=picture)
    with writing(path, len(html)):
        path.write_text(html, encoding="utf-8")


def check_target(path: Path) -> None:
    """Check that a page can be written: its folder exists, and the path is not a folder."""
    if not path.parent.is_dir():
        raise ValueError(
            f"walk: html is {path}, expected a file in an existing folder: create the folder "
            f"{path.parent}"
        )
    if path.is_dir():
        raise ValueError(
            f"walk: html is the folder {path}, expected a file: pass {path / 'page.html'}"
        )


def asset(name: str) -> str:
    """Return the text of a file in assets."""
    return files("minise.walk").joinpath("assets", name).read_text(encoding="utf-8")


def fill(template: str, **parts: Any) -> str:
    """Return a template with each {{part}} replaced by the argument of that name."""
    pieces = template.split("{{")
    text = pieces[0]
    for piece in pieces[1:]:
        key, _, rest = piece.partition("}}")
        text += str(parts[key]) + rest
    return text

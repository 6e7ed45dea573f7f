"""Write the pages of all cases, and an index, to a folder: `minise walk --all FOLDER`."""

import re
from collections.abc import Callable, Sequence
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from minise.atomic import writing
from minise.contract.case import OPS, family
from minise.ops.reference import gates, squeezes
from minise.walk.cases import case
from minise.walk.page import asset, fill, page
from minise.walk.steps import BACKWARD, Trace


class Page(NamedTuple):
    """A case that has a page."""

    subject: str  # name of the op, or "block" or "net"
    variant: str = ""  # suffix of the file name, for settings other than the default ones
    settings: dict[str, Any] = {}  # noqa: RUF012, a NamedTuple's default is never changed

    @property
    def file(self) -> str:
        """The name of the HTML file."""
        return "-".join(filter(None, [self.subject, self.variant])) + ".html"


def completed(groups: dict[str, list[Page]]) -> dict[str, list[Page]]:
    """Return the groups plus a page for each missing op, in the last group of its family."""
    titles = {page.subject: title for title, pages in groups.items() for page in pages}
    groups = {title: [*pages] for title, pages in groups.items()}
    families = {family(op): title for op, title in titles.items() if op in OPS}
    for op in OPS:
        if op not in titles:
            title = families.get(family(op), family(op).capitalize())
            groups.setdefault(title, []).append(Page(op))
    return groups


LISTED = {
    "Start here": [Page("squeeze_excite"), Page("block"), Page("net")],
    "Squeeze and excitation": [
        Page("squeeze_excite", "max", dict(squeeze="max")),
        Page("squeeze_excite", "none", dict(squeeze="none")),
        Page("squeeze_excite", "tanh", dict(gate="tanh")),
        Page("squeeze_excite", "relu", dict(gate="relu")),
        Page("squeeze_excite", "hard_sigmoid", dict(gate="hard_sigmoid")),
        Page("channel_scale"),
    ],
    "Layers with weights": [
        Page("linear"),
        Page("conv2d"),
        Page("conv2d", "strided", dict(stride=(2, 2), padding=(1, 1))),
        Page("conv2d", "grouped", dict(groups=2)),
    ],
    "Normalisation": [
        Page("batch_norm2d"),
        Page("batch_norm2d", "evaluation", dict(training=False)),
        Page("batch_norm2d_relu"),
        Page("batch_norm2d_add_relu"),
        Page("se_block_tail"),
    ],
    "Pooling": [
        Page("max_pool2d"),
        Page("max_pool2d", "overlapping", dict(stride=(1, 1))),
        Page("avg_pool2d"),
        Page("global_avg_pool2d"),
        Page("global_max_pool2d"),
    ],
    "Activations": [Page("relu"), Page("sigmoid"), Page("tanh"), Page("hard_sigmoid")],
    "Combine and rearrange": [
        Page("add"),
        Page("concat"),
        Page("channel_shuffle"),
        Page("dropout"),
        Page("shake"),
        Page("flatten"),
    ],
    "The loss": [
        Page("softmax_cross_entropy"),
        Page("softmax_cross_entropy", "smoothing", dict(label_smoothing=0.1)),
    ],
}
GROUPS = completed(LISTED)
INDEX = "index.html"
CHOICES = {"squeeze": squeezes, "gate": gates}  # by setting: a docstring with a line per value


def entries() -> list[Page]:
    """Return all pages, in the order of GROUPS."""
    return [entry for group in GROUPS.values() for entry in group]


def traced(entry: Page, seed: int = 0) -> Trace:
    """Return the trace that a page shows."""
    return case(entry.subject, None, seed, entry.settings).trace(seed=seed)


def write_pages(
    folder: Path, seed: int = 0, picture_of: Callable[[str], str] = lambda subject: ""
) -> list[Path]:
    """Write every page and the index, and return the paths of the pages.

    picture_of returns the SVG for the first screen of an op or net, for its default settings.

    Raises
    ------
    ValueError
        If the folder is a file.
    OSError
        If the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"walk: all is the file {folder}, expected a folder: pass another path")
    written, items = [], []
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
    for entry in entries():
        walked = traced(entry, seed)
        path = folder / entry.file
        with writing(path):
            picture = "" if entry.variant else picture_of(entry.subject)
            path.write_text(page(walked, INDEX, picture), encoding="utf-8")
        written.append(path)
        items.append(index_item(entry, walked))
    with writing(folder / INDEX):
        (folder / INDEX).write_text(index_page(items), encoding="utf-8")
    return written


def index_page(items: Sequence[str], home: str = "") -> str:
    """Return the index of the pages, from the item of each one in the order of GROUPS.

    `home` is HTML that stands above the title.
    """
    left, groups = iter(items), []
    for title, group in GROUPS.items():
        own = [next(left) for _ in group]
        groups.append("\n".join([f"<h2>{escape(title)}</h2>", "<ul>", *own, "</ul>"]))
    return fill(asset("index.html"), style=asset("page.css"), groups="\n".join(groups), home=home)


def _describe_choice(setting: str, value: str) -> str:
    """Return a setting with the formula in its docstring, such as "With gate = tanh: tanh(v)"."""
    match = re.search(rf"^ +{value}  +(.+?)(?:  |$)", CHOICES[setting].__doc__ or "", re.MULTILINE)
    return f"With {setting} = {value}: {match[1]}" if match else f"With {setting} = {value}"


def index_item(entry: Page, walked: Trace) -> str:
    """Return the item of a page on the index."""
    choices = [_describe_choice(*item) for item in entry.settings.items() if item[0] in CHOICES]
    about = ". ".join([walked.title.rstrip("."), *choices])
    settings = ", ".join(f"{key} = {value}" for key, value in entry.settings.items())
    count = f"{len(walked.steps)} steps, {len(walked.passes(BACKWARD))} of them backward"
    sub = escape(f"{settings}; {count}" if settings else count)
    return (
        f'<li><a href="{entry.file}"><b>{escape(entry.subject)}</b> <span class="sub">{sub}</span>'
        f'<span class="says">{escape(about)}</span></a></li>'
    )

"""All walks as a folder of pages with an index: `minise walk --all FOLDER`."""

import re
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from minise.contract.case import OPS, family
from minise.ops.reference import gates, squeezes
from minise.walk.cases import case
from minise.walk.page import asset, fill, page
from minise.walk.steps import BACKWARD, Trace


class Page(NamedTuple):
    """A page of one trace."""

    subject: str
    variant: str = ""  # how it differs from the plain one, in the name of its file
    settings: dict[str, Any] = {}  # noqa: RUF012, a NamedTuple's default is never changed

    @property
    def file(self) -> str:
        """The name of its file."""
        return "-".join(filter(None, [self.subject, self.variant])) + ".html"


def completed(groups: dict[str, list[Page]]) -> dict[str, list[Page]]:
    """Return the groups with a page of each op that none has: in the last one of its family."""
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
    "Where paths meet, part and mix": [
        Page("add"),
        Page("concat"),
        Page("channel_shuffle"),
        Page("dropout"),
        Page("flatten"),
    ],
    "The loss": [
        Page("softmax_cross_entropy"),
        Page("softmax_cross_entropy", "smoothing", dict(label_smoothing=0.1)),
    ],
}
GROUPS = completed(LISTED)
INDEX = "index.html"
CHOICES = {"squeeze": squeezes, "gate": gates}  # settings, each choice a line of a docstring


def traced(one: Page, seed: int = 0) -> Trace:
    """Return the trace of a page."""
    return case(one.subject, None, seed, one.settings).trace(seed=seed)


def write_pages(folder: Path, seed: int = 0) -> list[Path]:
    """Write every page and the index, and return the pages.

    Raises
    ------
    ValueError
        If the folder is a file.
    OSError
        If the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"walk: all is the file {folder}, expected a folder: pass another name")
    folder.mkdir(parents=True, exist_ok=True)
    written, groups = [], []
    for title, pages in GROUPS.items():
        items = []
        for one in pages:
            found = traced(one, seed)
            path = folder / one.file
            path.write_text(page(found, INDEX), encoding="utf-8")
            written.append(path)
            items.append(_item(one, found))
        groups.append("\n".join([f"<h2>{escape(title)}</h2>", "<ul>", *items, "</ul>"]))
    index = fill("index.html", style=asset("page.css"), groups="\n".join(groups))
    (folder / INDEX).write_text(index, encoding="utf-8")
    return written


def _choice(setting: str, value: str) -> str:
    """Return what the source says of a choice: "With gate = tanh: tanh(v)"."""
    said = re.search(rf"^ +{value}  +(.+?)(?:  |$)", CHOICES[setting].__doc__ or "", re.MULTILINE)
    return f"With {setting} = {value}: {said[1]}" if said else f"With {setting} = {value}"


def _item(one: Page, found: Trace) -> str:
    chosen = [_choice(key, value) for key, value in one.settings.items() if key in CHOICES]
    about = ". ".join([found.title.rstrip("."), *chosen])
    given = ", ".join(f"{key} = {value}" for key, value in one.settings.items())
    count = f"{len(found.steps)} steps, {len(found.passes(BACKWARD))} of them backward"
    sub = escape(f"{given}; {count}" if given else count)
    return (
        f'<li><a href="{one.file}"><b>{escape(one.subject)}</b> <span class="sub">{sub}</span>'
        f'<span class="says">{escape(about)}</span></a></li>'
    )

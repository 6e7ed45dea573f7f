"""The table of all models in README.md, and the page that lists them."""

import re
from collections.abc import Sequence

from minise.analysis.pages.family import Family, Twins
from minise.analysis.table import Grid

BEGIN, END = "<!-- models: python -m minise.analysis.pages . -->", "<!-- end of models -->"
HEADS = ("model", "parameters", "MACs", "paper's MACs", "source")
INTRODUCTION = """# Models

The nets of the literature on squeeze and excitation. Each file of `minise/models` declares an
architecture; `models.build(name)` builds a net, and the prefix `se_` adds SE blocks. Settings that
all have: `width` scales the channels, and the fields of `nn.SE` choose the SE blocks.

    minise summary all                    # lists the names
    minise summary se_resnet50            # every layer, with counts
    minise reproduce all                  # the tables of the SENet paper beside these counts

Counts are of the net without SE blocks and, after the arrow, with them (reduction 16, with biases).
MACs are those of one image of the paper's size (side: its rows, and columns), counted as in the
SENet paper: convolutions, dense layers, and one for each number that a gate scales.

"""


def overview(families: Sequence[Family]) -> str:
    """Return the page that lists all models, as Markdown."""
    rows = [
        (
            _linked(family, twins, "models"),
            f"`{twins.name}`",
            str(twins.architecture.size),
            f"{twins.plain.parameters:,} → {twins.with_se.parameters:,}",
            _macs(twins),
        )
        for family in families
        for twins in family.twins
    ]
    head = "model", "name", "side", "parameters", "MACs"
    return f"{INTRODUCTION}{Grid(head, rows, 2).markdown()}\n"


def with_table(readme: str, families: Sequence[Family]) -> str:
    """Return README.md with its table of models renewed.

    Raises
    ------
    ValueError
        If the comments that enclose the table are missing.
    """
    lines = [f"| {' | '.join(HEADS)} |", "|---|---:|---:|---:|---|"]
    for family in families:
        twins = representative(family)
        source = f"[{family.source}](https://arxiv.org/abs/{family.source})"
        parameters = f"{twins.plain.parameters / 1e6:.2f} → {twins.with_se.parameters / 1e6:.2f} M"
        name = f"{_linked(family, twins, 'tutorials/pages/models')}, `{twins.name}`"
        cells = name, parameters, _macs(twins), twins.printed(), source
        lines.append(f"| {' | '.join(cells)} |")
    table = "\n".join([BEGIN, "", *lines, "", END])
    text, count = re.subn(
        f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, readme, flags=re.DOTALL
    )
    if count != 1:
        raise ValueError(
            f"pages: README.md has {count} tables of models, expected one: write the lines {BEGIN} "
            f"and {END}"
        )
    return text


def representative(family: Family) -> Twins:
    """Return the first net of a family whose MACs the paper prints, or the last net."""
    printed = [twins for twins in family.twins if twins.printed()]
    return printed[0] if printed else family.twins[-1]


def _linked(family: Family, twins: Twins, folder: str) -> str:
    """Return the name of a net in its paper, as a link to its family's page."""
    return f"[{twins.architecture.title}]({folder}/{family.file}.md)"


def _macs(twins: Twins) -> str:
    """Return the MACs of a net and of its SE twin in a common unit."""
    plain, with_se = twins.plain.macs, twins.with_se.macs
    unit, name = (1e9, "G") if plain >= 1e9 else (1e6, "M")
    digits = 3 if name == "G" else 1
    return f"{plain / unit:.{digits}f} → {with_se / unit:.{digits}f} {name}"

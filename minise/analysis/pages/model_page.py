"""The page of a family of models: its text, counts of parameters and operations, and commands."""

import inspect
from collections.abc import Iterable
from typing import Any

from minise import models
from minise.analysis.conventions import parameters_and_statistics
from minise.analysis.cost import NetCost
from minise.analysis.memory import bytes_text
from minise.analysis.pages.family import Family, Twins
from minise.analysis.paper import TABLES
from minise.analysis.table import Grid
from minise.nn import SE
from minise.ops import cost

SIDE = 32  # of the images of shapes10
WIDTHS = (0.25, 0.5, 1)  # the first that a net can have is that of its command
MACS = ("conv", "fc", "se_fc", "gate", "squeeze")
COUNTS = """Both tables count one image. *With statistics* adds running means and variances, as the
SENet paper does in most tables; *folded* is what remains when normalisations are folded into
convolutions for inference. MACs are in millions: those of convolutions, of dense layers, of the
dense layers in SE blocks, one for each number that a gate scales, one for each number that a
squeeze adds; the paper's "GFLOPs" have the first four. *Saved* are the bytes that forward keeps for
backward, in float32. SE blocks have reduction 16 and biases."""


def model_page(family: Family) -> str:
    """Return the page of a family as Markdown."""
    path = f"minise/models/{family.file}.py"
    parts = [
        f"# {family.title}",
        family.story,
        f"The declaration is [{path}](../../../{path}); [all models](../models.md).",
        "## Parameters and operations",
        COUNTS,
        Grid(
            ("net", "parameters", "with statistics", "folded"),
            [
                (name, *map(_number, (c.parameters, parameters_and_statistics(c), c.folded)))
                for name, c in _costs(family)
            ],
        ).markdown(),
        Grid(
            ("net", "conv", "dense", "SE dense", "gate", "squeeze", "saved"),
            [
                (name, *(f"{c.forward[kind] / 1e6:,.3f}" for kind in MACS), _saved(c))
                for name, c in _costs(family)
            ],
        ).markdown(),
        "## Images and SE blocks",
        Grid(
            ("net", "images", "classes", "SE's parameters", "SE's MACs"),
            [_images(twins) for twins in family.twins],
        ).markdown(),
        "\n".join(_settings(family)),
        "## Commands",
        _commands(family),
    ]
    return "\n\n".join(parts) + "\n"


def _costs(family: Family) -> Iterable[tuple[str, NetCost]]:
    """Yield each net and its SE twin by name, with their costs."""
    for twins in family.twins:
        yield twins.name, twins.plain
        yield f"se_{twins.name}", twins.with_se


def _number(count: int) -> str:
    return f"{count:,}"


def _saved(net_cost: NetCost) -> str:
    return "" if net_cost.memory is None else bytes_text(net_cost.memory.saved)


def _images(twins: Twins) -> tuple[str, ...]:
    """Return the cells of a net: its images, and the share of its SE blocks."""
    architecture, with_se = twins.architecture, twins.with_se
    return (
        twins.name,
        f"{architecture.size} x {architecture.size}",
        str(architecture.classes),
        f"{100 * with_se.se_parameters / with_se.parameters:.2f} %",
        f"{100 * with_se.se_macs / with_se.macs:.2f} %",
    )


def _settings(family: Family) -> list[str]:
    """Return what SE blocks and the nets can be set to."""
    name, architecture = next(iter(family.architectures.items()))
    defaults = inspect.signature(architecture.builder).parameters
    own = ", ".join(
        f"`{key}` (default {defaults[key].default!r})" if key in defaults else f"`{key}`"
        for key in models.settings(name)
    )
    sites, stages = ", ".join(architecture.sites), ", ".join(map(str, architecture.stages))
    others = ", ".join(f"`{key}`" for key in vars(SE()) if key not in ("site", "stages"))
    smallest = _built(name).images.smallest()
    return [
        f"- Smallest image: {smallest} x {smallest}, with default settings.",
        f"- SE blocks: sites {sites}; stages {stages}; other settings {others}.",
        f"- The net: {own}.",
    ]


def _commands(family: Family) -> str:
    """Return the commands that show, train and compare the family's nets."""
    name = next(iter(family.architectures))
    lines = [f"minise summary se_{name} --paper", _training(family)]
    lines += [f"minise reproduce {key:12}# {TABLES[key].title}" for key in family.tables()]
    return "\n".join(f"    {line}" for line in lines)


def _training(family: Family) -> str:
    """Return the command that trains the first net of a family, narrow and on small images."""
    name, architecture = next(iter(family.architectures.items()))
    settings: dict[str, Any] = {}
    if architecture.size > SIDE:
        settings = {"stem": "cifar"} if "stem" in architecture.settings() else {}
        settings["width"] = next(width for width in WIDTHS if _builds(name, width))
    smallest = _built(name, **settings).images.smallest()
    data = "shapes10" if smallest <= SIDE else f"photos --size {smallest}"
    options = " ".join(f"--{key} {value}" for key, value in settings.items() if value != 1)
    return f"minise train --data {data} --model se_{name} {options}".rstrip()


def _builds(name: str, width: float) -> bool:
    """Return whether a net can be built with a width."""
    try:
        _built(f"se_{name}", width=width)
    except ValueError:
        return False
    return True


def _built(name: str, **settings: Any) -> models.Net:
    """Return a net whose parameters have shapes only."""
    shapes: Any = cost.Shapes()
    return models.build(name, ops=shapes, **settings)

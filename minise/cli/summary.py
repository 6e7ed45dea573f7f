"""The verb that shows the layers and costs of a net: summary."""

from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import tyro
from rich.console import Console

from minise.checks import escaped
from minise.cli.evaluate import check_finite
from minise.cli.words import misuse, say
from minise.models import NetSettings
from minise.nn import SE

if TYPE_CHECKING:
    from minise.analysis import NetCost

Convention = Literal["macs", "flops", "all"]
TEXT_WIDTH = 100  # columns of the table of layers with bytes
MIN_WIDTH_OF_KINDS = 76  # columns of that with the kinds of layers


def summary(
    model: tyro.conf.Positional[str],
    se: SE = SE(),  # noqa: B008, it is frozen
    net: NetSettings = NetSettings(),  # noqa: B008, it is frozen
    num_classes: int | None = None,
    size: tuple[int, int] | None = None,
    batch_size: int | None = None,
    ops: str | None = None,
    paper: bool = False,
    format: Literal["text", "json", "markdown"] = "text",
    convention: Convention = "macs",
) -> int:
    """Show the layers of a net: shapes, parameters, operations.

    All numbers are of one image, or of --batch-size images: operations of forward and backward by
    kind, bytes that the ops read and write ("moved"), bytes saved for backward, and the predicted
    memory of a training step. No step is computed: the net runs on arrays without elements.

    Exit status 1 if a parameter or running statistic of a trained net is not finite.

    Example: minise summary se_resnet20 --reduction 4 --shortcut A

    Args:
        model: Name of the net, such as se_resnet20 or, without SE, resnet20; "all" lists them. Or a
            run folder or checkpoint, whose settings of the net take precedence over the options.
        se: Settings of the SE blocks.
        net: Settings of the net.
        num_classes: Outputs of the last layer; by default those of the net's paper.
        size: Rows and columns of the input image; by default those of the net's paper.
        batch_size: Number of images; one by default.
        ops: Back end whose memory is predicted for --batch-size images: reference (the default),
            jit, or cuda (not measured on a GPU).
        paper: Show only the totals by the conventions of the SENet paper.
        format: text, json (one document with all numbers), or markdown.
        convention: Which operations count: macs (as in the paper: convolutions, dense layers,
            one multiplication per gated element), flops (2 per MAC), or all (2 per MAC, and one for
            each other operation, such as those of batch norm, ReLU and pooling).
    """
    from minise import models
    from minise.analysis import cost_of
    from minise.analysis.table import json_text
    from minise.models.trained import chosen_settings
    from minise.ops.cost import Shapes

    console = Console()
    if model == "all":
        names = models.names()
        console.out(dumps(names) if format == "json" else "\n".join(names), highlight=False)
        return 0
    with misuse():
        if ops is not None and batch_size is None:
            raise ValueError(
                f"summary: ops is {ops}, but batch_size is not set, so no memory is predicted: "
                "pass --batch-size, for example 128"
            )
        if model not in models.names() and Path(model).exists():
            built = models.load(model).net
            check_finite(built, Path(model))
        else:
            settings = chosen_settings(model, se, net, size)
            shapes: Any = Shapes()  # no parameters are drawn
            built = models.build(model, num_classes=num_classes, ops=shapes, **settings)
        images = 1 if batch_size is None else batch_size
        cost = cost_of(built, size, images, ops or "reference")
    if format == "json":
        console.out(json_text(cost, model, convention, paper=paper), highlight=False)
    elif format == "markdown":
        _print_markdown(console, cost, model, convention, paper)
    else:
        _print_text(console, cost, model, convention, paper)
        if batch_size is not None and cost.memory is not None:
            step = f"a training step on {batch_size} images with {ops or 'reference'}"
            say(console, cost.memory.text(step))
    return 0


def _print_markdown(
    console: Console, cost: "NetCost", title: str, convention: Convention, paper: bool
) -> None:
    from minise.analysis.table import grids_of

    grids = grids_of(cost, convention, paper=paper, detail="full")
    parts = [f"# {escaped(title)}", *(grid.markdown() for grid in grids)]
    console.out("\n\n".join(parts), highlight=False)


def _print_text(
    console: Console, cost: "NetCost", title: str, convention: Convention, paper: bool
) -> None:
    """Print the tables, as wide as the terminal allows, and the totals in words."""
    from minise.analysis.table import Detail, grids_of, totals_of

    if not console.is_terminal:
        console.width = max(console.width, TEXT_WIDTH)
    widths: dict[Detail, int] = {"wide": TEXT_WIDTH, "narrow": MIN_WIDTH_OF_KINDS, "short": 0}
    detail = next(name for name, width in widths.items() if console.width >= width)
    for k, grid in enumerate(grids_of(cost, convention, paper=paper, detail=detail)):
        console.print(grid.rich(None if k else title))
    if not paper:
        say(console, totals_of(cost))
    if not cost.training:
        say(console, "batch norm has one value per channel, so the net is in evaluation mode")

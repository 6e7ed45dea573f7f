"""The verb that shows the layers and costs of a net: summary."""

from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console

from minise.checks import escaped
from minise.cli.evaluate import check_finite
from minise.cli.words import misuse, say
from minise.models import NetSettings
from minise.nn import SE

TEXT_WIDTH = 100  # columns of the table of layers with bytes


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
    convention: Literal["macs", "flops", "all"] = "macs",
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
        convention: Which operations are added: macs (as in the paper: convolutions, dense layers,
            one multiplication per gated element), flops (2 per MAC), or all (2 per MAC, and one for
            each other operation, such as those of batch norm, ReLU and pooling).
    """
    from minise import models
    from minise.analysis import cost_of, table
    from minise.models.trained import chosen_settings
    from minise.ops.cost import Shapes

    console = Console()
    if model == "all":
        say(console, "\n".join(models.names()))
        return 0
    with misuse():
        if ops is not None and batch_size is None:
            raise ValueError(
                f"summary: ops is {ops}, but batch_size is not set, so no memory is predicted: "
                "pass --batch-size, for example 128"
            )
        ops = ops or "reference"
        if model not in models.names() and Path(model).exists():
            built = models.load(model).net
            check_finite(built, Path(model))
        else:
            settings = chosen_settings(model, se, net, size)
            shapes: Any = Shapes()  # no parameters are drawn
            built = models.build(model, num_classes=num_classes, ops=shapes, **settings)
        cost = cost_of(built, size, 1 if batch_size is None else batch_size, ops)
    if format == "json":
        document = table.json_text(cost, model, convention, paper=paper)
        console.out(document, highlight=False)
        return 0
    if format == "markdown":
        grids = table.grids_of(cost, convention, paper=paper, detail="full")
        parts = [f"# {escaped(model)}", *(grid.markdown() for grid in grids)]
        console.out("\n\n".join(parts), highlight=False)
        return 0
    if not console.is_terminal:
        console.width = max(console.width, TEXT_WIDTH)
    detail: table.Detail = "wide" if console.width >= TEXT_WIDTH else "narrow"
    grids = table.grids_of(cost, convention, paper=paper, detail=detail)
    for grid, title in zip(grids, (model, *[None] * len(grids)), strict=False):
        console.print(grid.rich(title))
    if not paper:
        say(console, table.totals_of(cost))
    if not cost.training:
        say(console, "batch norm has one value per channel, so the net is in evaluation mode")
    if batch_size is not None and cost.memory is not None:
        say(console, cost.memory.text(f"a training step on {batch_size} images with {ops}"))
    return 0

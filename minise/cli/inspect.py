"""The verbs that inspect nets: eval and summary."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minise.checks import escaped
from minise.cli.words import FAILED, Failure, misuse, say
from minise.models import NetSettings
from minise.nn import SE, Layer

TEXT_WIDTH = 100  # columns of the table of layers with bytes


def evaluate_run(
    run: tyro.conf.Positional[Path],
    checkpoint: Literal["best", "last"] = "best",
    split: Literal["test", "train"] = "test",
    data: str | None = None,
    root: Path | None = None,
    ops: str | None = None,
) -> int:
    """Evaluate a trained net: accuracy and confusion per class.

    Exit status 1 if a parameter, a running statistic or the loss is not finite.

    Example: minise eval runs/se_resnet8-shapes10-1

    Args:
        run: The run folder, or a checkpoint (.safetensors).
        checkpoint: Which checkpoint of a run folder; without validation there is only the last.
        split: Training or test images.
        data: Data set by name, or a folder with train/ and test/; by default the run's data set.
        root: Folder that contains the data sets; by default the run's folder of data sets.
        ops: Back end by name, or a file such as my_ops.py; by default the run's back end.
    """
    from threadpoolctl import threadpool_limits

    from minise.data import ImageError
    from minise.models.trained import check_named, checkpoint_of
    from minise.ops.guard import NonFiniteError
    from minise.train import Confusion, SoftmaxCrossEntropy, evaluate
    from minise.train import checkpoint as checkpoints
    from minise.train.run_folder import cores
    from minise.train.setup import (
        build_net,
        check_ops_file,
        check_root,
        for_evaluation,
        hint_at_moved_data,
        load_split,
    )

    with misuse():
        path = checkpoint_of(run, checkpoint)
        saved = checkpoints.load(path)
        config = saved.config
        check_named(path, config)
        check_root("eval", root, data or config.data)
        config = replace(
            config, data=data or config.data, root=root or config.root, ops=ops or config.ops
        )
        check_ops_file("eval", config.ops, ", or --ops reference")
        classes = tuple(saved.data["classes"])
        net = build_net(config, len(classes))
        checkpoints.restore(net, saved.arrays)
    check_finite(net, path)
    with misuse(), hint_at_moved_data(config, split, suggest=data is None and root is None):
        images = load_split(config, split, classes)
    with (
        threadpool_limits(min(config.threads, cores()) or 1, "blas"),
        np.errstate(over="ignore", invalid="ignore"),  # the loss reports overflow
    ):
        confusion = Confusion(len(classes))
        batches, objective = for_evaluation(images, saved.data), SoftmaxCrossEntropy(net.ops)
        try:
            result = evaluate(net, batches, objective, confusion)
        except (ImageError, NonFiniteError) as error:  # a broken file, or a NaN that a guard found
            raise Failure(str(error)) from error
    console = Console()
    table = Table("class", "images", "correct", "most often confused with")
    for name, row, label in zip(classes, confusion.counts, range(len(classes)), strict=True):
        wrong = row.copy()
        wrong[label] = 0
        rival = f"{classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        share = f"{row[label] / row.sum():.1%}" if row.sum() else "no images"
        table.add_row(escape(name), str(row.sum()), share, escape(rival))
    console.print(table)
    say(
        console,
        f"{split} accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}, of {path}",
    )
    if not math.isfinite(result["loss"]):
        raise Failure(
            f"the loss is {result['loss']}, although every parameter and running statistic of "
            f"{path} is finite: activations overflow in evaluation, so train with a lower lr",
            FAILED,
        )
    return 0


def check_finite(net: Layer, path: Path) -> None:
    """Raise Failure if a parameter or running statistic of a loaded net is not finite."""
    from minise.train import check_state

    try:
        check_state(net, hint=": train again, or use an earlier checkpoint")
    except FloatingPointError as error:
        raise Failure(f"{path} is not usable: {error}", FAILED) from None


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
    if not console.is_terminal:
        console.width = max(console.width, TEXT_WIDTH)
    sizes = format == "markdown" or console.width >= TEXT_WIDTH
    grids = table.grids_of(cost, convention, paper=paper, sizes=sizes)
    if format == "markdown":
        parts = [f"# {escaped(model)}", *(grid.markdown() for grid in grids)]
        console.out("\n\n".join(parts), highlight=False)
        return 0
    for grid, title in zip(grids, (model, *[None] * len(grids)), strict=False):
        console.print(grid.rich(title))
    if not paper:
        say(console, table.totals_of(cost))
    if not cost.training:
        say(console, "batch norm has one value per channel, so the net is in evaluation mode")
    if batch_size is not None and cost.memory is not None:
        say(console, cost.memory.text(f"a training step on {batch_size} images with {ops}"))
    return 0

"""The verb that evaluates a trained net: eval."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minise.checks import Array, Pair
from minise.cli.words import FAILED, Failure, misuse, say
from minise.nn import Layer

if TYPE_CHECKING:
    from minise.data import Batches
    from minise.train import Confusion

MAX_CLASSES, WORST_CLASSES = 100, 30  # rows of eval's table: all, or of more classes the worst
MIN_TOP_5 = 10  # classes from which on the top-5 error is shown


def evaluate_run(
    run: tyro.conf.Positional[Path],
    checkpoint: Literal["best", "last"] = "best",
    split: Literal["test", "train"] = "test",
    crops: Literal[1, 10] = 1,
    data: str | None = None,
    root: Path | None = None,
    ops: str | None = None,
) -> int:
    """Evaluate a trained net: accuracy and confusion per class.

    Also the top-1 error and, of at least ten classes, the top-5 error. Of more than 100 classes,
    only the 30 with the lowest accuracy are shown.

    Exit status 1 if a parameter, a running statistic or the loss is not finite.

    Example: minise eval runs/se_resnet8-shapes10-1

    Args:
        run: The run folder, or a checkpoint (.safetensors).
        checkpoint: Which checkpoint of a run folder; without validation there is only the last.
        split: Training or test images.
        crops: Crops of each image over which probabilities are averaged: 1, or for a run with
            --resized-crop also 10 (the corners and the centre, and their mirror images).
        data: Data set by name, or a folder with train/ and test/; by default the run's data set.
        root: Folder that contains the data sets; by default the run's folder of data sets.
        ops: Back end by name, or a file such as my_ops.py; by default the run's back end.
    """
    from minise.models.trained import check_named, checkpoint_of
    from minise.train import checkpoint as checkpoints
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
        if crops > 1 and not config.resized_crop:
            raise ValueError(
                f"eval: crops is {crops}, expected 1, because the net was trained on whole images, "
                "without --resized-crop: leave out --crops"
            )
        classes = tuple(saved.data["classes"])
        net = build_net(config, len(classes))
        checkpoints.restore(net, saved.arrays)
    check_finite(net, path)
    with misuse(), hint_at_moved_data(config, split, suggest=data is None and root is None):
        images = load_split(config, split, classes)
        batches = for_evaluation(images, saved.data, config.resized_crop, crops)
    size = images.images.shape[2:] if crops > 1 else None
    result, confusion = _evaluated(net, batches, len(classes), config.threads, size)
    console = Console()
    console.print(table_of_classes(classes, confusion.counts))
    say(
        console,
        f"{split} accuracy {result['accuracy']:.2%}, loss {result['loss']:.4f}, of {path}\n"
        f"{_errors(confusion)}{' over ten crops' if crops > 1 else ''}",
    )
    if not math.isfinite(result["loss"]):
        raise Failure(
            f"the loss is {result['loss']}, although every parameter and running statistic of "
            f"{path} is finite: activations overflow in evaluation, so train with a lower lr",
            FAILED,
        )
    return 0


def _evaluated(
    net: Layer, batches: "Batches", classes: int, threads: int, ten_crops: Pair | None
) -> tuple[dict[str, float], "Confusion"]:
    """Return the loss and accuracy, and the confusion matrix; ten_crops is the size of a crop."""
    from threadpoolctl import threadpool_limits

    from minise.data import ImageError
    from minise.ops.guard import NonFiniteError
    from minise.train import Confusion, SoftmaxCrossEntropy, evaluate, ten_crop_logits
    from minise.train.run_folder import cores

    confusion, objective = Confusion(classes), SoftmaxCrossEntropy(net.ops)
    with (
        threadpool_limits(min(threads, cores()) or 1, "blas"),
        np.errstate(over="ignore", invalid="ignore"),  # the loss reports overflow
    ):
        predict = ten_crop_logits(net, *ten_crops) if ten_crops else None
        try:
            result = evaluate(net, batches, objective, confusion, predict=predict)
        except (ImageError, NonFiniteError) as error:  # a broken file, or a NaN that a guard found
            raise Failure(str(error)) from error
    return result, confusion


def table_of_classes(classes: Sequence[str], counts: Array) -> Table:
    """Return the accuracy of every class, or of more than 100 those with the lowest accuracy."""
    totals, title = counts.sum(axis=1), None
    shown = np.arange(len(classes))
    if len(classes) > MAX_CLASSES:
        accuracy = np.where(totals, counts.diagonal() / np.maximum(totals, 1), np.inf)
        shown = np.lexsort((-totals, accuracy))[:WORST_CLASSES]
        shown = shown[totals[shown] > 0]
        without = int((totals == 0).sum())
        title = f"the {len(shown)} of {len(classes)} classes with the lowest accuracy"
        title += f" ({without} have no images)" if without else ""
    table = Table("class", "images", "correct", "most often confused with", title=title)
    for label in shown.tolist():
        wrong, total = counts[label].copy(), totals[label]
        wrong[label] = 0
        rival = f"{classes[wrong.argmax()]} ({wrong.max()})" if wrong.any() else ""
        share = f"{counts[label, label] / total:.1%}" if total else "no images"
        table.add_row(escape(classes[label]), str(total), share, escape(rival))
    return table


def _errors(confusion: "Confusion") -> str:
    """Return the top-1 error and, of at least ten classes, the top-5 error."""
    counts = (1, 5) if len(confusion.ranks) >= MIN_TOP_5 else (1,)
    return ", ".join(f"top-{count} error {confusion.top_error(count):.2%}" for count in counts)


def check_finite(net: Layer, path: Path) -> None:
    """Raise Failure if a parameter or running statistic of a loaded net is not finite."""
    from minise.train import check_state

    try:
        check_state(net, hint=": train again, or use an earlier checkpoint")
    except FloatingPointError as error:
        raise Failure(f"{path} is not usable: {error}", FAILED) from None

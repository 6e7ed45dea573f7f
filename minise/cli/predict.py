"""The verb that predicts the classes of image files: `minise predict`."""

from pathlib import Path

import numpy as np
import tyro
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from minise.cli.evaluate import check_finite
from minise.cli.words import Failure, misuse


def predict(
    run: tyro.conf.Positional[Path],
    images: tyro.conf.Positional[tuple[Path, ...]],
    top: int = 3,
    size: int | None = None,
    ops: str = "reference",
) -> int:
    """Predict the classes of image files with a trained net.

    The central square of each image is scaled to the training images' size (after --resized-crop,
    cropped as in evaluation), and normalised with their mean and standard deviation. Exit status 1
    if a parameter, a running statistic or a probability is not finite.

    Example: minise predict runs/se_resnet8-shapes10-1 photo.png

    Args:
        run: A run folder, or a checkpoint (.safetensors).
        images: Image files (needs Pillow).
        top: Number of classes to show for each image, the most probable first.
        size: Rows and columns of the scaled image; by default the training images' size.
        ops: Back end: reference, jit, cuda, or a file such as my_ops.py.
    """
    from minise import models
    from minise.checks import check_integer
    from minise.ops.backend import load_ops

    with misuse():
        if not images:
            raise ValueError("predict: images is empty, expected at least one image file")
        check_integer("predict", "top", top, 1)
        trained = models.load(run, ops=load_ops(ops))
    check_finite(trained.net, run)
    with misuse():
        pixels = np.stack([trained.read(path, size) for path in images])
    with np.errstate(over="ignore", invalid="ignore"):  # reported below
        probabilities = trained.predict(pixels)
    for path, row in zip(images, probabilities, strict=True):
        if not np.isfinite(row).all():
            raise Failure(
                f"the probabilities of {path} are not finite, although every parameter and running "
                f"statistic of {run} is: activations overflow, so train with a lower lr"
            )
    console = Console()
    table = Table("image", "class", Column("probability", justify="right"))
    for path, row in zip(images, probabilities, strict=True):
        for rank, label in enumerate(np.argsort(-row, kind="stable")[:top]):
            name = str(path) if rank == 0 else ""
            table.add_row(escape(name), escape(trained.classes[label]), f"{row[label]:.1%}")
    console.print(table)
    return 0

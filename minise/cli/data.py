"""The verb that shows data sets: which are on this machine, and a sheet of samples."""

from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console

from minise.cli.words import misuse, say
from minise.data import Dataset, availability, blocks, load, sheet, write_png

COLUMNS, ROWS = 10, 4  # of the sheet
MAX_NAMES = 100  # of classes that are listed
LINES = 2  # rows of images in a terminal, each as wide as the terminal


def data(
    source: Annotated[str, tyro.conf.Positional] = "",
    split: Literal["train", "test", "val"] = "train",
    root: Path | None = None,
    png: Path | None = None,
    seed: int = 0,
    size: int = 32,
) -> int:
    """List the data sets on this machine, or describe one.

    Example: minise data shapes10 --split test

    Args:
        source: cifar10, cifar100, shapes10, or a folder with train/ and test/ (or val/) of class
            folders.
        split: Training or test images, or a folder's validation images in val/.
        root: Folder of the data sets; by default the environment variable MINISE_DATA.
        png: Write the sheet of samples, magnified four times, to this file (needs Pillow).
        seed: Seed that chooses the samples, and draws the images of shapes10.
        size: Rows and columns to which a folder's images are scaled.
    """
    console = Console()
    if not source:
        with misuse():
            for name, text in availability(root):
                say(console, f"{name:<10} {text}")
        return 0
    with misuse():
        n = 2000 if source == "shapes10" else None
        dataset = load(source, split, root=root, seed=seed, n=n, size=size)
        chosen = np.asarray(samples(dataset, seed).images)
        if png is not None:
            write_png(png, sheet(chosen, columns=COLUMNS, scale=4, gap=2))
    N, C, H, W = dataset.images.shape
    names, more = ", ".join(dataset.classes[:MAX_NAMES]), len(dataset.classes) - MAX_NAMES
    say(
        console,
        f"{dataset.name}, {split}: {N:,} images of {C} x {H} x {W}, uint8; "
        f"{len(dataset.classes)} classes: {names}{f' and {more} more' if more > 0 else ''}",
    )
    if png is not None:
        say(console, f"a sheet of {len(chosen)} samples is in {png}")
    elif console.is_terminal:
        columns = max(1, console.width // (W + 1))
        print(blocks(sheet(chosen[: LINES * columns], columns=columns)))
    return 0


def samples(dataset: Dataset, seed: int) -> Dataset:
    """Return ROWS images per class, one column per class; random ones if there are many classes."""
    order = np.random.default_rng(seed).permutation(len(dataset))
    if len(dataset.classes) > COLUMNS:
        return dataset.take(order[: ROWS * COLUMNS])
    by_class = [
        order[dataset.labels[order] == label][:ROWS] for label in range(len(dataset.classes))
    ]
    return dataset.take(np.concatenate([rows[k : k + 1] for k in range(ROWS) for rows in by_class]))

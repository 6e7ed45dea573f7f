"""Measure the gates of a trained net on the test images of CIFAR-10, by block and by class.

``python -m minise.site.measurements.gates RUN`` reads the last checkpoint of a run folder, here of
``minise train --recipe quick --seed 0``.
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minise import data, models
from minise.analysis.gates import (
    CLOSED,
    OPEN,
    BlockGates,
    class_means,
    class_share,
    gates_of,
    null_shares,
)
from minise.checks import Array
from minise.models.trained import Trained
from minise.ops import jit
from minise.site.measurements.record import write_result

PERMUTATIONS = 200
BATCH = 500


def measure(run: Path, images: data.Dataset, permutations: int = PERMUTATIONS) -> dict[str, Any]:
    """Return the statistics of all SE blocks of a trained net on labelled images."""
    trained = models.load(run, ops=jit)
    blocks = _all_gates(trained, images)
    labels, rng = images.labels.astype(np.intp), np.random.default_rng(0)
    rows = [
        {"layer": layer, **statistics(gates, labels, rng, permutations)}
        for layer, gates in blocks.items()
    ]
    hits = [
        trained.predict(images.images[start : start + BATCH]).argmax(axis=1)
        == labels[start : start + BATCH]
        for start in range(0, len(images), BATCH)
    ]
    last = {layer.partition(".")[0]: layer for layer in blocks}  # of each stage
    means = {
        layer: class_means(blocks[layer].s.astype(float), labels).round(3).tolist()
        for layer in last.values()
    }
    return {
        "accuracy": round(float(np.concatenate(hits).mean()), 4),
        "classes": list(images.classes),
        "blocks": rows,
        "class_means": means,
    }


def statistics(
    gates: BlockGates, labels: Array, rng: np.random.Generator, permutations: int
) -> dict[str, Any]:
    """Return the statistics of one block; see minise.analysis.gates."""
    s, h = gates
    share, null = class_share(s, labels), null_shares(s, labels, rng, permutations)
    numbers = {
        "mean": s.mean(),
        "deviation_images": np.median(s.std(axis=0)),  # over the images, of the median channel
        "deviation_channels": s.mean(axis=0).std(),  # of the mean gates of the channels
        "open": (s > OPEN).mean(),
        "closed": (s < CLOSED).mean(),
        "dead_hidden": (h <= 0).all(axis=0).mean(),
        "class_share": np.median(share),
        "class_share_low": np.quantile(share, 0.25),
        "class_share_high": np.quantile(share, 0.75),
        "null_share": np.quantile(null, 0.95),
    }
    rounded = {name: round(float(value), 4) for name, value in numbers.items()}
    return {"channels": s.shape[1], "hidden": h.shape[1], **rounded}


def _all_gates(trained: Trained, images: data.Dataset) -> dict[str, BlockGates]:
    """Return the gates of all blocks; images are normalised a batch at a time."""
    parts = [
        gates_of(trained.net, trained.normalise(images.images[start : start + BATCH]), BATCH)
        for start in range(0, len(images), BATCH)
    ]
    return {
        layer: BlockGates(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True)))
        for layer in parts[0]
        for blocks in [[part[layer] for part in parts]]
    }


if __name__ == "__main__":
    test_images = data.cifar10(split="test")
    folder = Path(sys.argv[1])
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))["config"]
    settings = {name: config[name] for name in ("recipe", "model", "seed")}
    settings |= {"data": "a JPEG copy of CIFAR-10", "split": "test", "images": len(test_images)}
    settings["permutations"] = PERMUTATIONS
    print(write_result("gates", settings, **measure(folder, test_images)))

"""Train the quickstart's net on shapes10 and find two test images with different gates.

The pair is that with the largest distance between the gates of the last SE block, among the first
IMAGES test images: the most different pair, not a typical one. The median distance is stored too.
"""

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from minise import data, models
from minise.analysis.gates import gates_of
from minise.nn import SE
from minise.ops import jit
from minise.site.measurements.record import write_result
from minise.train import TrainConfig, prepare, train

IMAGES = 100
CONFIG = TrainConfig(  # as in `minise quickstart`, with compiled kernels
    data="shapes10",
    limit=5000,
    model="se_resnet8",
    se=SE(reduction=4),
    epochs=3,
    batch_size=32,
    lr=0.2,
    crop=0,
    val=500,
    ops="jit",
)


def measure() -> dict[str, Any]:
    """Train; return the accuracy, the two images by index, and their gates by block."""
    images = data.shapes10("test", n=IMAGES)
    with TemporaryDirectory() as folder:
        result = train(prepare(replace(CONFIG, out=Path(folder), name="run")))
        trained = models.load(Path(folder) / "run", ops=jit)
    blocks = {
        layer: gates.s
        for layer, gates in gates_of(trained.net, trained.normalise(images.images[:])).items()
    }
    last = blocks[list(blocks)[-1]]
    distances = {
        pair: float(np.linalg.norm(last[pair[0]] - last[pair[1]]))
        for pair in combinations(range(IMAGES), 2)
    }
    pair = max(distances, key=distances.__getitem__)
    return {
        "accuracy": round(result.test["accuracy"], 4),
        "distance": round(distances[pair], 4),
        "median_distance": round(float(np.median(list(distances.values()))), 4),
        "images": [
            {
                "index": index,
                "class": images.classes[images.labels[index]],
                "gates": {
                    layer: s[index].astype(float).round(3).tolist() for layer, s in blocks.items()
                },
            }
            for index in pair
        ],
    }


if __name__ == "__main__":
    about = {"data": "shapes10", "split": "test", "images": IMAGES, "seed": CONFIG.seed}
    print(write_result("two_images", {**about, "model": CONFIG.model}, **measure()))

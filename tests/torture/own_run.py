"""A run of train.run with a net that draws random masks, as a function and as a command.

python -m tests.torture.own_run '{"out": "runs", "ops": "jit", "seed": 3}'
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from minise import nn, train
from minise.data import Augment, Batches, Dataset, LazyImages
from minise.ops.backend import load_ops

EPOCHS, IMAGES, BATCH = 4, 40, 4  # five steps an epoch with two batches a step, else ten
STEPS = EPOCHS * IMAGES // BATCH  # with one batch a step


def dropout_net(ops: str, seed: int, threads: int) -> nn.Chain:
    """Return a small net with normalisation and dropout, whose values and masks depend on seed."""
    made = dict(ops=load_ops(ops, threads), rng=np.random.default_rng(seed))
    return nn.Chain(
        nn.Conv2d(3, 4, 3, padding=1, **made),
        nn.BatchNorm2d(4, ops=made["ops"]),
        nn.ReLU(ops=made["ops"]),
        nn.Dropout(0.3, **made),
        nn.Conv2d(4, 8, 3, padding=1, stride=2, **made),
        nn.ReLU(ops=made["ops"]),
        nn.GlobalAvgPool2d(ops=made["ops"]),
        nn.Dropout(0.5, **made),
        nn.Linear(8, 3, **made),
    )


def images(count: int, seed: int, lazy: bool = False) -> Dataset:
    """Return images of three classes, in memory or decoded on use."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 3
    pixels = rng.integers(0, 156, (count, 3, 8, 8)) + 50 * labels[:, None, None, None]
    pixels = pixels.astype(np.uint8)
    read = LazyImages(lambda index: pixels[index], count, 8, 8, cache_bytes=999)
    return Dataset("own", read if lazy else pixels, labels, ("a", "b", "c"))


class WithoutStart:
    """Batches whose epoch cannot begin in its middle."""

    def __init__(self, batches: Batches) -> None:
        self.batches, self.fingerprint = batches, "the same"

    def __len__(self) -> int:
        return len(self.batches)

    def epoch(self, epoch: int) -> Any:
        """Yield the batches of an epoch."""
        yield from self.batches.epoch(epoch)


SOURCES = {
    "memory": lambda batches: batches,
    "lazy": lambda batches: batches,
    "without start": WithoutStart,
    "list": lambda batches: list(batches.epoch(0)),
}


def own_run(
    out: str | Path,
    *,
    ops: str = "reference",
    seed: int = 0,
    momentum: float = 0.9,
    nesterov: bool = True,
    accumulate: int = 1,
    threads: int = 1,
    resume: str | None = None,
    save_every: float = 60.0,
    source: str = "memory",
    epochs: int = EPOCHS,
    log_every: int = 1,
    **settings: Any,
) -> train.Result:
    """Train, or continue to train, a net with dropout on augmented images; seed is the net's."""
    net = dropout_net(ops, seed, threads)
    augment = Augment(crop=1, flip=True, cutout=3)
    scale = dict(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    data = images(IMAGES, 1, source == "lazy")
    batches = SOURCES[source](Batches(data, BATCH, seed=5, augment=augment, **scale))
    val, test = (Batches(images(12, number), 6, shuffle=False, **scale) for number in (2, 3))
    return train.run(
        net,
        train.SoftmaxCrossEntropy(net.ops),
        batches,
        train.SGD(net, momentum, nesterov),
        epochs=epochs,
        accumulate=accumulate,
        warmup=0.2,
        val=val,
        test=test,
        out=out,
        name="run",
        log_every=log_every,
        save_every=save_every,
        threads=threads,
        resume=resume,
        data=dict(classes=["a", "b", "c"]),
        console=Console(quiet=True),
        **settings,
    )


if __name__ == "__main__":
    own_run(**json.loads(sys.argv[1]))

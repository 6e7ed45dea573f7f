"""The training loop: batches, forward, loss, backward, step; once an epoch validate and save.

One step is in step.py. What is trained is a `Training`, which `fit` (setup.py) makes of a
TrainConfig, and `run` (own.py) of a net and data of the caller's own.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minise.nn import Layer
from minise.ops.backend import on_compile
from minise.ops.checks import Array
from minise.train import checkpoint as checkpoints
from minise.train.batches import Batched, epoch_of, groups_of
from minise.train.checkpoint import Checkpoint, arrays_of, restore
from minise.train.evaluate import Confusion, evaluate
from minise.train.interrupt import Interrupted, Interruption
from minise.train.objective import Objective
from minise.train.progress import Progress
from minise.train.run_folder import RunFolder
from minise.train.schedule import rate_at
from minise.train.sgd import SGD
from minise.train.step import train_step

if TYPE_CHECKING:
    from rich.console import Console


class NonFiniteLoss(FloatingPointError):
    """The loss became NaN or infinite; the message has the step and a hint."""


class Result(NamedTuple):
    """What a run ends with."""

    test: dict[str, float]  # loss and metrics on the test set; empty without one
    confusion: Array | None  # (classes, classes) counts of the test: row the label
    folder: Path
    images_per_second: float  # of training steps, as training_seconds
    training_seconds: float  # of all training steps, with their data, and with what is compiled
    seconds: float  # of everything


@dataclass
class Training:
    """A run that is ready to start."""

    net: Layer
    objective: Objective
    optimiser: SGD
    train: Batched
    val: Batched | None
    test: Batched | None
    evaluation: Objective  # of validation and test
    folder: RunFolder
    epochs: int
    lr: float  # the highest learning rate
    schedule: str = "cosine"
    warmup: float = 0.0
    accumulate: int = 1
    log_every: int = 50
    threads: int = 0
    settings: dict[str, Any] = field(default_factory=dict)  # all that repeats the run, as JSON
    data: dict[str, Any] = field(default_factory=dict)  # mean, std, classes

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return math.ceil(len(self.train) / self.accumulate)

    def confusion(self) -> Confusion | None:
        """Return empty counts of the classes, or None where they have no names."""
        classes = self.data.get("classes")
        return Confusion(len(classes)) if classes else None


def train(training: Training, console: "Console | None" = None) -> Result:
    """Train, validate and save, epoch by epoch; then read the test set once."""
    from rich.console import Console
    from threadpoolctl import threadpool_limits

    console = Console() if console is None else console
    start = time.perf_counter()
    training.folder.write_config(training.settings)
    test, confusion = {}, training.confusion()
    with (
        threadpool_limits(training.threads or 1, "blas"),
        np.errstate(over="ignore", invalid="ignore"),  # a loss that diverges has our own message
        Interruption() as interruption,
        Progress(console, training.epochs, training.steps) as progress,
        on_compile(progress.compiling),
    ):
        images, trained = _epochs(training, progress, interruption)
        if training.val is not None:
            restore(training.net, checkpoints.load(training.folder.best).arrays)
        if training.test is not None:
            test = evaluate(training.net, training.test, training.evaluation, confusion)
    seconds = time.perf_counter() - start
    training.folder.log("test", **test, training_seconds=trained, seconds=seconds)
    counts = None if confusion is None else confusion.counts
    return Result(test, counts, training.folder.path, images / trained, trained, seconds)


def _epochs(
    training: Training, progress: Progress, interruption: Interruption
) -> tuple[int, float]:
    """Train all epochs; return how many images that were, and the seconds of its steps."""
    folder, images, seconds, best = training.folder, 0, 0.0, -math.inf
    for epoch in range(1, training.epochs + 1):
        figures, count = _one_epoch(training, epoch, progress, interruption)
        images, seconds = images + count, seconds + figures["seconds"]
        if training.val is not None:
            observe = training.confusion()  # which checks the targets
            val = evaluate(training.net, training.val, training.evaluation, observe)
            figures |= {f"val_{name}": value for name, value in val.items()}
        folder.log("epoch", **figures)
        progress.line(_epoch_line(figures, training.epochs))
        _save(training, folder.last, figures)
        if training.val is not None:
            quality = val.get("accuracy", -val["loss"])
            if epoch == 1 or quality > best or math.isnan(best):
                best = quality
                _save(training, folder.best, figures)
    return images, seconds


def _one_epoch(
    training: Training, epoch: int, progress: Progress, interruption: Interruption
) -> tuple[dict[str, Any], int]:
    """Take every step of an epoch; return its figures and how many images it had."""
    steps, first = training.steps, (epoch - 1) * training.steps
    start, seen, lr = time.perf_counter(), 0, 0.0
    sums: dict[str, float] = {}
    groups = groups_of(epoch_of(training.train, epoch - 1), training.accumulate)
    for k, group in enumerate(groups):
        lr = rate_at(
            first + k,
            training.epochs * steps,
            peak=training.lr,
            schedule=training.schedule,
            warmup=training.warmup,
        )
        means = train_step(training.net, training.objective, training.optimiser, group, lr)
        if not math.isfinite(means["loss"]):
            raise NonFiniteLoss(_divergence(means["loss"], epoch, first + k, lr, training))
        count = sum(len(x) for x, _ in group)
        seen += count
        for name, mean in means.items():
            sums[name] = sums.get(name, 0.0) + mean * count
        speed = seen / (time.perf_counter() - start)
        progress.step(epoch, k + 1, {name: s / seen for name, s in sums.items()}, speed)
        if (first + k + 1) % training.log_every == 0:
            own = dict(epoch=epoch, step=first + k + 1, loss=means["loss"], rate=lr)
            training.folder.log("step", **own, images_per_second=speed)
        if interruption.number:
            done = {"epoch": epoch - 1, "step": first + k + 1}
            _save(training, training.folder.last, done)
            where = f"step {first + k + 1} of {training.epochs * steps}"
            message = f"interrupted after {where}; {training.folder.last} is written"
            raise Interrupted(interruption.number, message)
    if not seen:
        raise ValueError(
            f"train: epoch({epoch - 1}) of the batches yields nothing, expected "
            f"{len(training.train)} batches as len says: begin every epoch anew"
        )
    seconds = time.perf_counter() - start
    means = {name: s / seen for name, s in sums.items()}
    speeds = dict(rate=lr, images_per_second=seen / seconds, seconds=seconds)
    return {"epoch": epoch, "step": epoch * steps, **means, **speeds}, seen


def _save(training: Training, path: Path, figures: dict[str, Any]) -> None:
    asnumpy = training.net.ops.asnumpy
    velocity = {name: asnumpy(array) for name, array in training.optimiser.velocity.items()}
    arrays = arrays_of(training.net)
    checkpoints.save(path, Checkpoint(arrays, velocity, training.settings, figures, training.data))


def _epoch_line(figures: dict[str, Any], epochs: int) -> str:
    accuracy = f"  train {figures['accuracy']:.2%}" if "accuracy" in figures else ""
    val = ""
    if "val_accuracy" in figures:
        val = f"  val {figures['val_accuracy']:.2%}"
    elif "val_loss" in figures:
        val = f"  val loss {figures['val_loss']:.4f}"
    return (
        f"epoch {figures['epoch']}/{epochs}  loss {figures['loss']:.4f}{accuracy}{val}  "
        f"{figures['images_per_second']:.0f} images/s  {figures['seconds']:.0f} s"
    )


def _divergence(loss: float, epoch: int, step: int, lr: float, training: Training) -> str:
    return (
        f"the loss is {loss} at step {step + 1} (epoch {epoch}, rate {lr:.3g}): lower the "
        f"highest learning rate ({training.lr:g}) or lengthen the warmup ({training.warmup:g}); "
        "wrap.attach(net, wrap.guarded(net.ops)), `minise train --guard` on the command line, "
        "names the layer and op in which it starts"
    )

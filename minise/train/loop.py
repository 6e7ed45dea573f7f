"""The training loop: batches, forward, loss, backward, step; validate and save every epoch.

step.py has the training step. `fit` (setup.py) builds a `Training` from a TrainConfig, and `run`
(own.py) from a user's net and data.
"""

import math
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.nn import Layer
from minise.ops.backend import on_compile
from minise.train import checkpoint as checkpoints
from minise.train.batches import BatchSource, epoch_batches, group_batches
from minise.train.checkpoint import Checkpoint, arrays_of, restore
from minise.train.evaluate import Confusion, evaluate
from minise.train.interrupt import Interrupted, Interruption
from minise.train.objective import Objective
from minise.train.progress import Progress, clock
from minise.train.run_folder import RunFolder
from minise.train.schedule import lr_at
from minise.train.sgd import SGD
from minise.train.step import train_step

if TYPE_CHECKING:
    from rich.console import Console


class NonFiniteLoss(FloatingPointError):
    """The loss is NaN or infinite; the message has the step and a hint."""


class Result(NamedTuple):
    """The result of a run."""

    test: dict[str, float]  # loss and metrics on the test set; empty without a test set
    confusion: Array | None  # (classes, classes) test counts: row label, column prediction
    folder: Path
    images_per_second: float  # during training_seconds without compilation
    training_seconds: float  # of all training steps, including data and compilation
    seconds: float  # of the whole run


@dataclass
class Training:
    """Everything that a run needs to start."""

    net: Layer
    objective: Objective
    optimiser: SGD
    train: BatchSource
    val: BatchSource | None
    test: BatchSource | None
    evaluation: Objective  # of validation and test
    folder: RunFolder
    epochs: int
    lr: float  # the highest learning rate
    schedule: str = "cosine"
    warmup: float = 0.0
    accumulate: int = 1
    log_every: int = 50
    threads: int = 0
    settings: dict[str, Any] = field(default_factory=dict)  # for config.json, to repeat the run
    data: dict[str, Any] = field(default_factory=dict)  # mean, std, classes

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return math.ceil(len(self.train) / self.accumulate)

    def confusion(self) -> Confusion | None:
        """Return a confusion matrix of zeros, or None if the classes have no names."""
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
        np.errstate(over="ignore", invalid="ignore"),  # NonFiniteLoss reports divergence
        Interruption() as interruption,
        Progress(console, training.epochs, training.steps) as progress,
        on_compile(progress.compiling),
    ):
        throughput, trained = _epochs(training, progress, interruption)
        if training.val is not None:
            restore(training.net, checkpoints.load(training.folder.best).arrays)
        if training.test is not None:
            test = evaluate(training.net, training.test, training.evaluation, confusion)
    seconds = time.perf_counter() - start
    training.folder.log("test", **test, training_seconds=trained, seconds=seconds)
    counts = None if confusion is None else confusion.counts
    return Result(test, counts, training.folder.path, throughput, trained, seconds)


def _epochs(
    training: Training, progress: Progress, interruption: Interruption
) -> tuple[float, float]:
    """Train all epochs; return the throughput and the seconds of the training steps."""
    folder, images, seconds, best = training.folder, 0, 0.0, -math.inf
    seconds_without_compilation = 0.0
    for epoch in range(1, training.epochs + 1):
        metrics, count = _one_epoch(training, epoch, progress, interruption)
        images, seconds = images + count, seconds + metrics["seconds"]
        seconds_without_compilation += count / metrics["images_per_second"]
        if training.val is not None:
            observe = training.confusion()  # it checks the targets
            val = evaluate(training.net, training.val, training.evaluation, observe)
            metrics |= {f"val_{name}": value for name, value in val.items()}
        folder.log("epoch", **metrics)
        progress.line(_epoch_line(metrics, training.epochs))
        _save(training, folder.last, metrics)
        if training.val is not None:
            score = val.get("accuracy", -val["loss"])
            if epoch == 1 or score > best or math.isnan(best):
                best = score
                _save(training, folder.best, metrics)
    return images / seconds_without_compilation, seconds


def _one_epoch(
    training: Training, epoch: int, progress: Progress, interruption: Interruption
) -> tuple[dict[str, Any], int]:
    """Train one epoch; return its record for metrics.jsonl and the number of images."""
    steps, first = training.steps, (epoch - 1) * training.steps
    start, clock_start, seen, lr = time.perf_counter(), clock(), 0, 0.0
    sums: dict[str, float] = {}
    groups = group_batches(epoch_batches(training.train, epoch - 1), training.accumulate)
    for k, group in enumerate(groups):
        lr = lr_at(
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
        throughput = seen / (clock() - clock_start)
        progress.step(epoch, k + 1, {name: s / seen for name, s in sums.items()}, throughput)
        if (first + k + 1) % training.log_every == 0:
            record = dict(epoch=epoch, step=first + k + 1, loss=means["loss"], lr=lr)
            training.folder.log("step", **record, images_per_second=throughput)
        if interruption.number:
            completed = {"epoch": epoch - 1, "step": first + k + 1}
            _save(training, training.folder.last, completed)
            where = f"step {first + k + 1} of {training.epochs * steps}"
            message = f"interrupted after {where}; {training.folder.last} is written"
            raise Interrupted(interruption.number, message)
    if not seen:
        raise ValueError(
            f"train: epoch({epoch - 1}) of the batches yields 0 batches, expected "
            f"{len(training.train)}, their len: return a new iterator from each call of epoch"
        )
    seconds, throughput = time.perf_counter() - start, seen / (clock() - clock_start)
    means = {name: s / seen for name, s in sums.items()}
    timing = dict(lr=lr, images_per_second=throughput, seconds=seconds)
    return {"epoch": epoch, "step": epoch * steps, **means, **timing}, seen


def _save(training: Training, path: Path, metrics: dict[str, Any]) -> None:
    asnumpy = training.net.ops.asnumpy
    velocity = {name: asnumpy(array) for name, array in training.optimiser.velocity.items()}
    arrays = arrays_of(training.net)
    checkpoints.save(path, Checkpoint(arrays, velocity, training.settings, metrics, training.data))


def _epoch_line(metrics: dict[str, Any], epochs: int) -> str:
    accuracy = f"  train {metrics['accuracy']:.2%}" if "accuracy" in metrics else ""
    val = ""
    if "val_accuracy" in metrics:
        val = f"  val {metrics['val_accuracy']:.2%}"
    elif "val_loss" in metrics:
        val = f"  val loss {metrics['val_loss']:.4f}"
    return (
        f"epoch {metrics['epoch']}/{epochs}  loss {metrics['loss']:.4f}{accuracy}{val}  "
        f"{metrics['images_per_second']:.0f} images/s  {metrics['seconds']:.0f} s"
    )


def _divergence(loss: float, epoch: int, step: int, lr: float, training: Training) -> str:
    return (
        f"the loss is {loss} at step {step + 1} (epoch {epoch}, lr {lr:.3g}): lower the highest "
        f"learning rate ({training.lr:g}) or lengthen the warmup ({training.warmup:g}); to find "
        "the layer and op with the first NaN or infinity, use `minise train --guard`, or in Python "
        "wrap.attach(net, wrap.guarded(net.ops))"
    )

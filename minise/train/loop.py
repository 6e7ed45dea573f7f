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
from minise.ops.backend import compile_seconds, on_compile
from minise.train import checkpoint as checkpoints
from minise.train.batches import BatchSource, epoch_batches, group_batches
from minise.train.checkpoint import Checkpoint, arrays_of, restore
from minise.train.dump import dumping
from minise.train.evaluate import Confusion, evaluate
from minise.train.finite import (
    NonFiniteLoss,
    NonFiniteState,
    check_state,
    naming_the_array,
    overflow,
)
from minise.train.interrupt import Interrupted, Interruption, naming_the_checkpoint
from minise.train.means import Means
from minise.train.memory import out_of_memory
from minise.train.objective import Objective, SoftmaxCrossEntropy
from minise.train.progress import Progress
from minise.train.run_folder import RunFolder, as_strict_json
from minise.train.schedule import lr_at
from minise.train.sgd import SGD
from minise.train.step import train_step
from minise.train.verdict import verdict

if TYPE_CHECKING:
    from rich.console import Console


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
    """Train, validate and save, epoch by epoch; then read the test set once.

    No checkpoint has a NaN or an infinity. If one appears in a parameter, a running statistic or a
    velocity, the run ends with NonFiniteState, and the checkpoints written before stay. An epoch
    whose validation loss is not finite is never the best one.
    """
    from rich.console import Console
    from threadpoolctl import threadpool_limits

    console = Console() if console is None else console
    start = time.perf_counter()
    test, confusion = {}, training.confusion()
    with (
        threadpool_limits(training.threads or 1, "blas"),
        np.errstate(over="ignore", invalid="ignore"),  # NonFiniteLoss reports divergence
        Interruption() as interruption,
        Progress(console, training.epochs, training.steps) as progress,
        on_compile(progress.compiling),
        naming_the_checkpoint(training.folder, interruption),
        naming_the_array(training.net),
    ):
        training.folder.write_config(training.settings)
        epochs, throughput = _epochs(training, progress, interruption)
        if training.val is not None:
            restore(training.net, checkpoints.load(training.folder.best).arrays)
        if training.test is not None:
            step = training.epochs * training.steps
            with interruption.at_once(), dumping(training, "test", step):
                test = evaluate(training.net, training.test, training.evaluation, confusion)
        trained, seconds = sum(epoch["seconds"] for epoch in epochs), time.perf_counter() - start
        counts = None if confusion is None else confusion.counts
        record = {**test, "training_seconds": trained, "seconds": seconds}
        warning, remark = overflow("test", test), _verdict(training, epochs, counts)
        if remark:
            record["remark"] = remark
        training.folder.log("test", **record)
        if warning:
            raise NonFiniteLoss(warning)
        if remark:
            progress.line(remark)
    return Result(test, counts, training.folder.path, throughput, trained, seconds)


def _epochs(
    training: Training, progress: Progress, interruption: Interruption
) -> tuple[list[dict[str, Any]], float]:
    """Train all epochs; return their records for metrics.jsonl and the images per second."""
    folder, images, seconds, best = training.folder, 0, 0.0, -math.inf  # without compilation
    records = []
    for epoch in range(1, training.epochs + 1):
        metrics, count = _one_epoch(training, epoch, progress, interruption)
        images, seconds = images + count, seconds + count / metrics["images_per_second"]
        _check_state(training, metrics["step"])
        if training.val is not None:
            val = _validate(training, metrics, interruption)
            metrics |= {f"val_{name}": value for name, value in val.items()}
        records.append(metrics)
        folder.log("epoch", **metrics)
        progress.line(_epoch_line(metrics, training.epochs))
        _save(training, folder.last, metrics)
        if training.val is None:
            continue
        score = val.get("accuracy", -val["loss"])
        if warning := overflow("validation", val):
            progress.line(warning)
        elif score > best:
            best = score
            _save(training, folder.best, metrics)
    if training.val is not None and not folder.best.exists():
        raise NonFiniteLoss(f"there is no best epoch: {warning}")
    return records, images / seconds


def _validate(
    training: Training, metrics: dict[str, Any], interruption: Interruption
) -> dict[str, float]:
    """Return loss and metrics of the validation set; after a failure, save the trained epoch."""
    assert training.val is not None
    observe = training.confusion()  # it checks the targets
    try:
        with interruption.at_once(), dumping(training, "validation", metrics["step"]):
            return evaluate(training.net, training.val, training.evaluation, observe)
    except BaseException:
        _save(training, training.folder.last, metrics)
        raise


def _one_epoch(
    training: Training, epoch: int, progress: Progress, interruption: Interruption
) -> tuple[dict[str, Any], int]:
    """Train one epoch; return its record for metrics.jsonl and the number of images."""
    first, lr, means = (epoch - 1) * training.steps, 0.0, Means()
    start, compiled = time.perf_counter(), compile_seconds()
    groups = group_batches(epoch_batches(training.train, epoch - 1), training.accumulate)
    for step, group in enumerate(groups, first + 1):
        lr = _lr(training, step)
        try:
            with dumping(training, "training", step):
                results = train_step(
                    training.net, training.objective, training.optimiser, group, lr
                )
        except MemoryError as error:
            raise out_of_memory(error, training.net, training.objective, group[0]) from None
        means.add(results, sum(len(x) for x, _ in group))
        due = step % training.log_every == 0
        if not (means.on_host or due or interruption.number):
            continue  # reading the loss would wait for the GPU
        _read(means, step, epoch, training)
        seconds = time.perf_counter() - start
        throughput = means.count / (seconds - (compile_seconds() - compiled))
        progress.step(epoch, step - first, means.means(), throughput)
        if due:
            record = dict(epoch=epoch, step=step, loss=means.last["loss"], lr=lr)
            training.folder.log("step", **record, images_per_second=throughput)
        if interruption.number:
            _save(training, training.folder.last, {"epoch": epoch - 1, "step": step})
            where = f"step {step} of {training.epochs * training.steps}"
            message = f"interrupted after {where}; {training.folder.last} is written"
            raise Interrupted(interruption.number, message)
    if not means.count:
        raise ValueError(
            f"train: epoch({epoch - 1}) of the batches yields 0 batches, expected "
            f"{len(training.train)}, their len: return a new iterator from each call of epoch"
        )
    _read(means, epoch * training.steps, epoch, training)
    seconds = time.perf_counter() - start
    throughput = means.count / (seconds - (compile_seconds() - compiled))
    timing = dict(lr=lr, images_per_second=throughput, seconds=seconds)
    return {"epoch": epoch, "step": epoch * training.steps, **means.means(), **timing}, means.count


def _lr(training: Training, step: int) -> float:
    """Return the learning rate of a step of the run, counted from 1."""
    return lr_at(
        step - 1,
        training.epochs * training.steps,
        peak=training.lr,
        schedule=training.schedule,
        warmup=training.warmup,
    )


def _read(means: Means, step: int, epoch: int, training: Training) -> None:
    """Read the results up to a step; raise NonFiniteLoss for the first loss that is not finite."""
    results = means.read()
    for number, result in enumerate(results, step + 1 - len(results)):
        if not math.isfinite(result["loss"]):
            lr = _lr(training, number)
            raise NonFiniteLoss(_divergence(result["loss"], epoch, number - 1, lr, training))


def _save(training: Training, path: Path, metrics: dict[str, Any]) -> None:
    """Write a checkpoint; raise NonFiniteState, and write nothing, if an array is not finite."""
    _check_state(training, metrics["step"])
    asnumpy = training.net.ops.asnumpy
    velocity = {name: asnumpy(array) for name, array in training.optimiser.velocity.items()}
    progress = as_strict_json(metrics)
    checkpoints.save(
        path,
        Checkpoint(arrays_of(training.net), velocity, training.settings, progress, training.data),
    )


def _check_state(training: Training, step: int) -> None:
    """Raise NonFiniteState if a parameter, running statistic or velocity is not finite."""
    hint = f", after step {step} of {training.epochs * training.steps}: {_remedy(training)}"
    check_state(training.net, training.optimiser.velocity, hint)


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
    cause = (
        "every parameter, running statistic and velocity is finite, so the inputs are not, or "
        "activations overflow"
    )
    try:
        check_state(training.net, training.optimiser.velocity)
    except NonFiniteState as error:
        cause = str(error)
    where = f"the loss is {loss} at step {step + 1} (epoch {epoch}, lr {lr:.3g}); {cause}"
    return f"{where}: {_remedy(training)}"


def _remedy(training: Training) -> str:
    return (
        f"lower the highest learning rate ({training.lr:g}) or lengthen the warmup "
        f"({training.warmup:g}); to find the layer and op with the first NaN or infinity, use "
        "`minise train --guard`, or in Python wrap.attach(net, wrap.guarded(net.ops))"
    )


def _verdict(training: Training, epochs: list[dict[str, Any]], counts: Array | None) -> str | None:
    """Return the `verdict` about a finished run, or None."""
    losses, names = [epoch["loss"] for epoch in epochs], training.data.get("classes")
    softmax = isinstance(training.objective, SoftmaxCrossEntropy)
    classes = len(names) if names and softmax else None
    tested = counts if training.test is not None else None
    return verdict(losses, training.lr, training.epochs * training.steps, classes, tested)

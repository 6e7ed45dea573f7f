"""The training loop: batch, forward, loss, backward, step; once an epoch validate and save."""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minise.ops.backend import on_compile
from minise.ops.checks import Array
from minise.train import checkpoint as checkpoints
from minise.train.checkpoint import Checkpoint, arrays_of, restore
from minise.train.config import TrainConfig
from minise.train.evaluate import Evaluation, evaluate
from minise.train.interrupt import Interrupted, Interruption
from minise.train.progress import Progress
from minise.train.schedule import rate_at
from minise.train.setup import Training, prepare
from minise.train.sgd import SGD

if TYPE_CHECKING:
    from rich.console import Console


class NonFiniteLoss(FloatingPointError):
    """The loss became NaN or infinite; the message has the step and a hint."""


class Result(NamedTuple):
    """What a run ends with."""

    test: Evaluation
    folder: Path
    images_per_second: float  # of training steps, as training_seconds
    training_seconds: float  # of all training steps, with their data, and with what is compiled
    seconds: float  # of everything


def fit(config: TrainConfig, console: "Console | None" = None) -> Result:
    """Train a net as config says.

    Parameters
    ----------
    config : TrainConfig
        The settings.
    console : rich Console, optional
        Where to report; by default standard output.

    Returns
    -------
    Result
        Test figures of the best epoch by validation (of the last with val=0), and where the run
        folder is.

    Raises
    ------
    ValueError, TypeError, OSError
        Before training, if a setting, the data or the folder is wrong.
    NonFiniteLoss
        If training diverges.
    Interrupted
        If a signal came; then the checkpoint is written.
    """
    return run(prepare(config), console)


def run(training: Training, console: "Console | None" = None) -> Result:
    """Train, validate and save, epoch by epoch; then read the test set once."""
    from rich.console import Console
    from threadpoolctl import threadpool_limits

    config = training.config
    console = Console() if console is None else console
    start = time.perf_counter()
    training.folder.write_config(config)
    with (
        threadpool_limits(config.threads or 1, "blas"),
        np.errstate(over="ignore", invalid="ignore"),  # a loss that diverges is told in our words
        Interruption() as interruption,
        Progress(console, config.epochs, len(training.train)) as progress,
        on_compile(progress.compiling),
    ):
        trained = _epochs(training, progress, interruption)
        if training.val is not None:
            restore(training.net, checkpoints.load(training.folder.best).arrays)
        test = evaluate(training.net, training.test, len(training.data["classes"]))
    seconds = time.perf_counter() - start
    training.folder.log(
        "test",
        loss=test.loss,
        accuracy=test.accuracy,
        training_seconds=trained,
        seconds=seconds,
    )
    speed = config.epochs * len(training.train.dataset) / trained
    return Result(test, training.folder.path, speed, trained, seconds)


def _epochs(training: Training, progress: Progress, interruption: Interruption) -> float:
    """Train all epochs and return how many seconds their steps took."""
    config, folder = training.config, training.folder
    seconds, best = 0.0, -1.0
    for epoch in range(1, config.epochs + 1):
        figures = _one_epoch(training, epoch, progress, interruption)
        seconds += figures["seconds"]
        if training.val is not None:
            val = evaluate(training.net, training.val, len(training.data["classes"]))
            figures |= {"val_loss": val.loss, "val_accuracy": val.accuracy}
        folder.log("epoch", **figures)
        progress.line(_epoch_line(figures, config.epochs))
        _save(training, folder.last, figures)
        if training.val is not None and figures["val_accuracy"] > best:
            best = figures["val_accuracy"]
            _save(training, folder.best, figures)
    return seconds


def _one_epoch(
    training: Training, epoch: int, progress: Progress, interruption: Interruption
) -> dict[str, Any]:
    """Take every step of an epoch and return its figures."""
    config, steps = training.config, len(training.train)
    start, loss_sum, hits, seen, rate = time.perf_counter(), 0.0, 0, 0, 0.0
    for k, (images, labels) in enumerate(training.train.epoch(epoch - 1)):
        step = (epoch - 1) * steps + k
        rate = rate_at(
            step,
            config.epochs * steps,
            peak=config.rate,
            schedule=config.schedule,
            warmup=config.warmup,
        )
        loss, right = train_step(
            training.net, training.optimiser, images, labels, rate, config.label_smoothing
        )
        if not math.isfinite(loss):
            raise NonFiniteLoss(_divergence(loss, epoch, step, rate, config))
        loss_sum, hits, seen = loss_sum + loss * len(labels), hits + right, seen + len(labels)
        speed = seen / (time.perf_counter() - start)
        progress.step(epoch, k + 1, loss_sum / seen, hits / seen, speed)
        if (step + 1) % config.log_every == 0:
            training.folder.log(
                "step", epoch=epoch, step=step + 1, loss=loss, rate=rate, images_per_second=speed
            )
        if interruption.number:
            done = {"epoch": epoch - 1, "step": step + 1}
            _save(training, training.folder.last, done)
            where = f"step {step + 1} of {config.epochs * steps}"
            message = f"interrupted after {where}; {training.folder.last} is written"
            raise Interrupted(interruption.number, message)
    seconds = time.perf_counter() - start
    return {
        "epoch": epoch,
        "step": epoch * steps,
        "loss": loss_sum / seen,
        "accuracy": hits / seen,
        "rate": rate,
        "images_per_second": seen / seconds,
        "seconds": seconds,
    }


def train_step(
    net: Any, optimiser: SGD, images: Array, labels: Array, rate: float, label_smoothing: float = 0
) -> tuple[float, int]:
    """Take one step; return the loss before it and how many images were classified rightly.

    Where that loss is not finite, the parameters stay as they are. On a GPU they are lost as well:
    to look at the loss would be to wait for it.
    """
    ops = net.ops
    targets = ops.asarray(labels)
    logits = net.forward(ops.asarray(images), training=True)
    loss, cache = ops.softmax_cross_entropy_forward(
        logits, targets, label_smoothing=label_smoothing
    )
    if not isinstance(loss, np.ndarray | np.generic) or np.isfinite(loss):
        one = ops.asarray(1, logits.dtype)
        dlogits, _ = ops.softmax_cross_entropy_backward(one, cache)
        net.backward_params(dlogits)
        optimiser.step(rate)
    return float(loss), int((ops.asnumpy(logits).argmax(axis=1) == labels).sum())


def _save(training: Training, path: Path, figures: dict[str, Any]) -> None:
    asnumpy = training.net.ops.asnumpy
    velocity = {name: asnumpy(array) for name, array in training.optimiser.velocity.items()}
    checkpoints.save(
        path,
        Checkpoint(arrays_of(training.net), velocity, training.config, figures, training.data),
    )


def _epoch_line(figures: dict[str, Any], epochs: int) -> str:
    val = f"  val {figures['val_accuracy']:.2%}" if "val_accuracy" in figures else ""
    return (
        f"epoch {figures['epoch']}/{epochs}  loss {figures['loss']:.4f}  "
        f"train {figures['accuracy']:.2%}{val}  {figures['images_per_second']:.0f} images/s  "
        f"{figures['seconds']:.0f} s"
    )


def _divergence(loss: float, epoch: int, step: int, rate: float, config: TrainConfig) -> str:
    return (
        f"the loss is {loss} at step {step + 1} (epoch {epoch}, rate {rate:.3g}): lower --rate "
        f"({config.rate:g}) or lengthen --warmup ({config.warmup:g}); --guard names the layer and "
        "op in which it starts"
    )

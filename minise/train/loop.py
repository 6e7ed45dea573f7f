"""The training loop: batches, forward, loss, backward, step; once an epoch validate and save.

    out, cache = net.forward(x, training=True)
    loss, loss_cache = objective.forward(out, targets)
    _, grads = net.backward(objective.backward(loss_cache), cache)
    optimiser.step(grads, lr)

`fit` trains what a TrainConfig says, `run` a net and data of the caller's own.
"""

import json
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from minise.nn import Layer, total
from minise.nn.layer import Grads
from minise.ops.backend import on_compile
from minise.ops.checks import Array, check_choice, check_integer, check_number
from minise.train import checkpoint as checkpoints
from minise.train.batches import Batched, check_batches, epoch_of, groups_of
from minise.train.checkpoint import Checkpoint, arrays_of, restore
from minise.train.evaluate import Confusion, evaluate
from minise.train.interrupt import Interrupted, Interruption
from minise.train.objective import Objective, check_objective, figures_of, loss_of
from minise.train.progress import Progress
from minise.train.run_folder import RunFolder, check_threads, create
from minise.train.schedule import SCHEDULES, rate_at
from minise.train.sgd import SGD

if TYPE_CHECKING:
    from rich.console import Console


ON_HOST = np.ndarray | np.generic | float  # losses that can be looked at without a wait


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


def run(
    net: Layer,
    objective: Objective,
    batches: Batched,
    optimiser: SGD,
    *,
    epochs: int,
    lr: float = 0.1,
    schedule: str = "cosine",
    warmup: float = 0.0,
    accumulate: int = 1,
    val: Batched | None = None,
    test: Batched | None = None,
    evaluation: Objective | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    log_every: int = 50,
    threads: int = 0,
    data: dict[str, Any] | None = None,
    console: "Console | None" = None,
) -> Result:
    """Train a net of the caller's own, with a run folder, progress and checkpoints.

    Parameters
    ----------
    net : Layer
        Trained in place; with validation it ends with the parameters of the best epoch.
    objective : Objective
        What is minimised, such as train.SoftmaxCrossEntropy(ops).
    batches : sequence of (inputs, targets), or an object with __len__ and epoch(k)
        Inputs (n, …) and targets as the objective takes them, of any dtype and shape. epoch(k)
        yields the batches of epoch k, counted from 0, of which len(batches) are taken.
    optimiser : SGD
        Of the net.
    epochs : int
        Passes over the batches.
    lr, schedule, warmup
        Highest learning rate, and how it rises and falls (train.rate_at).
    accumulate : int
        Batches whose gradients are added up for one step.
    val, test : as batches, optional
        Validated on every epoch; tested on once, at the end.
    evaluation : Objective, optional
        Of validation and test; by default the objective. The best epoch has the highest
        "accuracy" of its metrics, or where there is none the lowest loss.
    out, name : path, str
        Folder of run folders, and the name of this one, by default run-1, run-2, ….
    log_every : int
        Steps between two lines of metrics.jsonl.
    threads : int
        Of BLAS, at most the cores; 0 is one, with which a run of the reference can be repeated to
        the bit.
    data : dict, optional
        Goes into every checkpoint, as JSON: classes, mean and std of the images. NumPy's arrays
        become lists. With classes, one name for each of the net's outputs, confusion is counted.
    console : rich Console, optional
        Where to report; by default standard output.

    Returns
    -------
    Result
        Figures of the test, and where the run folder is.

    Raises
    ------
    ValueError, TypeError, OSError
        Before training, if a setting or the folder is wrong.
    NonFiniteLoss
        If training diverges.
    Interrupted
        If a signal came; then the checkpoint is written.
    """
    for setting, value in dict(epochs=epochs, accumulate=accumulate, log_every=log_every).items():
        check_integer("run", setting, value, 1)
    check_choice("run", "schedule", schedule, SCHEDULES)
    lr = check_number("run", "lr", lr, "a number of at least 0", 0, 1e6)
    warmup = check_number("run", "warmup", warmup, "a number from 0 to 1", 0, 1)
    check_threads("run", threads, 0)
    if not isinstance(out, str | PathLike):
        raise TypeError(f"run: out is a {type(out).__name__}, expected a folder: pass a path")
    _check_parts("run", net, objective, optimiser)
    if evaluation is not None:
        check_objective("run", "evaluation", evaluation, "forward", "metrics")
    for title, several in dict(batches=batches, val=val, test=test).items():
        if several is not None:
            check_batches("run", title, several)
    details = _as_json({} if data is None else data)
    epochs, accumulate, log_every = int(epochs), int(accumulate), int(log_every)
    settings = dict(
        epochs=epochs, lr=lr, schedule=schedule, warmup=warmup, accumulate=accumulate, net=repr(net)
    )
    ready = Training(
        net,
        objective,
        optimiser,
        batches,
        val,
        test,
        evaluation or objective,
        create(Path(out), name, "run"),
        epochs,
        lr,
        schedule,
        warmup,
        accumulate,
        log_every,
        threads,
        settings,
        details,
    )
    return train(ready, console)


def _check_parts(where: str, net: Any, objective: Any, optimiser: Any) -> None:
    """Refuse an objective and an optimiser that lack what a step of the net needs."""
    check_objective(where, "objective", objective, "forward", "backward", "metrics")
    if not all(hasattr(optimiser, name) for name in ("net", "step", "velocity")):
        raise TypeError(
            f"{where}: optimiser is a {type(optimiser).__name__}, expected an optimiser such as "
            "train.SGD: pass SGD(net)"
        )
    if optimiser.net is not net:
        raise ValueError(f"{where}: the optimiser is of another net: pass SGD(net)")


def _as_json(data: Any) -> dict[str, Any]:
    """Return a run's data as JSON reads them back, NumPy's arrays and numbers as Python's."""
    if not isinstance(data, dict):
        raise TypeError(
            f"run: data is a {type(data).__name__}, expected a dict: pass dict(classes=[...])"
        )
    try:
        text = json.dumps(data, default=_as_python)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"run: data is not JSON ({error}), expected numbers, strings, lists and dicts with "
            "strings as keys: convert what is of another type"
        ) from None
    read: dict[str, Any] = json.loads(text)
    classes = read.get("classes")
    if classes is not None and not isinstance(classes, list):
        raise TypeError(
            f'run: data["classes"] is {classes!r}, expected a list of names: pass one for each of '
            "the net's outputs"
        )
    return read


def _as_python(value: Any) -> Any:
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    raise TypeError(f"it has a {type(value).__name__}")


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


def train_step(
    net: Layer,
    objective: Objective,
    optimiser: SGD,
    batches: Sequence[tuple[Any, Any]],
    lr: float,
) -> dict[str, float]:
    """Take one step on the mean loss of one or several batches.

    Parameters
    ----------
    net, objective, optimiser
        As of `run`.
    batches : sequence of (inputs, targets)
        Their gradients are added up, each batch in proportion to its inputs.
    lr : float
        Learning rate.

    Returns
    -------
    dict of str to float
        The loss before the step and the objective's metrics. Where the loss is not finite,
        parameters and state are as they were. (On a GPU they are lost: to look at the loss of
        each batch would be to wait for it.) Only the loss is checked: gradients with NaN or
        infinity at a finite loss make the parameters so too; wrap.guarded finds where they arise.

    Raises
    ------
    ValueError, TypeError
        If a batch, the objective, the optimiser or lr is not as described here; then parameters
        and state are as they were.
    """
    _check_parts("train_step", net, objective, optimiser)
    check_batches("train_step", "batches", batches)
    ops, count = net.ops, sum(len(x) for x, _ in batches)
    held = net.named_state()
    state = {name: array.copy() for name, array in held.items()}
    grads: Grads = {}
    sums: dict[str, float] = {}
    refused = False
    try:
        for x, targets in batches:
            share = len(x) / count
            out, cache = net.forward(ops.asarray(x), training=True)
            loss, loss_cache = loss_of("train_step", objective, out, targets)
            refused = isinstance(loss, ON_HOST) and not np.isfinite(loss)
            if not refused:
                dout = objective.backward(loss_cache)
                if len(batches) > 1:
                    dout = dout * ops.asarray(share, dout.dtype)
                grads = total(grads, net.backward(dout, cache, needs_dx=False)[1])
            for name, mean in figures_of("train_step", objective, loss, out, targets).items():
                sums[name] = sums.get(name, 0.0) + mean * share
            if refused:
                break
        if not refused:
            optimiser.step(grads, lr)
            state = {}
    finally:
        for name, array in state.items():  # the step was refused: what forward did is undone
            held[name][...] = array
    return sums


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

"""The training loop: batches, forward, loss, backward, step; save, validate, log.

step.py has the training step. `fit` (setup.py) builds a `Training` from a TrainConfig, `run`
(own.py) from a user's net and data, and `resume` (resume.py) from a run folder.
"""

import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minise.checks import escaped
from minise.ops.backend import compile_seconds, on_compile
from minise.train import checkpoint as checkpoints
from minise.train.batches import BatchSource, epoch_batches, group_batches
from minise.train.checkpoint import Checkpoint, arrays_of, restore
from minise.train.dump import dumping
from minise.train.evaluate import Confusion, evaluate
from minise.train.finite import NonFiniteLoss, check_state, naming_the_array, overflow
from minise.train.interrupt import Interruption, interrupted, naming_the_checkpoint
from minise.train.means import Means
from minise.train.memory import out_of_memory
from minise.train.progress import Progress, per_second
from minise.train.report import divergence, epoch_line, remark, remedy
from minise.train.run_folder import as_strict_json
from minise.train.sgd import optimiser_state
from minise.train.step import train_step
from minise.train.training import Result, Training

if TYPE_CHECKING:
    from rich.console import Console

BEFORE = ", before the first step: build the net with finite parameters"


def train(training: Training, console: "Console | None" = None) -> Result:
    """Train, save and validate, epoch by epoch; then read the test set once.

    A checkpoint is written at the start, before each validation, every `save_every` seconds, after
    a signal and at the end. No checkpoint has a NaN or an infinity: if one appears in a parameter,
    a running statistic or a velocity, the run ends with NonFiniteState, and the checkpoints written
    before stay. An epoch whose validation loss is not finite is never the best one.
    """
    from rich.console import Console
    from threadpoolctl import threadpool_limits

    console = Console() if console is None else console
    step = training.state.step
    with (
        training.folder.written(),
        threadpool_limits(training.threads or 1, "blas"),
        np.errstate(over="ignore", invalid="ignore"),  # NonFiniteLoss reports divergence
        Interruption() as interruption,
        Progress(console, training.epochs, training.steps, step) as progress,
        on_compile(progress.compiling),
        naming_the_checkpoint(training.folder, interruption),
        naming_the_array(training.net),
    ):
        loop = Loop(training, progress, interruption)
        loop.start()
        loop.run_epochs()
        return loop.run_test()


class Loop:
    """A run in progress."""

    def __init__(self, training: Training, progress: Progress, interruption: Interruption) -> None:
        self.training, self.state = training, training.state
        self.progress, self.interruption = progress, interruption
        self.means = Means(self.state.sums, self.state.count)
        self._run_start = time.perf_counter() - self.state.run_seconds
        self._saved = self._stepped = time.perf_counter()
        self._save_seconds = 0.0
        self._overflow = "no validation loss is finite"
        self._keeps_last = not training.ignores_last

    def start(self) -> None:
        """Write config.json and a first checkpoint, or cut the log of a resumed run back."""
        training, folder, state = self.training, self.training.folder, self.state
        if not training.resumes:
            state.environment = training.environment()
            folder.write_config(training.settings)
            self.save()
            return
        warnings = [*training.warnings, *filter(None, [folder.cut_log(state.lines)])]
        folder.log("resume", step=state.step, warnings=warnings)
        for warning in warnings:
            self.progress.line(warning)
        done = f"step {state.step} of {training.epochs * training.steps}"
        self.progress.line(f"{escaped(str(folder.path))} continues after {done}")

    def run_epochs(self) -> None:
        """Train, save and validate until all epochs are finished."""
        training, state = self.training, self.state
        while len(state.epochs) < training.epochs:
            if state.step < (len(state.epochs) + 1) * training.steps:
                self.train_epoch()
            self.finish_epoch()
        self.save()
        if training.val is not None and state.best is None:
            raise NonFiniteLoss(f"there is no best epoch: {self._overflow}")

    def train_epoch(self) -> None:
        """Take the remaining steps of an epoch."""
        training, state, epoch = self.training, self.state, len(self.state.epochs)
        start = time.perf_counter() - state.seconds
        compiled = compile_seconds() - state.compile_seconds
        skipped = (state.step - epoch * training.steps) * training.accumulate
        batches = epoch_batches(training.train, epoch, skipped)
        for group in group_batches(batches, training.accumulate):
            self.step(group)
            state.seconds = time.perf_counter() - start
            state.compile_seconds = compile_seconds() - compiled
            self.after_step()
        if not self.means.count:
            raise ValueError(
                f"train: epoch({epoch}) of the batches yields 0 batches, expected "
                f"{len(training.train)}, their len: return a new iterator from each call of epoch"
            )
        self.read()
        state.step = (epoch + 1) * training.steps

    def step(self, group: list[tuple[Any, Any]]) -> None:
        """Take one optimiser step on a group of batches."""
        training, lr = self.training, self.training.lr_at(self.state.step + 1)
        try:
            with dumping(training, "training", self.state.step + 1):
                results = train_step(
                    training.net, training.objective, training.optimiser, group, lr
                )
        except MemoryError as error:
            raise out_of_memory(error, training.net, training.objective, group[0]) from None
        self.means.add(results, sum(len(x) for x, _ in group))
        self.state.step += 1

    def after_step(self) -> None:
        """Log, save or end the run, whichever is due after a step.

        The progress is shown last: Ctrl-C and a closed terminal may also end its reader.
        """
        training, state, number = self.training, self.state, self.interruption.number
        log, save = state.step % training.log_every == 0, number or self.is_save_due()
        if not (self.means.on_host or log or save):
            return  # reading the loss would wait for the GPU
        self.read()
        epoch, means, ips = len(state.epochs) + 1, self.means, self.images_per_second
        if log:
            record = dict(loss=means.last["loss"], lr=training.lr_at(state.step))
            training.folder.log(
                "step", epoch=epoch, step=state.step, **record, images_per_second=ips
            )
        if save:
            self.save()
        if number:
            where = f"step {state.step} of {training.epochs * training.steps}"
            raise interrupted(number, training.folder, where)
        done = state.step - (epoch - 1) * training.steps
        self.progress.step(epoch, done, means.means(), ips)

    @property
    def images_per_second(self) -> float:
        """The throughput of the unfinished epoch, without compilation."""
        return per_second(self.means.count, self.state.seconds - self.state.compile_seconds)

    def read(self) -> None:
        """Read the results of all steps so far; raise NonFiniteLoss for the first bad loss."""
        results = self.means.read()
        for step, result in enumerate(results, self.state.step + 1 - len(results)):
            if not math.isfinite(result["loss"]):
                raise NonFiniteLoss(divergence(self.training, result["loss"], step))

    def finish_epoch(self) -> None:
        """Save, validate and log an epoch whose steps are done; save again if it is the best."""
        training, state = self.training, self.state
        self.save()
        metrics = self.metrics()
        val: dict[str, float] = {}
        if training.val is not None:
            val = self.evaluate("validation", training.val, training.confusion())
            metrics |= {f"val_{name}": value for name, value in val.items()}
        training.folder.log("epoch", **metrics)
        self.progress.line(epoch_line(metrics, training.epochs))
        state.finish_epoch(metrics)
        self.means = Means()
        if not val:
            return
        score = val.get("accuracy", -val["loss"])
        if warning := overflow("validation", val):
            self._overflow = warning
            self.progress.line(warning)
        elif state.best is None or score > state.best:
            state.best = score
            self.save(training.folder.best)

    def evaluate(
        self, phase: str, batches: BatchSource, confusion: Confusion | None
    ) -> dict[str, float]:
        """Return loss and metrics of the validation or test set; a signal ends it at once."""
        training, where = self.training, "the test" if phase == "test" else phase
        with self.interruption.at_once(where), dumping(training, phase, self.state.step):
            return evaluate(training.net, batches, training.evaluation, confusion)

    def metrics(self) -> dict[str, Any]:
        """Return the record of an epoch whose steps are done."""
        training, state = self.training, self.state
        timing = dict(
            lr=training.lr_at(state.step),
            images_per_second=self.images_per_second,
            seconds=state.seconds,
        )
        epoch = len(state.epochs) + 1
        return {"epoch": epoch, "step": state.step, **self.means.means(), **timing}

    def is_save_due(self) -> bool:
        """Return True if another step and another save could end after `save_every` seconds."""
        now = time.perf_counter()
        step_seconds, self._stepped = now - self._stepped, now
        return now - self._saved + step_seconds + self._save_seconds >= self.training.save_every

    def save(self, path: Path | None = None) -> None:
        """Write the state to last.safetensors, or to another file of the run.

        Raises
        ------
        NonFiniteState
            If an array is not finite; then nothing is written.
        """
        training, state, folder = self.training, self.state, self.training.folder
        start = time.perf_counter()
        after = f", after step {state.step} of {training.epochs * training.steps}"
        hint = f"{after}: {remedy(training)}" if state.step else BEFORE
        check_state(training.net, optimiser_state(training.optimiser), hint)
        state.run_seconds = start - self._run_start
        folder.sync_log()
        previous = folder.previous if path is None and self._keeps_last else None
        checkpoints.save(path or folder.last, self.checkpoint(), previous)
        if path is None:
            self._keeps_last = True
            self._saved, self._save_seconds = start, time.perf_counter() - start

    def checkpoint(self) -> Checkpoint:
        """Return everything that is needed to continue the run from here."""
        training, state = self.training, self.state
        state.sums, state.count = self.means.sums, self.means.count
        state.lines = training.folder.lines
        asnumpy, arrays = training.net.ops.asnumpy, optimiser_state(training.optimiser)
        optimiser = {name: asnumpy(array) for name, array in arrays.items()}
        progress = {"epoch": len(state.epochs), "step": state.step}
        if state.epochs and state.epochs[-1]["step"] == state.step:
            progress = as_strict_json(state.epochs[-1])
        texts = training.settings, progress, training.data, state.as_json()
        return Checkpoint(arrays_of(training.net), optimiser, *texts)

    def run_test(self) -> Result:
        """Evaluate the best net, or without validation the last one, on the test set."""
        training, state, folder = self.training, self.state, self.training.folder
        if training.val is not None:
            restore(training.net, checkpoints.load(folder.best).arrays)
        test, confusion = {}, training.confusion()
        if training.test is not None:
            test = self.evaluate("test", training.test, confusion)
        counts = None if confusion is None else confusion.counts
        trained = sum(epoch["seconds"] for epoch in state.epochs)
        seconds = time.perf_counter() - self._run_start
        throughput = per_second(state.images, state.image_seconds)
        times = dict(images_per_second=throughput, training_seconds=trained, seconds=seconds)
        record = {**test, **times}
        warning, text = overflow("test", test), remark(training, counts)
        if text:
            record["remark"] = text
        folder.log("test", **record)
        if warning:
            raise NonFiniteLoss(warning)
        if text:
            self.progress.line(text)
        return Result(test, counts, folder.path, throughput, trained, seconds)

"""Everything that a run needs, and its result."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from minise.checks import Array
from minise.nn import Layer
from minise.train.batches import BatchSource
from minise.train.environment import environment
from minise.train.evaluate import Confusion
from minise.train.objective import Objective
from minise.train.run_folder import RunFolder
from minise.train.schedule import lr_at
from minise.train.sgd import SGD
from minise.train.state import RunState

STEPS = "steps of an epoch"  # title of an entry of the environment


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
    """Everything that a run needs to start or to continue."""

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
    save_every: float = 60.0  # seconds
    threads: int = 0
    settings: dict[str, Any] = field(default_factory=dict)  # for config.json, to repeat the run
    data: dict[str, Any] = field(default_factory=dict)  # mean, std, classes
    state: RunState = field(default_factory=RunState)
    resumes: bool = False  # whether the state is from a checkpoint of the folder
    ignores_last: bool = False  # whether last.safetensors is damaged or missing
    warnings: list[str] = field(default_factory=list)  # about the files of a resumed run

    @property
    def steps(self) -> int:
        """The number of steps in an epoch."""
        return math.ceil(len(self.train) / self.accumulate)

    def lr_at(self, step: int) -> float:
        """Return the learning rate of a step of the run, counted from 1."""
        steps, settings = self.epochs * self.steps, dict(schedule=self.schedule, warmup=self.warmup)
        return lr_at(step - 1, steps, peak=self.lr, **settings)  # type: ignore[arg-type]

    def environment(self) -> dict[str, str]:
        """Return everything outside of the settings on which the bits of the run depend."""
        sources = dict(training=self.train, validation=self.val, test=self.test)
        return {STEPS: str(self.steps), **environment(self.net, sources, self.threads)}

    def confusion(self) -> Confusion | None:
        """Return a confusion matrix of zeros, or None if the classes have no names."""
        classes = self.data.get("classes")
        return Confusion(len(classes)) if classes else None

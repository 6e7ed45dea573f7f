"""The progress of a run: with the arrays, everything that a resumed run needs."""

from dataclasses import asdict, dataclass, field
from typing import Any

from minise.train.json_types import check_fields
from minise.train.run_folder import as_strict_json, from_strict_json


@dataclass
class RunState:
    """The progress of a run, which every checkpoint contains.

    Order, augmentation and learning rate are functions of the step, and the counters of random
    masks are arrays of the net, so no state of a random generator is needed.
    """

    step: int = 0
    """Number of optimiser steps."""
    epochs: list[dict[str, Any]] = field(default_factory=list)
    """Records of the finished epochs, as in metrics.jsonl."""
    sums: dict[str, Any] = field(default_factory=dict)
    """Sums of loss and metrics over the inputs of the unfinished epoch."""
    count: int = 0
    """Number of inputs of the unfinished epoch."""
    seconds: float = 0.0
    """Training time of the unfinished epoch, with data and compilation."""
    compile_seconds: float = 0.0
    """Part of `seconds` that was compilation."""
    images: int = 0
    """Number of inputs of all finished epochs."""
    image_seconds: float = 0.0
    """Training time of all finished epochs, without compilation."""
    run_seconds: float = 0.0
    """Time of the whole run."""
    best: float | None = None
    """Highest score of validation."""
    lines: int = 0
    """Number of lines of metrics.jsonl."""
    environment: dict[str, str] = field(default_factory=dict)
    """Everything outside of the settings on which the bits of the run depend (environment.py)."""

    def finish_epoch(self, record: dict[str, Any]) -> None:
        """Append the record of the epoch, and start another one."""
        self.epochs.append(record)
        self.images += self.count
        self.image_seconds += self.seconds - self.compile_seconds
        self.sums, self.count, self.seconds, self.compile_seconds = {}, 0, 0.0, 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the state as strict JSON."""
        epochs = [as_strict_json(record) for record in self.epochs]
        return {**asdict(self), "epochs": epochs, "sums": as_strict_json(self.sums)}


def from_json(where: str, values: Any) -> RunState:
    """Return the state that as_json has converted.

    Raises
    ------
    ValueError, TypeError
        If a field is unknown, as in a file of a newer version, or has a value of a wrong type.
    """
    check_fields(where, values, RunState)
    state = RunState(**values)
    state.sums = from_strict_json(state.sums)
    state.epochs = [from_strict_json(record) for record in state.epochs]
    return state

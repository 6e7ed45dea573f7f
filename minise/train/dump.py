"""Dumps of guarded runs: one file to repeat the call in which a guard found a NaN or an infinity.

A dump has the format of minise/files.py. Its arrays are the net's parameters and state at the start
of the training step (or during the evaluation), the batches and, if an update of the parameters
failed, the optimiser's arrays. replay.py repeats the step.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from minise import files
from minise.checks import Array, StrPath, as_path, as_word
from minise.nn import Layer
from minise.nn.files import arrays_of
from minise.ops.guard import UPDATE, NonFinite, NonFiniteError, unguarded
from minise.train.config import from_dict
from minise.train.objective import Objective, SoftmaxCrossEntropy
from minise.train.run_folder import versions
from minise.train.sgd import SGD, optimiser_state
from minise.train.training import Training

NAME = "guard.safetensors"  # in a run folder
NET, OPTIMISER = "net/", "optimiser/"  # prefixes of the names of arrays
TRAINING, VALIDATION, TEST = PHASES = "training", "validation", "test"

# Types of the values in the header, after decoding from JSON.
HEADER: dict[str, Any] = {
    "phase": str,
    "step": int,
    "epoch": int,
    "lr": float | int | None,
    "threads": int,
    **dict.fromkeys(("config", "data", "objective", "optimiser", "versions"), dict),
}
NONFINITE: dict[str, Any] = {
    **dict.fromkeys(("layer", "op", "direction", "role", "array", "value"), str),
    **dict.fromkeys(("count", "size"), int),
    "index": list,
}


class Dump(NamedTuple):
    """The content of a dump."""

    nonfinite: NonFinite
    phase: str  # "training", "validation" or "test"
    step: int  # number of the training step, or of the last one before the evaluation
    epoch: int
    lr: float | None  # of the training step
    arrays: dict[str, Array]  # parameters and state by dotted name
    optimiser_arrays: dict[str, Array]  # of optimiser_state; empty unless an update failed
    batches: list[tuple[Any, Any]]  # the training step's micro-batches, or the evaluation's batch
    config: Any  # a TrainConfig, or for a custom net a dict of settings
    data: dict[str, Any]  # mean, std, classes
    objective: dict[str, Any]  # name of the class; settings of SoftmaxCrossEntropy
    optimiser: dict[str, Any]  # name of the class; settings of SGD
    threads: int
    versions: dict[str, str]

    @property
    def is_custom(self) -> bool:
        """Whether only the user's program can build the net."""
        return isinstance(self.config, dict)


@contextmanager
def dumping(training: Training, phase: str, step: int) -> Iterator[None]:
    """Write guard.safetensors into the run folder if a guard raises NonFiniteError in this block.

    The error's `remedy` becomes the command that replays the dump, or the reason why there is none.

    Parameters
    ----------
    training : Training
        The run.
    phase : {"training", "validation", "test"}
        The block's phase.
    step : int
        Number of the training step, counted from 1, or of the last one before an evaluation.
    """
    try:
        yield
    except NonFiniteError as error:
        if error.batches:
            path = training.folder.path / NAME
            try:
                write(path, _dump(training, phase, step, error))
            except (OSError, ValueError, TypeError, MemoryError) as reason:
                error.remedy = f"; {path} is not written: {str(reason) or 'out of memory'}"
            else:
                command = f"minise guard {as_word(path)}"
                if "model" not in training.settings:
                    command = f"train.replay({str(path)!r}, net, objective)"
                size = f"{path.stat().st_size / 1e6:.1f} MB"
                error.remedy = f"; {path} has the inputs and parameters ({size}): {command}"
        raise


def _dump(training: Training, phase: str, step: int, error: NonFiniteError) -> Dump:
    net, optimiser, asnumpy = training.net, training.optimiser, training.net.ops.asnumpy
    arrays = optimiser_state(optimiser) if error.direction == UPDATE else {}
    return Dump(
        error.nonfinite,
        phase,
        step,
        (step - 1) // training.steps + 1,
        error.lr,
        arrays_of(net),
        {name: asnumpy(array) for name, array in arrays.items()},
        [_on_host(net, *batch) for batch in error.batches],
        training.settings,
        training.data,
        objective_settings(training.objective if phase == TRAINING else training.evaluation),
        optimiser_settings(optimiser),
        training.threads,
        versions(),
    )


def _on_host(net: Layer, inputs: Any, targets: Any) -> tuple[Any, Any]:
    """Return a batch as NumPy arrays; targets may be a tuple of arrays."""
    own = type(net.ops.asarray(0.0))  # the class of the back end's arrays

    def convert(values: Any) -> Array:
        return np.asarray(net.ops.asnumpy(values) if isinstance(values, own) else values)

    parts = tuple(map(convert, targets)) if isinstance(targets, tuple) else convert(targets)
    return convert(inputs), parts


def objective_settings(objective: Objective) -> dict[str, Any]:
    """Return the name of an objective's class, and the settings of a SoftmaxCrossEntropy."""
    name = type(objective).__name__
    if not isinstance(objective, SoftmaxCrossEntropy):
        return {"name": name}
    smoothing, guarded = objective.label_smoothing, unguarded(objective.ops) is not objective.ops
    return {"name": name, "label_smoothing": smoothing, "guarded": guarded}


def optimiser_settings(optimiser: SGD) -> dict[str, Any]:
    """Return the name of an optimiser's class, and the settings of an SGD."""
    names = ("momentum", "nesterov", "weight_decay", "decay_all")
    is_sgd = isinstance(optimiser, SGD)
    settings = {name: getattr(optimiser, name) for name in names if is_sgd}
    return {"name": type(optimiser).__name__, **settings}


def write(path: Path, dump: Dump) -> None:
    """Write a dump atomically.

    Raises
    ------
    OSError
        If the file cannot be written.
    TypeError
        If the inputs or targets of a batch are not arrays of numbers.
    """
    arrays = {f"{NET}{name}": array for name, array in dump.arrays.items()}
    arrays |= {f"{OPTIMISER}{name}": array for name, array in dump.optimiser_arrays.items()}
    for k, (inputs, targets) in enumerate(dump.batches):
        parts = targets if isinstance(targets, tuple) else ()
        batch = {"inputs": inputs, **{f"targets/{i}": part for i, part in enumerate(parts)}}
        batch |= {} if parts else {"targets": targets}
        for title, array in batch.items():
            if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
                raise TypeError(
                    f"{title.partition('/')[0]} of a batch are {array.dtype}, expected arrays of "
                    "numbers of at most 64 bits"
                )
            arrays[f"batch/{k}/{title}"] = array
    header = {name: value for name, value in dump._asdict().items() if name in HEADER}
    files.write(path, files.GUARD, arrays, {**header, "nonfinite": asdict(dump.nonfinite)})


def load(path: StrPath) -> Dump:
    """Read a dump, and check every array.

    Parameters
    ----------
    path : str or path
        The file, or the folder of a run that has one.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError, TypeError
        If the file is damaged, is not a dump, or was written by a newer version of minise.
    """
    path = as_path(path)
    if path.is_dir() and not (path := path / NAME).exists():
        raise FileNotFoundError(
            f"{path} does not exist, expected the dump of a run with --guard that ended at a NaN "
            "or an infinity: pass the folder of such a run"
        )
    if not path.exists():
        raise FileNotFoundError(
            f"{path} does not exist, expected a dump ({NAME}) or the folder of a run that has one: "
            "pass a folder such as runs/NAME"
        )
    try:
        file = files.read(path, files.GUARD)
    except files.Damaged as error:  # no other file of the run has a dump
        error.args = (f"{error.problem}: copy it again, or train with --guard again",)
        raise
    try:
        header = _checked(file.texts, HEADER)
        nonfinite = _checked(file.texts["nonfinite"], NONFINITE)
        index = tuple(int(i) for i in nonfinite.pop("index"))
        custom = "model" not in header["config"]
        if header["phase"] not in PHASES or not (custom or len(header["data"]["classes"])):
            raise ValueError("phase or classes")
        dump = Dump(
            nonfinite=NonFinite(index=index, **nonfinite),
            arrays=_with_prefix(NET, file.arrays),
            optimiser_arrays=_with_prefix(OPTIMISER, file.arrays),
            batches=_batches_of(file.arrays),
            **header,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{path} is not a dump that `minise train --guard` wrote ({type(error).__name__}: "
            f"{error}): copy it again"
        ) from None
    if custom:
        return dump
    return dump._replace(config=from_dict(dump.config, f"the config of {path}"))


def _checked(values: Mapping[str, Any], kinds: dict[str, Any]) -> dict[str, Any]:
    """Return the values with the names of kinds; raise if one is missing or of another type."""
    for name, kind in kinds.items():
        if not isinstance(values[name], kind):
            raise TypeError(f"{name} is a {type(values[name]).__name__}")
    return {name: values[name] for name in kinds}


def _with_prefix(prefix: str, arrays: dict[str, Array]) -> dict[str, Array]:
    """Return the arrays whose names have a prefix, without the prefix."""
    return {k.removeprefix(prefix): array for k, array in arrays.items() if k.startswith(prefix)}


def _batches_of(arrays: dict[str, Array]) -> list[tuple[Any, Any]]:
    """Return the batches of a dump; targets are a tuple again if they were one."""
    batches: list[tuple[Any, Any]] = []
    while named := _with_prefix(f"batch/{len(batches)}/", arrays):
        parts = _with_prefix("targets/", named)
        targets = tuple(parts[str(i)] for i in range(len(parts))) if parts else named["targets"]
        batches.append((named["inputs"], targets))
    if not batches:
        raise ValueError("no batch")
    return batches

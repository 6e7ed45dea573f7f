"""Train a user's own net on the user's own data."""

import json
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minise.checks import StrPath, check_choice, check_integer, check_number
from minise.nn import Layer
from minise.train.batches import BatchSource, check_batches, check_classes, shape_of
from minise.train.loop import train
from minise.train.memory import check_memory
from minise.train.objective import Objective, check_objective
from minise.train.recovery import newest
from minise.train.resume import restore_run, unlocked_on_failure
from minise.train.run_folder import check_threads, create
from minise.train.run_folder import open as open_folder
from minise.train.schedule import SCHEDULES
from minise.train.sgd import SGD, check_optimiser_state
from minise.train.step import check_parts
from minise.train.training import Result, Training

if TYPE_CHECKING:
    from rich.console import Console


def run(
    net: Layer,
    objective: Objective,
    batches: BatchSource,
    optimiser: SGD,
    *,
    epochs: int,
    lr: float = 0.1,
    schedule: str = "cosine",
    warmup: float = 0.0,
    accumulate: int = 1,
    val: BatchSource | None = None,
    test: BatchSource | None = None,
    evaluation: Objective | None = None,
    out: str | Path = "runs",
    name: str | None = None,
    log_every: int = 50,
    save_every: float = 60.0,
    threads: int = 0,
    resume: StrPath | None = None,
    anyway: bool = False,
    data: dict[str, Any] | None = None,
    console: "Console | None" = None,
) -> Result:
    """Train a user's own net, with a run folder, progress and checkpoints.

    Parameters
    ----------
    net : Layer
        Trained in place; with validation, it has the parameters of the best epoch at the end.
    objective : Objective
        Loss to minimise, such as train.SoftmaxCrossEntropy(ops).
    batches : sequence of (inputs, targets), or an object with __len__ and epoch(k)
        Inputs (n, …) and targets as the objective expects, of any dtype and shape. epoch(k) yields
        the batches of epoch k, counted from 0; the first len(batches) are used.
    optimiser : SGD
        The optimiser of the net.
    epochs : int
        Passes over the batches.
    lr, schedule, warmup
        Highest learning rate and its schedule (train.lr_at).
    accumulate : int
        Number of batches whose gradients are summed for each optimiser step.
    val, test : as batches, optional
        Data for validation after every epoch, and for a single test at the end.
    evaluation : Objective, optional
        Objective for validation and test; by default `objective`. The best epoch is the one with
        the highest "accuracy" in its metrics or, without that metric, the lowest loss.
    out, name : path, str
        Folder in which the run folder is made, and its name, by default run-1, run-2, ….
    log_every : int
        Steps between two lines of metrics.jsonl.
    save_every : float
        Seconds between two checkpoints, the most that a killed run can lose.
    threads : int
        Number of BLAS threads, at most the number of cores; 0 means one, with which a run of
        reference can be repeated bit for bit.
    resume : str or path, optional
        Folder of a run that was stopped or killed: continue this run, bit for bit, instead of
        starting a new one. Net, objective, optimiser and settings must be as before, and epoch(k)
        of the batches must depend on k only. If epoch has a parameter start, it must skip that many
        batches; otherwise they are made and discarded.
    anyway : bool
        Whether to continue although settings, data, back end or processor differ; then bits may
        differ.
    data : dict, optional
        Stored in every checkpoint, as JSON: classes, mean and std of the images. NumPy arrays
        become lists. With classes, one name for each output of the net, the result has a confusion
        matrix.
    console : rich Console, optional
        Where to report; by default standard output.

    Returns
    -------
    Result
        Test loss and metrics, and the path of the run folder.

    Raises
    ------
    ValueError, TypeError, OSError
        Before training, if a setting or the folder is wrong.
    NonFiniteLoss, NonFiniteState
        If training diverges: the loss, or an array of the net or the optimiser, is not finite.
    Interrupted
        If a signal stopped the run; then the checkpoint is written.
    """
    for setting, value in dict(epochs=epochs, accumulate=accumulate, log_every=log_every).items():
        check_integer("run", setting, value, 1)
    check_choice("run", "schedule", schedule, SCHEDULES)
    lr = check_number("run", "lr", lr, "a number of at least 0", 0, 1e6)
    save_every = check_number("run", "save_every", save_every, "a number of seconds", 0, 1e6)
    warmup = check_number("run", "warmup", warmup, "a number from 0 to 1", 0, 1)
    check_threads("run", threads, 0)
    if not isinstance(out, str | PathLike):
        raise TypeError(f"run: out is a {type(out).__name__}, expected a folder: pass a path")
    check_parts("run", net, objective, optimiser)
    check_optimiser_state("run", optimiser)
    if evaluation is not None:
        check_objective("run", "evaluation", evaluation, "forward", "metrics")
    sources = dict(batches=batches, val=val, test=test)
    for title, source in sources.items():
        if source is not None:
            check_batches("run", title, source)
    details = _as_json({} if data is None else data)
    check_classes("run", sources, details.get("classes"))
    if (shape := shape_of(batches)) and len(shape) > 1:
        check_memory(net, shape[0], shape[1:], ops=net.ops, accumulate=accumulate)
    epochs, accumulate, log_every = int(epochs), int(accumulate), int(log_every)
    settings = dict(
        epochs=epochs,
        lr=lr,
        schedule=schedule,
        warmup=warmup,
        accumulate=accumulate,
        optimiser=_as_text(optimiser),
        net=repr(net),
    )
    ready = Training(
        net,
        objective,
        optimiser,
        train=batches,
        val=val,
        test=test,
        evaluation=evaluation or objective,
        folder=create(Path(out), name, "run") if resume is None else open_folder(resume),
        epochs=epochs,
        lr=lr,
        schedule=schedule,
        warmup=warmup,
        accumulate=accumulate,
        log_every=log_every,
        save_every=save_every,
        threads=threads,
        settings=settings,
        data=details,
    )
    if resume is not None:
        with unlocked_on_failure(ready.folder):
            restore_run(ready, newest(ready.folder), anyway)
    return train(ready, console)


def _as_text(optimiser: Any) -> str:
    """Return the class and the settings of an optimiser, to compare them when a run is resumed."""
    settings = (f"{k}={v!r}" for k, v in vars(optimiser).items() if isinstance(v, int | float))
    return f"{type(optimiser).__name__}({', '.join(settings)})"


def _as_json(data: Any) -> dict[str, Any]:
    """Return a run's data after a round trip through JSON; NumPy's arrays become lists."""
    if not isinstance(data, dict):
        raise TypeError(
            f"run: data is a {type(data).__name__}, expected a dict: pass dict(classes=[...])"
        )
    try:
        text = json.dumps(data, default=_as_python, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"run: data is not JSON ({error}), expected numbers, strings, lists and dicts with "
            "strings as keys: convert values of other types"
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

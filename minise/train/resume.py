"""Resume a run that was stopped or killed, with bit-identical results.

The newest checkpoint has everything on which the rest of the run depends: arrays, velocities, and
the state (state.py). The order of the images, augmentation and learning rate are functions of seed
and step.
"""

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from minise.checks import StrPath
from minise.files import shortened
from minise.models.trained import check_named
from minise.train import checkpoint as checkpoints
from minise.train.checkpoint import restore
from minise.train.config import TrainConfig
from minise.train.environment import differences
from minise.train.loop import train
from minise.train.objective import RESERVED
from minise.train.recovery import Newest, newest
from minise.train.run_folder import RunFolder, from_strict_json
from minise.train.run_folder import open as open_folder
from minise.train.setup import check_ops_file, check_root, hint_at_moved_data, prepare
from minise.train.sgd import optimiser_state
from minise.train.state import RunState, from_json
from minise.train.training import STEPS, Result, Training

if TYPE_CHECKING:
    from rich.console import Console


def resume(
    run: StrPath, *, anyway: bool = False, console: "Console | None" = None, **changes: Any
) -> Result:
    """Continue a run of `fit` or `minise train` that was stopped or killed.

    The result is bit-identical to that of a run that was never stopped.

    Parameters
    ----------
    run : str or path
        The run folder.
    anyway : bool
        Whether to continue although the data, the back end, BLAS or the processor differ; then the
        bits of the result may differ.
    console : rich Console, optional
        Where to report; by default standard output.
    **changes
        Settings that may differ from the run's: data and root, if the data has moved; ops, if a
        file of ops has moved; threads; save_every; log_every.

    Returns
    -------
    Result
        As from `fit`; the times are those of the whole run. For a finished run, the result in
        metrics.jsonl, with None for the confusion matrix.

    Raises
    ------
    FileNotFoundError
        If there is no such run, or it has no checkpoint.
    ValueError, TypeError
        If the checkpoints are damaged, of a newer version or of a custom net, or if
        data, back end, libraries or processor differ and anyway is False; then no file is changed.
    """
    result = result_of(run)
    return result or train(prepare_resume(run, anyway=anyway, **changes), console)


def result_of(run: StrPath) -> Result | None:
    """Return the result of a finished run, without the confusion matrix; None if it is unfinished.

    Raises
    ------
    FileNotFoundError, ValueError
        If there is no such run.
    """
    folder = open_folder(run)
    try:
        tests = [record for record in folder.records() if record.get("kind") == "test"]
    except ValueError:  # a damaged line: the run may continue
        return None
    if not tests:
        return None
    values = from_strict_json(tests[-1])
    test = {k: v for k, v in values.items() if k == "loss" or k not in RESERVED}
    times = (values.get(k, math.nan) for k in TIMES)  # older files lack the first
    return Result(test, None, folder.path, *times)


TIMES = ("images_per_second", "training_seconds", "seconds")  # of Result
CHANGES = {"data", "root", "ops", "threads", "save_every", "log_every"}


def prepare_resume(run: StrPath, *, anyway: bool = False, **changes: Any) -> Training:
    """Load the data and build the net of a run, with the state of its newest checkpoint."""
    if unknown := changes.keys() - CHANGES:
        raise TypeError(
            f"resume: {', '.join(sorted(unknown))} cannot change in a run, expected some of "
            f"{', '.join(sorted(CHANGES))}: start a new run with read_config and fit"
        )
    folder = open_folder(run)
    with unlocked_on_failure(folder):
        if result_of(run) is not None:  # another process has finished it since the caller asked
            raise ValueError(f"resume: {folder.path} is finished, nothing remains to be done")
        saved = newest(folder)
        config = _changed_config(folder, saved, changes)
        moved = bool(changes.keys() & {"data", "root"})
        with hint_at_moved_data(config, "train", "test", suggest=not moved):
            training = prepare(config, folder)
        restore_run(training, saved, anyway)
    return training


@contextmanager
def unlocked_on_failure(folder: RunFolder) -> Iterator[None]:
    """Lock a run folder, which `train` unlocks at the end of the run."""
    folder.lock()
    try:
        yield
    except BaseException:
        folder.unlock()
        raise


def restore_run(training: Training, saved: Newest, anyway: bool) -> None:
    """Set the net, the optimiser and the state of a training to those of a checkpoint.

    Raises
    ------
    ValueError
        If the checkpoint does not fit, or something on which bits depend differs and anyway is
        False; then the training is unchanged.
    """
    state = _state_of(saved)
    environment = training.environment()
    changed = _different_settings(saved, training)
    _check_steps(saved, state, environment)
    changed += differences(state.environment, environment)
    if changed and not anyway:
        raise ValueError(
            f"resume: {'; '.join(changed)}: the result would not be bit-identical; to continue "
            "with these differences, use --anyway, in Python anyway=True"
        )
    warnings = [*saved.warnings, *changed, *_check_best(training, state)]
    _restore_arrays(training, saved)
    training.warnings, state.environment = warnings, environment
    training.state, training.resumes = state, True
    training.ignores_last = saved.path != training.folder.last


def _state_of(saved: Newest) -> RunState:
    """Return the state in a checkpoint."""
    if not saved.checkpoint.state:
        raise ValueError(
            f"resume: {saved.path} has no state of the run, because an older version of minise "
            "wrote it: start a new run with minise train --config; eval and predict can use it"
        )
    try:
        return from_json(f"the state in {saved.path}", saved.checkpoint.state)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{error}: resume with the version of minise that wrote it") from None


def _changed_config(folder: RunFolder, saved: Newest, changes: Mapping[str, Any]) -> TrainConfig:
    """Return the settings of a run of `fit`, with changes."""
    config = saved.checkpoint.config
    if not isinstance(config, TrainConfig):
        raise ValueError(
            f"resume: {folder.path} is a run of train.run, expected one of minise train: call "
            f"train.run(…, resume={str(folder.path)!r}) in the program that built the net"
        )
    check_named(saved.path, config)
    config = replace(config, **changes)
    check_root("resume", changes.get("root"), config.data)
    check_ops_file("resume", config.ops)
    return config


def _check_steps(saved: Newest, state: RunState, environment: dict[str, str]) -> None:
    """Raise ValueError if the number of steps of an epoch differs, by which epochs are counted."""
    before, now = state.environment.get(STEPS), environment[STEPS]
    epoch, steps = len(state.epochs), int(now)
    if before in (None, now) and epoch * steps <= state.step <= (epoch + 1) * steps:
        return
    had = "" if before in (None, now) else f", where an epoch has {before} steps"
    raise ValueError(
        f"resume: {saved.path} has step {state.step}, in epoch {epoch + 1}{had}, but an epoch has "
        f"{now} steps now: use as many batches as before, and the same accumulate, or start a new "
        "run"
    )


def _different_settings(saved: Newest, training: Training) -> list[str]:
    """Return the differences in the settings of a custom run; those of `fit` are the same."""
    before: Any = saved.checkpoint.config
    settings = training.settings
    if isinstance(before, TrainConfig):
        if "model" in settings:
            return []
        raise ValueError(
            f"resume: {saved.path} is of a run of minise train, expected one of train.run: call "
            f"train.resume({str(saved.path.parent)!r})"
        )
    before, settings = (
        {**before, "data": saved.checkpoint.data},
        {**settings, "data": training.data},
    )
    names = [name for name in settings if before.get(name) != settings[name]]
    texts = ((name, repr(before.get(name)), repr(settings[name])) for name in names)
    return [
        f"{name} differs" if name == "net" else f"{name} was {old} and is {new}"
        for name, old, new in texts
    ]


def _restore_arrays(training: Training, saved: Newest) -> None:
    """Write the arrays of a checkpoint into the net and the optimiser."""
    before, optimiser = saved.checkpoint.optimiser, training.optimiser
    now = optimiser_state(optimiser)
    same_net = saved.checkpoint.arrays.keys() >= training.net.named_parameters().keys()
    if before.keys() != now.keys() and same_net:
        missing, unknown = sorted(now.keys() - before.keys()), sorted(before.keys() - now.keys())
        problems = [f"it lacks {shortened(missing)}"] if missing else []
        problems += [f"the optimiser has no {shortened(unknown)}"] if unknown else []
        raise ValueError(
            f"resume: {saved.path} does not fit the optimiser: {', and '.join(problems)}: use the "
            "optimiser of the run, and let it make all of its arrays when it is built, not in the "
            "first step"
        )
    restore(training.net, {**saved.checkpoint.arrays, **before}, str(saved.path), now)


def _check_best(training: Training, state: RunState) -> list[str]:
    """Set the best score to None if best.safetensors is not its net; return warnings.

    If the run continues from a checkpoint before last.safetensors, best.safetensors may be of a
    later epoch, which training repeats.
    """
    if state.best is None:
        return []
    path = training.folder.best
    text = f"{path} is not the net of the best epoch"
    warnings = []
    try:
        if from_json("", checkpoints.load(path).state).best == state.best:
            return []
    except (OSError, ValueError, TypeError) as error:
        text = str(error)
        warnings.append(f"{text}; the best epoch is chosen among the remaining epochs")
    if len(state.epochs) >= training.epochs:
        raise ValueError(
            f"resume: {text}, and no epoch follows that could replace it: {training.folder.last} "
            "has the net of the last epoch, which `minise eval --checkpoint last` tests"
        )
    state.best = None
    return warnings

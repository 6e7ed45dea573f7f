"""Checkpoints: one file with everything to continue a run, in the format of minise/files.py.

Parameters and running statistics have their dotted names, the same as in the PyTorch twin; the
optimiser's arrays are called ``optimiser/velocity/NAME`` and so on (sgd.optimiser_state). The
header contains, as JSON, the settings, the progress, the normalisation and classes of the images,
and the state from which the run can continue (state.py).
"""

from pathlib import Path
from typing import Any, NamedTuple

from minise.atomic import write_whole
from minise.checks import Array
from minise.files import CHECKPOINT, read, write
from minise.nn.files import OPTIMISER_PREFIX, arrays_of, restore
from minise.train.config import TrainConfig, from_dict, to_dict

__all__ = ["Checkpoint", "arrays_of", "load", "restore", "save", "write_whole"]

VELOCITY = "velocity/"  # prefix of the names of velocities among the optimiser's arrays


class Checkpoint(NamedTuple):
    """The content of a checkpoint."""

    arrays: dict[str, Array]  # parameters and running statistics by dotted name
    optimiser: dict[str, Array]  # what optimiser_state returns; empty if none was saved
    config: Any  # a TrainConfig, or for a custom net a dict of settings
    progress: dict[str, Any]  # finished epoch and step, loss and metrics
    data: dict[str, Any]  # mean, std, classes
    state: dict[str, Any] = {}  # noqa: RUF012, of the run, see RunState; files of old runs have none

    @property
    def velocity(self) -> dict[str, Array]:
        """Velocities by the parameter's name."""
        names = (name for name in self.optimiser if name.startswith(VELOCITY))
        return {name.removeprefix(VELOCITY): self.optimiser[name] for name in names}


def save(path: Path, checkpoint: Checkpoint, previous: Path | None = None) -> None:
    """Write a checkpoint atomically; an existing file is replaced only by a complete one.

    Parameters
    ----------
    path : Path
        The file.
    checkpoint : Checkpoint
        Its content.
    previous : Path, optional
        New name of an existing file.
    """
    reserved = [name for name in checkpoint.arrays if name.startswith(OPTIMISER_PREFIX)]
    if reserved:
        raise ValueError(
            f"save: a layer has {reserved[0]!r}, expected no name that begins with "
            f"{OPTIMISER_PREFIX!r}, as the optimiser's arrays do: rename the layer"
        )
    optimiser = {f"{OPTIMISER_PREFIX}{k}": array for k, array in checkpoint.optimiser.items()}
    config = checkpoint.config
    settings = to_dict(config) if isinstance(config, TrainConfig) else config
    fields = checkpoint._asdict()
    texts = {"config": settings, **{name: fields[name] for name in ("progress", "data", "state")}}
    write(path, CHECKPOINT, {**checkpoint.arrays, **optimiser}, texts, previous)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint and check every array.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, altered, or not a checkpoint of this format.
    """
    file = read(path, CHECKPOINT)
    arrays, texts = file.arrays, file.texts
    optimiser = {
        name.removeprefix(OPTIMISER_PREFIX): arrays.pop(name)
        for name in list(arrays)
        if name.startswith(OPTIMISER_PREFIX)
    }
    config = texts["config"]
    if "model" in config:
        config = from_dict(config, f"the config of {path}")
    return Checkpoint(
        arrays, optimiser, config, texts["progress"], texts["data"], texts.get("state", {})
    )

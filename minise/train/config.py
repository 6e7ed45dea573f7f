"""Everything a training run depends on, in one typed and frozen place.

The command line, config.json and the checkpoint's metadata are all made from this class, so that
they cannot disagree.
"""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from minise.checks import check_choice, check_flag, check_integer, check_number
from minise.nn import SE
from minise.ops.backend import Algorithm, is_file
from minise.train.run_folder import check_name
from minise.train.schedule import SCHEDULES

Recipe = Literal["quick"]  # the names in minise/train/recipes.py
Channels = tuple[float, float, float]  # red, green, blue


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a training run."""

    recipe: Recipe | None = None
    """Settings to start from, of minise/train/recipes.py; what is given beside it wins."""
    data: str = "cifar10"
    """cifar10, cifar100, shapes10, or a folder with train/ and test/ folders of class folders."""
    root: Path | None = None
    """Folder that holds the data; by default the environment variable MINISE_DATA names it."""
    limit: int | None = None
    """Use only so many training images (of shapes10: draw so many; by default 10000)."""
    model: str = "se_resnet20"
    """Name of the net; `minise summary all` lists them."""
    shortcut: Literal["A", "B"] = "B"
    """What passes where a ResNet's shape changes: padding (A) or a projection (B)."""
    se: SE = field(default_factory=SE)
    """SE blocks, of models whose name begins with se_."""
    ops: str = "reference"
    """Back end: a file such as my_ops.py, which takes from reference what it does not define; or
    reference (NumPy), jit (Numba) or cuda (CuPy, on an NVIDIA GPU)."""
    algorithm: Algorithm = "auto"
    """Of jit's convolutions: winograd, which rounds more coarsely, or direct; auto takes winograd
    where it is the quicker one, in float32."""
    epochs: int = 12
    """Passes over the training images."""
    batch_size: int = 128
    """Images a batch."""
    accumulate: int = 1
    """Batches whose gradients are added up for one step."""
    rate: float = 0.2
    """Highest learning rate."""
    schedule: Literal["cosine", "steps"] = "cosine"
    """cosine: down to 0; steps: a tenth after 1/2 and after 3/4 of the run, as He et al."""
    warmup: float = 0.15
    """Share of the run in which the rate first rises linearly from 0."""
    momentum: float = 0.9
    """Share of the velocity that stays."""
    nesterov: bool = True
    """Look one step of momentum ahead."""
    weight_decay: float = 5e-4
    """Pull of the weights towards 0."""
    decay_all: bool = False
    """Decay biases and normalisation's scales and shifts too."""
    label_smoothing: float = 0.0
    """Share of the wanted probability that is spread over all classes."""
    crop: int = 4
    """Pad so many pixels and take a random window of the old size."""
    flip: bool = True
    """Mirror half of the images."""
    cutout: int = 0
    """Side of a random square that is blanked."""
    val: int = 5000
    """The last so many training images are held out for validation; 0 trains on all."""
    mean: Channels | None = None
    """Of red, green and blue, 0..1, to normalise with; by default that of the training images."""
    std: Channels | None = None
    """Deviation of red, green and blue, likewise."""
    seed: int = 0
    """Of parameters, order and augmentation."""
    threads: int = 0
    """0 is what suits the back end: one BLAS thread for reference, for jit every core.

    jit gives the same bits at any number; reference repeats a run to the bit at one."""
    guard: bool = False
    """Check every array for NaN and infinity, and name the layer and op where the first arises."""
    out: Path = Path("runs")
    """Folder of run folders."""
    name: str | None = None
    """Name of the run folder; by default model-data, numbered."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""

    def __post_init__(self) -> None:
        """Refuse what cannot be trained with, before anything is loaded or written."""
        for name, least in dict(
            epochs=1,
            batch_size=1,
            accumulate=1,
            crop=0,
            cutout=0,
            val=0,
            seed=0,
            log_every=1,
            threads=0,
        ).items():
            check_integer("train", name, getattr(self, name), least)
            object.__setattr__(self, name, int(getattr(self, name)))  # JSON has no NumPy integers
        for name in ("nesterov", "decay_all", "flip", "guard"):
            check_flag("train", name, getattr(self, name))
            object.__setattr__(self, name, bool(getattr(self, name)))
        if self.recipe is not None:
            check_choice("train", "recipe", self.recipe, get_args(Recipe))
        if self.limit is not None:
            check_integer("train", "limit", self.limit, 1)
            object.__setattr__(self, "limit", int(self.limit))
        if is_file(self.ops):  # eval finds it from any folder
            object.__setattr__(self, "ops", str(Path(self.ops).resolve()))
        check_choice("train", "algorithm", self.algorithm, get_args(Algorithm))
        check_choice("train", "schedule", self.schedule, SCHEDULES)
        for names, text, high in (
            (("rate", "weight_decay"), "a number of at least 0", 1e6),
            (("warmup", "momentum", "label_smoothing"), "a number from 0 to 1", 1),
        ):
            for name in names:
                number = check_number("train", name, getattr(self, name), text, 0, high)
                object.__setattr__(self, name, number)
        for name, low, text in (("mean", 0.0, "0"), ("std", 1e-6, "above 0")):
            channels, wanted = getattr(self, name), f"three numbers from {text} to 1"
            if channels is None:
                continue
            if np.shape(channels) != (3,):
                raise ValueError(f"train: {name} is {channels!r}, expected {wanted}")
            numbers = [check_number("train", name, number, wanted, low, 1) for number in channels]
            object.__setattr__(self, name, tuple(numbers))
        for name in ("root", "out"):
            path = getattr(self, name)
            if isinstance(path, str):
                object.__setattr__(self, name, Path(path))
            elif not isinstance(path, Path) and (path, name) != (None, "root"):
                kind = type(path).__name__
                raise TypeError(f"train: {name} is a {kind}, expected a folder: pass a Path")
        check_name("train", self.name)


def to_dict(config: TrainConfig) -> dict[str, Any]:
    """Return the settings as JSON takes them."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }


def from_dict(values: dict[str, Any]) -> TrainConfig:
    """Return the settings that to_dict wrote; unknown ones are refused."""
    unknown = values.keys() - {field.name for field in fields(TrainConfig)}
    if unknown:
        raise ValueError(
            f"config has {', '.join(sorted(unknown))}, which this version of minise does not know"
        )
    paths = {key: Path(values[key]) for key in ("root", "out") if values.get(key) is not None}
    triples = {key: tuple(values[key]) for key in ("mean", "std") if values.get(key) is not None}
    return TrainConfig(**{**values, **paths, **triples, "se": SE(**values.get("se", {}))})


def read_config(path: Path) -> TrainConfig:
    """Return the settings of a run folder's config.json."""
    try:
        return from_dict(json.loads(path.read_text())["config"])
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is not a run's config.json: {error}") from None

"""All settings of a training run, in one typed and frozen class.

The command line, config.json and the checkpoint's metadata are generated from this class, so that
they cannot differ.
"""

import functools
import json
import os
import re
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar, Literal, TypeVar, get_args

import numpy as np

from minise import __version__
from minise.checks import (
    StrPath,
    as_absolute,
    check_choice,
    check_flag,
    check_integer,
    check_number,
)
from minise.data.augment import check_one_crop
from minise.data.cifar import LAYOUTS
from minise.data.source import names as names_of_data
from minise.models import NetSettings
from minise.nn import SE
from minise.ops.backend import Algorithm, is_file
from minise.train.json_types import check_fields
from minise.train.run_folder import check_name
from minise.train.schedule import SCHEDULES

Recipe = Literal["quick"]  # the names in minise/train/recipes.py
Channels = tuple[float, float, float]  # red, green, blue
OLD_NAMES = {"rate": "lr"}  # old field name: field name
T = TypeVar("T")


def with_current_names(settings: dict[str, Any]) -> dict[str, Any]:
    """Rename settings that have a field's old name.

    If both names are present, the old one wins: dataclasses.replace(config, rate=0.1) passes every
    field under its current name, too.
    """
    old = {new: settings[name] for name, new in OLD_NAMES.items() if name in settings}
    return {name: value for name, value in settings.items() if name not in OLD_NAMES} | old


def accepts_old_names(cls: type[T]) -> type[T]:
    """Let the constructor of a class accept keyword arguments under their old names, too."""
    init = cls.__init__

    @functools.wraps(init)
    def run(self: T, *args: Any, **settings: Any) -> None:
        init(self, *args, **with_current_names(settings))

    cls.__init__ = run  # type: ignore[method-assign, assignment]
    return cls


@accepts_old_names
@dataclass(frozen=True)
class TrainConfig(NetSettings):
    """Settings of a training run; those of the net are NetSettings."""

    where: ClassVar[str] = "train"

    recipe: Recipe | None = None
    """Settings to start from, in minise/train/recipes.py; other options override them."""
    data: str = "cifar10"
    """cifar10, cifar100, shapes10, or a folder with train/ and test/ (or val/) folders of class
    folders."""
    root: Path | None = None
    """Folder that contains the data; None uses the environment variable MINISE_DATA."""
    size: int | None = None
    """Rows and columns to which the images of a folder are scaled; None: as in the net's paper."""
    limit: int | None = None
    """Number of training images to use (shapes10: to draw; default 10000)."""
    model: str = "se_resnet20"
    """Name of the net; `minise summary all` lists them."""
    se: SE = field(default_factory=SE)
    """Settings of the SE blocks, for models whose name begins with se_."""
    ops: str = "reference"
    """Back end: a file such as my_ops.py (reference provides the ops that it does not define), or
    reference (NumPy), jit (Numba) or cuda (CuPy, on an NVIDIA GPU)."""
    algorithm: Algorithm = "auto"
    """Convolution algorithm of jit: winograd (larger rounding errors) or direct; auto uses winograd
    in float32 where it is faster."""
    epochs: int = 12
    """Passes over the training images."""
    batch_size: int = 128
    """Images per batch."""
    accumulate: int = 1
    """Number of batches whose gradients are summed for each optimiser step."""
    lr: float = 0.2
    """Highest learning rate."""
    schedule: Literal["cosine", "steps"] = "cosine"
    """Learning rate after the warm-up. cosine: down to 0; steps: a tenth after 1/2 and after 3/4 of
    the run, as He et al."""
    warmup: float = 0.15
    """Fraction of the run in which the learning rate rises linearly from 0."""
    momentum: float = 0.9
    """Fraction of the velocity that each step keeps."""
    nesterov: bool = True
    """Use Nesterov momentum."""
    weight_decay: float = 5e-4
    """Factor of the weight decay (L2 penalty)."""
    decay_all: bool = False
    """Decay biases and normalisation's scales and shifts, too."""
    label_smoothing: float = 0.0
    """Probability that is spread evenly over all classes in the targets."""
    crop: int = 4
    """Padding in pixels before a random crop of the original size."""
    resized_crop: bool = False
    """Instead, scale a random part of 8 to 100 % of each image's area to the size, as for ImageNet;
    evaluation scales images to 8/7 of the size and uses the centre."""
    flip: bool = True
    """Mirror each image with probability 1/2."""
    cutout: int = 0
    """Side in pixels of a random square that is blanked."""
    val: int = 5000
    """Number of training images to hold out for validation, the last ones; 0 trains on all."""
    mean: Channels | None = None
    """Mean of red, green and blue, 0..1, for normalisation; None: that of the training images."""
    std: Channels | None = None
    """Standard deviation of red, green and blue; None: that of the training images."""
    seed: int = 0
    """Seed of parameters, order and augmentation."""
    threads: int = 0
    """Number of threads; 0: one BLAS thread for reference, every core for jit. A run can be
    repeated bit for bit: in jit with any number of threads, in reference with one."""
    guard: bool = False
    """Check every array for NaN and infinity, name the layer and op of the first, and write a dump,
    which `minise guard` replays."""
    out: Path = Path("runs")
    """Folder in which the run folder is made."""
    name: str | None = None
    """Name of the run folder; None uses model-data-1, -2, …."""
    log_every: int = 50
    """Steps between two lines of metrics.jsonl."""
    save_every: float = 60.0
    """Seconds between two checkpoints, the most that a killed run can lose."""

    @property
    def rate(self) -> float:
        """The highest learning rate; the old name of lr."""
        return self.lr

    def __post_init__(self) -> None:
        """Raise ValueError or TypeError for wrong settings, before data is loaded or written."""
        super().__post_init__()
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
        for name in ("nesterov", "decay_all", "resized_crop", "flip", "guard"):
            check_flag("train", name, getattr(self, name))
            object.__setattr__(self, name, bool(getattr(self, name)))
        fix = "leave out --crop, or pass --no-resized-crop"
        check_one_crop("train", self.crop, self.resized_crop, fix)
        if self.recipe is not None:
            check_choice("train", "recipe", self.recipe, get_args(Recipe))
        for name in ("limit", "size"):
            if (number := getattr(self, name)) is not None:
                object.__setattr__(self, name, check_integer("train", name, number, 1))
        if is_file(self.ops):  # an absolute path, so that eval works in any folder
            object.__setattr__(self, "ops", str(Path(self.ops).resolve()))
        check_choice("train", "algorithm", self.algorithm, get_args(Algorithm))
        check_choice("train", "schedule", self.schedule, SCHEDULES)
        for names, text, high in (
            (("lr", "weight_decay"), "a number from 0 to 1e6", 1e6),
            (("save_every",), "a number of seconds from 0 to 1e6", 1e6),
            (("warmup", "momentum", "label_smoothing"), "a number from 0 to 1", 1),
        ):
            for name in names:
                number = check_number("train", name, getattr(self, name), text, 0, high)
                object.__setattr__(self, name, number)
        for name, low, text in (("mean", 0.0, "0"), ("std", 1e-6, "above 0")):
            channels, wanted = (
                getattr(self, name),
                f"three numbers from {text} to 1, for pixels of 0..1",
            )
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
    """Return the settings as a dict that JSON can hold."""
    return {
        key: str(value) if isinstance(value, Path) else value
        for key, value in asdict(config).items()
    }


def from_dict(values: dict[str, Any], where: str = "config") -> TrainConfig:
    """Return the settings that to_dict has converted to a dict.

    Raises
    ------
    ValueError, TypeError
        If a name is unknown, or a value has a wrong type or is out of range; the message starts
        with where.
    """
    if isinstance(values, dict):
        values = with_current_names(values)
    check_fields(where, values, TrainConfig)
    triples = {key: tuple(values[key]) for key in ("mean", "std") if values.get(key) is not None}
    try:
        return TrainConfig(**{**values, **triples, "se": SE(**values.get("se", {}))})
    except (ValueError, TypeError) as error:
        raise type(error)(f"{where}: {str(error).removeprefix('train: ')}") from None


def with_absolute_paths(config: TrainConfig) -> TrainConfig:
    """Return the settings with absolute paths, so that they mean the same in any folder.

    The root of CIFAR becomes MINISE_DATA's value if it is None.
    """
    root, data = config.root, config.data
    if data in LAYOUTS and root is None and os.environ.get("MINISE_DATA"):
        root = Path(os.environ["MINISE_DATA"])
    if data not in names_of_data():
        data = str(as_absolute(data))
    out = as_absolute(config.out)
    return replace(config, data=data, root=root and as_absolute(root), out=out)


class CustomNet(ValueError):
    """A run of train.run has no settings of a net, from which it could be repeated."""


def read_config(path: StrPath) -> TrainConfig:
    """Return the settings of a run, to repeat it with fit or to change some with replace.

    Parameters
    ----------
    path : str or path
        A run folder or its config.json.

    Returns
    -------
    TrainConfig
        The run's settings, with its absolute paths, `out` and `name`.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError, TypeError
        If the file is not JSON or not a config.json, has an unknown setting or a value of a wrong
        type, was written by a newer version of minise, or belongs to a run of train.run, whose net
        and data are not settings.
    """
    file = Path(path)
    file = file / "config.json" if file.is_dir() else file
    if not file.is_file():
        raise FileNotFoundError(
            f"{file} does not exist, expected the config.json of a run: pass the run's folder"
        )
    try:
        content = json.loads(file.read_text(encoding="utf-8"), parse_constant=_refuse)
        config, version = content["config"], content.get("versions", {}).get("minise", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        reason = f"{type(error).__name__}, {error}"  # repr of UnicodeDecodeError has the content
        raise ValueError(
            f"{file} is not a run's config.json: {reason}: pass the run's folder"
        ) from None
    if _version_numbers(version) > _version_numbers(__version__):
        raise ValueError(
            f"{file}: versions.minise is {version!r}, expected at most {__version__}, the version "
            "of this minise: upgrade minise"
        )
    if isinstance(config, dict) and "net" in config and "model" not in config:
        raise CustomNet(
            f"{file} is of a custom net, expected a run of train.fit or `minise train`: call "
            "train.run again in the program that built the net"
        )
    return from_dict(config, str(file))


def _refuse(token: str) -> None:
    raise ValueError(f"{token} is not JSON")


def _version_numbers(version: Any) -> list[int]:
    """Return the numbers of a version such as 0.1.0; "not installed" has none."""
    return [int(number) for number in re.findall(r"\d+", str(version))]

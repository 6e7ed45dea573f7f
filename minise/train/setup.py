"""Build a run from its settings: data, net, objective, optimiser and run folder."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minise import models
from minise.checks import check_within
from minise.data import (
    Augment,
    Batches,
    CentreCrop,
    Dataset,
    DataWarning,
    enlarged,
    hold_out,
    load,
    moments,
)
from minise.data.cifar import LAYOUTS, locate
from minise.data.source import has_validation, split_folder
from minise.data.source import names as names_of_data
from minise.models.trained import chosen_settings
from minise.nn import Chain
from minise.ops import wrap
from minise.ops.backend import Backend, is_file, load_ops
from minise.train.config import TrainConfig, to_dict, with_absolute_paths
from minise.train.loop import train
from minise.train.memory import check_memory
from minise.train.objective import SoftmaxCrossEntropy
from minise.train.recipes import for_model
from minise.train.run_folder import RunFolder, check_threads, create
from minise.train.sgd import SGD
from minise.train.training import Result, Training

if TYPE_CHECKING:
    from rich.console import Console

EVALUATION_BATCH = 250  # largest number of images per batch; affects only memory
EVALUATION_PIXELS = 2**22  # largest number of pixels per batch: 83 images of 224 x 224
SHAPES10_TEST = 2000  # test images to draw: the standard error of an accuracy of 90 % is 0.7 %
LOOP_SETTINGS = (  # of the config that Training has, too
    *("epochs", "lr", "schedule", "warmup", "accumulate"),
    *("log_every", "save_every", "threads"),
)


def prepare(config: TrainConfig, folder: RunFolder | None = None) -> Training:
    """Load the data, build the net and make the run folder; this finds all wrong settings.

    Parameters
    ----------
    config : TrainConfig
        The settings.
    folder : RunFolder, optional
        The folder of a resumed run; by default a new one is made.
    """
    config = for_model(config)
    ops = load_ops(config.ops, config.threads, config.algorithm)  # fails fast: before the data
    check_threads("train", config.threads, 0)
    train_set = load_split(config, "train")
    classes = train_set.classes
    test_set = load_split(config, "test", classes)
    val_set: Dataset | None = None
    if config.val and has_validation(config.data):
        val_set = load_split(config, "val", classes)
        path = Path(config.data) / "val"
        text = f"the validation images are from {path}, not the last {config.val} of train/"
        warnings.warn(text, DataWarning, stacklevel=2)
    elif config.val:
        remedy = "the last training images are held out for validation, so pass a smaller --val"
        check_within("train", "val", config.val, 0, len(train_set) - 1, remedy)
        train_set, val_set = hold_out(train_set, config.val)
    warn_of_small_images(config, train_set)
    mean, std = normalisation(config, train_set)
    data = {"mean": mean, "std": std, "classes": classes}
    check_memory(
        config.model,
        min(config.batch_size, len(train_set)),
        train_set.images.shape[1:],
        ops=config.ops,
        accumulate=config.accumulate,
        num_classes=len(classes),
        **chosen_settings(config.model, config.se, config, config.size),
    )
    net = build_net(config, len(classes), ops)
    crop = 0 if config.resized_crop else config.crop
    augment = Augment(crop, config.flip, config.cutout, resized_crop=config.resized_crop)
    seed, size, absolute = config.seed, config.batch_size, with_absolute_paths(config)
    stem = f"{config.model}-{Path(absolute.data).name}"
    return Training(
        net,
        SoftmaxCrossEntropy(net.ops, label_smoothing=config.label_smoothing),
        SGD(net, config.momentum, config.nesterov, config.weight_decay, config.decay_all),
        Batches(train_set, size, seed=seed, augment=augment, mean=mean, std=std),
        None if val_set is None else for_evaluation(val_set, data, config.resized_crop),
        for_evaluation(test_set, data, config.resized_crop),
        SoftmaxCrossEntropy(net.ops),
        folder or create(config.out, config.name, stem),
        settings={**to_dict(absolute), "mean": mean, "std": std},
        data=data,
        **{name: getattr(config, name) for name in LOOP_SETTINGS},
    )


def fit(config: TrainConfig, console: "Console | None" = None) -> Result:
    """Train a net with the settings of config.

    Parameters
    ----------
    config : TrainConfig
        The settings.
    console : rich Console, optional
        Where to report; by default standard output.

    Returns
    -------
    Result
        Test loss and metrics of the best epoch by validation (with val=0, of the last epoch), and
        the path of the run folder.

    Raises
    ------
    ValueError, TypeError, OSError
        Before training, if a setting, the data or the folder is wrong.
    NonFiniteLoss, NonFiniteState
        If training diverges: the loss, or an array of the net or the optimiser, is not finite.
    Interrupted
        If a signal stopped the run; then the checkpoint is written.
    """
    return train(prepare(config), console)


def warn_of_small_images(config: TrainConfig, images: Dataset) -> None:
    """Warn if the stem of a net for ImageNet leaves few pixels of the images."""
    side, used = models.architecture(config.model).size, min(images.images.shape[2:])
    if "stem" in models.settings(config.model) and config.stem == "imagenet" and 4 * used < side:
        warnings.warn(
            f"{config.model} is for images of {side} x {side}, and these are {used} x {used}: its "
            "first layers reduce them to few pixels; use --stem cifar",
            DataWarning,
            stacklevel=3,
        )


def normalisation(config: TrainConfig, images: Dataset) -> tuple[tuple[float, ...], ...]:
    """Return config's mean and standard deviation of the channels, or else those of the images."""
    if config.mean and config.std:
        return config.mean, config.std
    mean, std = moments(images, config.seed)
    return config.mean or mean, config.std or std


def load_split(config: TrainConfig, split: str, classes: Sequence[str] | None = None) -> Dataset:
    """Load the images of a split, before validation images are held out.

    Their labels index classes, such as a checkpoint's; by default the classes of the training
    images. Images of another class raise ValueError.
    """
    n = None
    if config.data == "shapes10":
        n = SHAPES10_TEST if split == "test" else config.limit
    settings: dict[str, Any] = dict(root=config.root, seed=config.seed, size=config.size)
    dataset = load(config.data, split, n=n, classes=classes, lazy=config.resized_crop, **settings)
    limited = split == "train" and config.limit is not None and config.limit < len(dataset)
    return dataset.take(slice(config.limit)) if limited else dataset


@contextmanager
def hint_at_moved_data(config: TrainConfig, *splits: str, suggest: bool = True) -> Iterator[None]:
    """Append to an error, if the data of a run is missing, the option for its folder."""
    try:
        yield
    except (OSError, ValueError) as error:
        if not suggest or _has_data(config, splits):
            raise
        option = "--data" if config.root is None else "--root"
        raise ValueError(
            f"{error}; if the data of the run has moved, pass its folder with {option}"
        ) from None


def check_root(where: str, root: Path | None, data: str) -> None:
    """Raise ValueError if a root is passed for data other than CIFAR, which has none."""
    if root is not None and data not in LAYOUTS:
        raise ValueError(
            f"{where}: root is {root}, but the data, {data}, is not looked for there: pass a "
            "folder of images with --data"
        )


def check_ops_file(where: str, ops: str, other: str = "") -> None:
    """Raise ValueError if the back end of a run is a file that does not exist.

    `other` is added to the remedy, such as ", or --ops reference".
    """
    if is_file(ops) and not Path(ops).exists():
        raise ValueError(
            f"{where}: ops is {ops}, expected the file that the run was trained with, but it does "
            f"not exist: pass its path with --ops{other}"
        )


def _has_data(config: TrainConfig, splits: Sequence[str]) -> bool:
    """Return True if the files of a run's data set exist."""
    if config.data not in names_of_data():
        return all(split_folder(Path(config.data), split) for split in splits)
    try:
        return config.data not in LAYOUTS or bool(locate(config.data, config.root))
    except (OSError, ValueError):
        return False


def build_net(config: TrainConfig, classes: int, ops: Backend | None = None) -> Chain:
    """Build config's net with newly drawn parameters; ops is its back end, if already loaded."""
    ops = load_ops(config.ops, config.threads, config.algorithm) if ops is None else ops
    settings = chosen_settings(config.model, config.se, config, config.size)
    rng = np.random.default_rng(config.seed)
    net = models.build(config.model, num_classes=classes, ops=ops, rng=rng, **settings)
    if config.guard:
        wrap.attach(net, wrap.guarded(ops))
    return net


def for_evaluation(
    dataset: Dataset, data: dict[str, Any], resized_crop: bool = False, crops: int = 1
) -> Batches:
    """Return a data set's batches in order, normalised like the training images.

    Parameters
    ----------
    dataset : Dataset
        The images.
    data : dict
        mean and std of the training images.
    resized_crop : bool
        Whether training used random resized crops: then the images are scaled by 8/7 and cropped to
        their centre.
    crops : 1 or 10
        With 10, these larger images are not cropped: `ten_crop_logits` crops them.
    """
    augment = None
    if resized_crop:
        _, _, H, W = dataset.images.shape
        dataset, augment = enlarged(dataset), CentreCrop(H, W) if crops == 1 else None
    _, _, H, W = dataset.images.shape
    size = max(1, min(EVALUATION_BATCH, EVALUATION_PIXELS // (H * W)))
    moments = dict(mean=data["mean"], std=data["std"])
    return Batches(dataset, size, shuffle=False, augment=augment, **moments)

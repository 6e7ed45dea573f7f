"""From settings to a run that is ready to start."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from minise import models
from minise.data import Augment, Batches, Dataset, hold_out, load, moments
from minise.models.trained import chosen_settings
from minise.nn import Chain
from minise.ops import wrap
from minise.ops.backend import Backend, load_ops
from minise.train.config import TrainConfig, to_dict
from minise.train.loop import Result, Training, train
from minise.train.objective import SoftmaxCrossEntropy
from minise.train.run_folder import check_threads, create
from minise.train.sgd import SGD

if TYPE_CHECKING:
    from rich.console import Console

EVALUATION_BATCH = 250  # images; only memory depends on it
SHAPES10_TEST = 2000  # images drawn to test on: one standard error of 90 % is then 0.7 %


def prepare(config: TrainConfig) -> Training:
    """Load the data, build the net and make the run folder: all that a user's mistake can stop."""
    ops = load_ops(config.ops, config.threads, config.algorithm)  # may be refused: before the data
    check_threads("train", config.threads, 0)
    train_set, test_set = load_split(config, "train"), load_split(config, "test")
    val_set: Dataset | None = None
    if config.val:
        train_set, val_set = hold_out(train_set, config.val)
    mean, std = normalisation(config, train_set)
    data = {"mean": mean, "std": std, "classes": train_set.classes}
    net = build_net(config, len(train_set.classes), ops)
    augment = Augment(crop=config.crop, flip=config.flip, cutout=config.cutout)
    seed, size = config.seed, config.batch_size
    return Training(
        net,
        SoftmaxCrossEntropy(net.ops, label_smoothing=config.label_smoothing),
        SGD(net, config.momentum, config.nesterov, config.weight_decay, config.decay_all),
        Batches(train_set, size, seed=seed, augment=augment, mean=mean, std=std),
        None if val_set is None else for_evaluation(val_set, data),
        for_evaluation(test_set, data),
        SoftmaxCrossEntropy(net.ops),
        create(config.out, config.name, f"{config.model}-{Path(config.data).name}"),
        config.epochs,
        config.rate,
        config.schedule,
        config.warmup,
        config.accumulate,
        config.log_every,
        config.threads,
        to_dict(config),
        data,
    )


def fit(config: TrainConfig, console: "Console | None" = None) -> Result:
    """Train a net as config says.

    Parameters
    ----------
    config : TrainConfig
        The settings.
    console : rich Console, optional
        Where to report; by default standard output.

    Returns
    -------
    Result
        Test figures of the best epoch by validation (of the last with val=0), and where the run
        folder is.

    Raises
    ------
    ValueError, TypeError, OSError
        Before training, if a setting, the data or the folder is wrong.
    NonFiniteLoss
        If training diverges.
    Interrupted
        If a signal came; then the checkpoint is written.
    """
    return train(prepare(config), console)


def normalisation(config: TrainConfig, images: Dataset) -> tuple[tuple[float, ...], ...]:
    """Return mean and deviation of the channels: as config says, or else those of the images."""
    if config.mean and config.std:
        return config.mean, config.std
    mean, std = moments(images)
    return config.mean or mean, config.std or std


def load_split(config: TrainConfig, split: str) -> Dataset:
    """Return the images that config names, before any are held out."""
    drawn = None
    if config.data == "shapes10":
        drawn = SHAPES10_TEST if split == "test" else config.limit
    dataset = load(config.data, split, root=config.root, seed=config.seed, n=drawn)
    limited = split == "train" and config.limit is not None and config.limit < len(dataset)
    return dataset.take(slice(config.limit)) if limited else dataset


def build_net(config: TrainConfig, classes: int, ops: Backend | None = None) -> Chain:
    """Return the net that config names, with fresh parameters; ops is its back end, if loaded."""
    ops = load_ops(config.ops, config.threads, config.algorithm) if ops is None else ops
    settings = chosen_settings(config.model, config.se, config.shortcut)
    rng = np.random.default_rng(config.seed)
    net = models.build(config.model, num_classes=classes, ops=ops, rng=rng, **settings)
    if config.guard:
        wrap.attach(net, wrap.guarded(ops))
    return net


def for_evaluation(dataset: Dataset, data: dict[str, Any]) -> Batches:
    """Return a data set's batches in order, as they are, normalised like the training images."""
    return Batches(dataset, EVALUATION_BATCH, shuffle=False, mean=data["mean"], std=data["std"])

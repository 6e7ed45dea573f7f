"""From settings to a run that is ready to start."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from minise import models
from minise.data import Augment, Batches, Dataset, hold_out, load, moments
from minise.nn import SE
from minise.ops import wrap
from minise.ops.backend import load_ops
from minise.train.config import TrainConfig
from minise.train.run_folder import RunFolder, create
from minise.train.sgd import SGD

EVALUATION_BATCH = 250  # images; only memory depends on it
SHAPES10_TEST = 2000  # images drawn to test on: one standard error of 90 % is then 0.7 %


@dataclass
class Training:
    """A run that is ready to start."""

    config: TrainConfig
    net: Any
    optimiser: SGD
    train: Batches
    val: Batches | None
    test: Batches
    folder: RunFolder
    data: dict[str, Any]  # mean, std, classes: part of each checkpoint


def prepare(config: TrainConfig) -> Training:
    """Load the data, build the net and make the run folder: all that a user's mistake can stop."""
    ops = load_ops(config.ops, config.threads, config.algorithm)  # may be refused: before the data
    train_set, test_set = load_split(config, "train"), load_split(config, "test")
    val_set: Dataset | None = None
    if config.val:
        train_set, val_set = hold_out(train_set, config.val)
    mean, std = normalisation(config, train_set)
    data = {"mean": mean, "std": std, "classes": train_set.classes}
    net = build_net(config, len(train_set.classes), ops)
    return Training(
        config,
        net,
        SGD(net, config.momentum, config.nesterov, config.weight_decay, config.decay_all),
        Batches(
            train_set,
            config.batch_size,
            seed=config.seed,
            augment=Augment(crop=config.crop, flip=config.flip, cutout=config.cutout),
            mean=mean,
            std=std,
        ),
        None if val_set is None else for_evaluation(val_set, data),
        for_evaluation(test_set, data),
        create(config),
        data,
    )


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


def build_net(config: TrainConfig, classes: int, ops: Any = None) -> Any:
    """Return the net that config names, with fresh parameters; ops is its back end, if loaded."""
    ops = load_ops(config.ops, config.threads, config.algorithm) if ops is None else ops
    settings = model_settings(config.model, config.se, config.shortcut)
    rng = np.random.default_rng(config.seed)
    net = models.build(config.model, num_classes=classes, ops=ops, rng=rng, **settings)
    if config.guard:
        wrap.attach(net, wrap.guarded(ops))
    return net


def model_settings(model: str, se: SE, shortcut: str) -> dict[str, Any]:
    """Return those settings that a model takes, and those it does not take but that were chosen.

    build then refuses the latter by name, instead of their being lost.
    """
    chosen: dict[str, Any] = {}
    if model.startswith("se_") or se != SE():
        chosen["se"] = se
    if "shortcut" in models.settings(model) or shortcut != "B":
        chosen["shortcut"] = shortcut
    return chosen


def for_evaluation(dataset: Dataset, data: dict[str, Any]) -> Batches:
    """Return a data set's batches in order, as they are, normalised like the training images."""
    return Batches(dataset, EVALUATION_BATCH, shuffle=False, mean=data["mean"], std=data["std"])

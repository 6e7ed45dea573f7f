"""The verbs that train: quickstart and train."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from minise.cli.words import FAILED, Failure, misuse, say
from minise.nn import SE
from minise.train import RECIPES, Interrupted, Result, TrainConfig, prepare, train
from minise.train.config import OLD_NAMES

# What quickstart trains. Seeds 0 to 4 reached 97.5 % to 99.7 %.
QUICKSTART = TrainConfig(
    data="shapes10",
    limit=5000,
    model="se_resnet8",
    se=SE(reduction=4),
    epochs=3,
    batch_size=32,
    lr=0.2,
    crop=0,
    val=500,
)
EXPECTED = 0.95


def train_verb(arguments: Sequence[str]) -> Callable[[TrainConfig], int]:
    """Return the verb `train`, whose defaults are those of the recipe that arguments name, if any.

    So its help shows them, and what is given beside --recipe wins over them. The parser proper
    reads --recipe too: it refuses names that are unknown.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", nargs="?")
    recipe = parser.parse_known_args(arguments)[0].recipe
    defaults = RECIPES.get(recipe, TrainConfig())

    def train(config: Annotated[TrainConfig, tyro.conf.arg(name="")] = defaults) -> int:
        """Train a net, validate it every epoch, and test it once at the end.

        With --recipe quick all defaults are those of 12 epochs of SE-ResNet-20 on every training
        image of CIFAR-10, compiled; minise train --recipe quick --help shows them.

        Example: minise train --data shapes10 --limit 1000 --val 200 --model se_resnet8 --epochs 1
        """
        return train_as(config)

    return train


def with_current_flags(arguments: Sequence[str]) -> list[str]:
    """Replace the old names of options of `train`: --rate is --lr."""
    old = {f"--{name}": f"--{new}" for name, new in OLD_NAMES.items()}
    pairs = (argument.partition("=") for argument in arguments)
    return [old.get(flag, flag) + equals + value for flag, equals, value in pairs]


def train_as(config: TrainConfig) -> int:
    """Train as config says, and print what comes of it."""
    console = Console()
    with misuse():
        training = prepare(config)
    recipe = f" Recipe: {config.recipe}." if config.recipe else ""
    train_set, val, test = (getattr(training, split) for split in ("train", "val", "test"))
    say(
        console,
        f"{config.model}, {training.net.parameter_count:,} parameters, on {config.data}: "
        f"{len(train_set.dataset):,} images to train, {len(val.dataset) if val else 0:,} to "
        f"validate, {len(test.dataset):,} to test. Back end: {config.ops}.{recipe}",
    )
    try:
        result = train(training, console)
    except Interrupted as interrupted:
        raise Failure(str(interrupted), interrupted.exit_status) from None
    except FloatingPointError as error:
        raise Failure(str(error), FAILED) from error
    report(console, result, config)
    return 0


def report(console: Console, result: Result, config: TrainConfig) -> None:
    """Print what a run ended with."""
    chosen = "best epoch by validation" if config.val else "last epoch"
    say(
        console,
        f"test accuracy {result.test['accuracy']:.2%} ({chosen}), loss {result.test['loss']:.4f}; "
        f"trained in {result.training_seconds:.0f} s, data included, at "
        f"{result.images_per_second:.0f} images/s; {result.seconds:.0f} s in all\n"
        f"run folder: {result.folder}",
    )


def quickstart(seed: int = 0, out: Path = Path("runs")) -> int:
    """Train a small SE-ResNet on the built-in images: offline, about a minute on two cores.

    Example: minise quickstart

    Args:
        seed: Of images, parameters, order and augmentation.
        out: Folder of run folders.
    """
    console = Console()
    say(
        console,
        "minise quickstart: an SE-ResNet-8 learns ten shapes, drawn here and now. Every gradient "
        "was written by hand.\nBack end: reference (NumPy), because it needs nothing to be "
        "compiled and is the code to read; see minise/ops/reference.",
    )
    config = replace(QUICKSTART, seed=seed, out=out)
    status = train_as(config)
    say(console, f"expected test accuracy: above {EXPECTED:.0%}")
    return status

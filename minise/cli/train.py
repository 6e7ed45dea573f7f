"""The verbs that train: quickstart and train."""

from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from minise.checks import escaped
from minise.cli.words import FAILED, INTERRUPTED, Failure, misuse, say
from minise.data import ImageError
from minise.files import Damaged
from minise.nn import SE
from minise.train import (
    RECIPES,
    Interrupted,
    Result,
    TrainConfig,
    Training,
    prepare,
    prepare_resume,
    read_config,
    train,
)
from minise.train.config import OLD_NAMES, from_dict
from minise.train.recipes import for_model
from minise.train.resume import result_of

# The run of quickstart. Seeds 0 to 4 reach test accuracies of 97.5 % to 99.7 %.
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


def train_verb(arguments: Sequence[str]) -> Callable[..., int]:
    """Return the verb `train` with the defaults of the recipe or config.json that arguments name.

    --help then shows these values, and options beside --recipe or --config override them. tyro's
    parser reads both options again and refuses unknown names.
    """
    parser = ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--recipe", nargs="?")
    parser.add_argument("--config", nargs="?")
    typed = parser.parse_known_args(arguments)[0]
    if typed.config is not None and typed.recipe is not None:
        raise ValueError(
            f"train: --recipe {typed.recipe} and --config {typed.config} both set all defaults, "
            "expected one of them: leave one out"
        )
    if typed.config is None:
        defaults = RECIPES.get(typed.recipe, TrainConfig())
    else:  # the run folder is below the current folder
        defaults = replace(read_config(typed.config), out=TrainConfig.out, name=None)

    def train(
        settings: Annotated[TrainConfig, tyro.conf.arg(name="")] = defaults,
        config: Path | None = None,
    ) -> int:
        """Train a net, validating every epoch, and test it at the end.

        --recipe quick sets all defaults for 12 epochs of SE-ResNet-20 on all 50,000 training images
        of CIFAR-10 with compiled kernels; minise train --recipe quick --help shows them. --config
        runs/NAME/config.json sets all defaults except --out and --name to that run's values, which
        repeats the run, bit-identically on the same machine.

        Example: minise train --data shapes10 --model se_resnet8 --val 500 --epochs 4 --ops jit

        Args:
            settings: The settings of the run.
            config: A run folder, or its config.json; other options override its settings.
        """
        names = names_of_options(arguments)
        with misuse():
            if settings.resized_crop and settings.crop and {"crop", "resized_crop"} <= names:
                raise ValueError(
                    f"train: --crop {settings.crop} and --resized-crop are both set, expected one "
                    "of them, because a resized crop replaces the crop with padding: leave one out"
                )
            chosen = for_model(settings, names)
        return train_as(chosen)

    return train


def names_of_options(arguments: Sequence[str]) -> set[str]:
    """Return the names of the settings in arguments: "batch_size" for --batch-size 8."""
    options = (text.partition("=")[0][2:] for text in arguments if text.startswith("--"))
    names = {option.replace("-", "_") for option in options}
    return names | {name.removeprefix("no_") for name in names}


def with_current_flags(arguments: Sequence[str]) -> list[str]:
    """Replace old names of options of `train`, and --learning-rate by --lr."""
    names = {"learning_rate": "lr", **OLD_NAMES}
    flags = {f"--{name}".replace("_", "-"): f"--{new}" for name, new in names.items()}
    pairs = (argument.partition("=") for argument in arguments)
    return [flags.get(flag, flag) + equals + value for flag, equals, value in pairs]


def train_as(config: TrainConfig) -> int:
    """Train with the settings of config and print the result."""
    return _train(lambda: prepare(config), "before the first step; no checkpoint is written")


def resume(
    run: tyro.conf.Positional[Path],
    data: str | None = None,
    root: Path | None = None,
    ops: str | None = None,
    threads: int | None = None,
    save_every: float | None = None,
    anyway: bool = False,
) -> int:
    """Continue a run that was stopped or killed.

    The result is bit-identical to that of a run that was never stopped. For a finished
    run, its result is printed again.

    Example: minise resume runs/se_resnet20-cifar10-1

    Args:
        run: The run folder.
        data: The folder with train/ and test/ (or val/), if the run's data has moved.
        root: The folder that contains CIFAR, if the run's data has moved.
        ops: The file of the run's back end, if it has moved; with --anyway, another back end.
        threads: Number of threads; by default the run's.
        save_every: Seconds between two checkpoints; by default the run's.
        anyway: Continue although data, back end, BLAS or processor differ; then bits may differ.
    """
    options = dict(data=data, root=root, ops=ops, threads=threads, save_every=save_every)
    changes = {name: value for name, value in options.items() if value is not None}
    with misuse():
        finished = result_of(run)
    if finished is not None:
        test = ", ".join(f"{name} {value:.4f}" for name, value in finished.test.items())
        say(Console(), f"{run} is finished: test {test}")
        return 0
    return _train(
        lambda: prepare_resume(run, anyway=anyway, **changes),
        "before the first step; the run is unchanged",
    )


def _train(prepared: Callable[[], Training], unprepared: str) -> int:
    """Train and print the result; prepared() loads the data and builds the net."""
    console = Console()
    try:
        with misuse():
            training = prepared()
    except KeyboardInterrupt:
        raise Failure(f"train: interrupted {unprepared}", INTERRUPTED) from None
    config = from_dict(training.settings, "train")
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
    except BrokenPipeError:
        raise
    except (FloatingPointError, ImageError, MemoryError, OSError, Damaged) as error:
        raise Failure(str(error), FAILED) from error
    report(console, result, config)
    return 0


def report(console: Console, result: Result, config: TrainConfig) -> None:
    """Print the test accuracy, the time and the run folder of a finished run."""
    chosen = "best epoch by validation" if config.val else "last epoch"
    say(
        console,
        f"test accuracy {result.test['accuracy']:.2%} ({chosen}), loss {result.test['loss']:.4f}; "
        f"trained in {result.training_seconds:.0f} s, data included, at "
        f"{result.images_per_second:.0f} images/s; {result.seconds:.0f} s in all\n"
        f"run folder: {escaped(str(result.folder))}",
    )


def quickstart(seed: int = 0, out: Path = Path("runs")) -> int:
    """Train a small SE-ResNet offline, in about a minute.

    Example: minise quickstart

    Args:
        seed: Seed of images, parameters, order and augmentation.
        out: Folder in which the run folder is made.
    """
    console = Console()
    with misuse():
        config = replace(QUICKSTART, seed=seed, out=out)
    say(
        console,
        "minise quickstart: train an SE-ResNet-8 on generated images of ten shapes. Every gradient "
        "is written by hand.\nBack end: reference (NumPy), because it needs no compilation and is "
        "the code to read: minise/ops/reference.",
    )
    status = train_as(config)
    say(console, f"expected test accuracy: above {EXPECTED:.0%}")
    return status

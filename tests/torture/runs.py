"""Small runs of `minise train`, and checks of run folders after any interruption."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np

from minise import files
from minise.train.verify import digest
from tests.torture.calls import names_in
from tests.torture.kill import Life

CLASSES = "abc"
TIMES = "images_per_second", "seconds", "training_seconds"
CHECKPOINTS = "last.safetensors", "best.safetensors", "previous.safetensors"
FILES = {"config.json", "metrics.jsonl", *CHECKPOINTS}  # all that a finished run has
OPTIONS = {
    "size": 8,
    "val": 8,
    "epochs": 4,
    "batch-size": 8,
    "model": "resnet8",
    "ops": "reference",
    "lr": 0.02,
    "log-every": 1,
    "save-every": 0.1,
}


def photos(folder: Path, count: int = 16) -> Path:
    """Write images of three classes: `count` for training and four for testing of each."""
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, number in (("train", count), ("test", 4)):
        for shade, name in enumerate(CLASSES):
            path = folder / split / name
            path.mkdir(parents=True)
            for k in range(number):
                pixels = rng.integers(0, 156, (8, 8, 3)) + 50 * shade
                Image.fromarray(pixels.astype(np.uint8)).save(path / f"{k}.png")
    return folder


def train_arguments(data: Path, run: Path, **options: Any) -> list[Any]:
    """Return the arguments of Python for a run of about a second; options with _ for -."""
    options = {**OPTIONS, **{name.replace("_", "-"): value for name, value in options.items()}}
    flags = [word for name, value in options.items() for word in (f"--{name}", value)]
    return [
        "-m",
        "minise",
        "train",
        "--data",
        data,
        "--out",
        run.parent,
        "--name",
        run.name,
        *flags,
    ]


def resume_arguments(run: Path, *options: Any) -> list[Any]:
    """Return the arguments of Python that resume a run."""
    return ["-m", "minise", "resume", run, *options]


def python(arguments: list[Any]) -> list[Any]:
    """Return a command that runs Python."""
    return [sys.executable, *arguments]


def go_on(run: Path, first: list[Any]) -> list[Any]:
    """Return the arguments that continue a run: from its start if it has no checkpoint yet."""
    if (run / "config.json").exists() and any((run / name).exists() for name in CHECKPOINTS):
        return resume_arguments(run)
    shutil.rmtree(run, ignore_errors=True)
    return first


def records(run: Path) -> list[dict[str, Any]]:
    """Return the complete lines of metrics.jsonl."""
    path = run / "metrics.jsonl"
    *lines, _ = path.read_text().split("\n") if path.exists() else [""]
    return [json.loads(line) for line in lines]


def outcome(run: Path) -> dict[str, Any]:
    """Return everything about a run that does not depend on when it was stopped."""
    paths = [run / name for name in CHECKPOINTS[:2] if (run / name).exists()]
    hashes = {path.name: digest(files.read(path, files.CHECKPOINT).arrays) for path in paths}
    lines = [
        {name: value for name, value in record.items() if name not in TIMES}
        for record in records(run)
        if record["kind"] != "resume"
    ]
    return {**hashes, "lines": lines}


def check_log(run: Path) -> None:
    """Check that no line is duplicated, and that steps increase."""
    steps: dict[str, list[int]] = {}
    for record in records(run):
        if record["kind"] in ("step", "epoch"):
            steps.setdefault(record["kind"], []).append(record["step"])
    for kind, numbers in steps.items():
        assert numbers == sorted(set(numbers)), f"{kind}: {numbers}"


def check_readable(run: Path) -> None:
    """Check that every checkpoint of a run loads, and that its last one exists after the first."""
    present = [name for name in CHECKPOINTS if (run / name).exists()]
    for name in present:
        files.read(run / name, files.CHECKPOINT)
    assert "last.safetensors" in present or not present


def lost_seconds(run: Path, batch: int = OPTIONS["batch-size"]) -> float:
    """Return the seconds of the steps that are in the log but not in the last checkpoint."""
    last = run / "last.safetensors"
    if not last.exists():
        return 0.0
    done = files.read(last, files.CHECKPOINT).texts["state"]["step"]
    lost = [record for record in records(run) if record["kind"] == "step" and record["step"] > done]
    return sum(batch / record["images_per_second"] for record in lost)


def check_end(run: Path, expected: dict[str, Any], life: Life) -> None:
    """Check that a run equals the uninterrupted run, and that no temporary files remain."""
    assert life.status == 0, life
    assert "Traceback" not in life.err, life
    check_log(run)
    assert outcome(run) == expected
    lock = {"run.lock"} if "is finished" in life.out else set()  # then nothing is changed
    assert names_in(run).keys() <= FILES | lock

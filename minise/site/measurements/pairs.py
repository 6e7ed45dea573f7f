"""Collect the runs that compare a plain ResNet-20 with its SE twin on CIFAR-10, seed by seed.

``python -m minise.site.measurements.pairs FOLDER`` reads the run folders ``plain_s0``, ``se_s0``,
``plain_s1``, … that these commands wrote, for each seed S::

    minise train --recipe quick --model resnet20 --reduction 16 --seed S --name plain_sS
    minise train --recipe quick --seed S --name se_sS

A plain net has no reduction; the option resets the recipe's. The images were a copy of CIFAR-10
that had been compressed as JPEG, so an accuracy differs from that on the original images.
"""

import json
import sys
from pathlib import Path
from typing import Any

from minise.site.measurements.record import write_result

KINDS = ("plain", "se")
SHARED = (  # settings that all runs have in common
    "recipe",
    "data",
    "epochs",
    "batch_size",
    "schedule",
    "momentum",
    "nesterov",
    "weight_decay",
    "crop",
    "flip",
    "cutout",
)


def read_run(folder: Path) -> dict[str, Any]:
    """Return the facts of a run: its seed, net, command, and its accuracies by epoch and on test.

    Raises
    ------
    ValueError
        If the run has not ended with a test.
    """
    lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines]
    tests = [record for record in records if record["kind"] == "test"]
    if not tests:
        raise ValueError(f"pairs: {folder} has no test, expected a finished run: resume it")
    content = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    epochs = [record for record in records if record["kind"] == "epoch"]
    return {
        "kind": folder.name.partition("_")[0],
        "seed": content["config"]["seed"],
        "model": content["config"]["model"],
        "command": ["minise", *content["command"][1:]],
        "date": content["started"][:10],
        "train_accuracy": [round(record["accuracy"], 5) for record in epochs],
        "test_accuracy": tests[0]["accuracy"],
        "test_loss": round(tests[0]["loss"], 5),
    }


def collect(folder: Path) -> Path:
    """Write the results of all runs in a folder; return the path."""
    paths = sorted(path for kind in KINDS for path in folder.glob(f"{kind}_s*"))
    content = json.loads((paths[0] / "config.json").read_text(encoding="utf-8"))
    config = content["config"]
    settings = {name: config[name] for name in SHARED}
    settings |= {"lr": config.get("lr", config.get("rate")), "images": "a JPEG copy of CIFAR-10"}
    runs = [read_run(path) for path in paths]
    date = max(run["date"] for run in runs)
    about = {key: content[key] for key in ("machine", "versions")}
    return write_result("pairs", settings, date=date, **about, runs=runs)


if __name__ == "__main__":
    print(collect(Path(sys.argv[1])))

"""The command line on the cuda back end, with the emulator in place of a GPU."""

import json
import re
from pathlib import Path

import pytest

from minise.ops import cuda
from minise.ops.cuda.backend import Backend
from tests.cli.commands import call
from tests.ops.cuda.device import device
from tests.ops.cuda.emulator import Emulator


@pytest.fixture(autouse=True)
def _emulated(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cuda, "require", lambda: None)
    monkeypatch.setattr(cuda, "_ops", Backend(Emulator(device)))
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 2)


def test_check(capsys):
    status, out, err = call("check --ops cuda --op squeeze_excite --cases 3", capsys)
    assert (status, err) == (0, "")
    assert "1 ops of cuda are right in 3 cases" in out


FEW_IMAGES = r"minise: shapes10 has no images of 8 of 10 classes: .*\n"  # the test set has two


@pytest.mark.slow
def test_train_and_eval(capsys):
    """Two steps on small batches give the losses of the reference.

    At the default lr the loss rises to 18 in these steps, and rounding errors grow with it.
    """
    line = "train --data shapes10 --limit 6 --val 2 --model se_resnet20 --batch-size 2 --epochs 1"
    line += " --lr 0.01"
    losses = {}
    for ops in ("cuda", "reference"):
        status, out, err = call(f"{line} --ops {ops} --name {ops} --log-every 1 --guard", capsys)
        assert status == 0
        assert re.fullmatch(FEW_IMAGES, err)
        assert f"Back end: {ops}." in out
        lines = Path(f"runs/{ops}/metrics.jsonl").read_text().splitlines()
        losses[ops] = [step["loss"] for step in map(json.loads, lines)]
    assert losses["cuda"] == pytest.approx(losses["reference"], rel=1e-4)
    status, out, err = call("eval runs/cuda", capsys)
    assert status == 0
    assert re.fullmatch(FEW_IMAGES, err)
    assert "loss" in out

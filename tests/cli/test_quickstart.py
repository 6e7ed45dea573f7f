"""The quickstart, run as its users run it, and its settings with compiled kernels."""

import re
import subprocess
import sys
from dataclasses import replace

import pytest

from minise.cli.train import EXPECTED, QUICKSTART
from tests.cli.commands import call


def assert_passes(shown, folder):
    accuracy = float(re.search(r"test accuracy (\S+)%", shown).group(1)) / 100
    assert accuracy > 0.85
    assert accuracy > EXPECTED  # what it prints as expected holds
    *_, run, expected = shown.strip().splitlines()
    assert (folder / run.removeprefix("run folder: ") / "best.safetensors").exists()
    assert expected.startswith("expected test accuracy: ")
    assert "Back end: reference (NumPy), because" in shown


@pytest.mark.long
def test_its_settings_pass_85_percent_with_compiled_kernels(tmp_path, monkeypatch, capsys):
    """The same images, parameters and steps, several times as fast."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("minise.cli.train.QUICKSTART", replace(QUICKSTART, ops="jit"))
    status, shown, _ = call("quickstart", capsys)
    assert status == 0
    assert_passes(shown, tmp_path)


@pytest.mark.long
def test_quickstart_passes_85_percent(tmp_path):
    command = [sys.executable, "-m", "minise", "quickstart"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert_passes(done.stdout, tmp_path)

"""The quickstart, run as its users run it."""

import re
import subprocess
import sys

import pytest

from minise.cli.train import EXPECTED


@pytest.mark.slow
def test_quickstart_passes_85_percent(tmp_path):
    command = [sys.executable, "-m", "minise", "quickstart"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    accuracy = float(re.search(r"test accuracy (\S+)%", done.stdout).group(1)) / 100
    assert accuracy > 0.85
    assert accuracy > EXPECTED  # what it prints as expected holds
    *_, folder, expected = done.stdout.strip().splitlines()
    assert (tmp_path / folder.removeprefix("run folder: ") / "best.safetensors").exists()
    assert expected.startswith("expected test accuracy: ")
    assert "Back end: reference (NumPy), because" in done.stdout

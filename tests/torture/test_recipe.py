"""The recipe `quick` on 5,000 images, stopped and killed five times, ends with the same arrays."""

import os
import signal

import pytest

from tests.torture.kill import Growth, run
from tests.torture.runs import check_end, check_log, outcome, python, resume_arguments

pytestmark = pytest.mark.long
OPTIONS = "--recipe quick --limit 5000 --log-every 1 --save-every 2"
STOPS = [signal.SIGINT, signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGINT]
LINES = 80  # of the log between two stops; a run of 12 epochs has 480 steps


def test_the_recipe_interrupted_five_times(tmp_path):
    data = "cifar10" if os.environ.get("MINISE_DATA") else "shapes10"
    commands = [
        python(f"-m minise train {OPTIONS} --data {data} --out {tmp_path} --name {name}".split())
        for name in ("alone", "stopped")
    ]
    assert run(commands[0], seconds=1800).status == 0
    path, command = tmp_path / "stopped", commands[1]
    for number in STOPS:
        life = run(command, Growth(path / "metrics.jsonl", LINES, 0.05), number, seconds=1800)
        assert life.status == (-9 if number == signal.SIGKILL else 128 + number), life
        check_log(path)
        command = python(resume_arguments(path))
    life = run(command, seconds=1800)
    check_end(path, outcome(tmp_path / "alone"), life)

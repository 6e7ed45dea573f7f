"""ETA and throughput of a run, without the time of compilation."""

import io
import json
import re
from types import SimpleNamespace

import pytest
from rich.console import Console

from minise.train import TrainConfig, fit, loop, progress
from minise.train.progress import Progress


class Machine:
    """A fake clock, and the seconds spent on compilation."""

    def __init__(self):
        self.seconds = self.compile_seconds = 0.0

    def run_for(self, seconds, compiles=0.0):
        """Advance the clock; `seconds` includes the compilation."""
        self.seconds += seconds
        self.compile_seconds += compiles


@pytest.fixture
def machine(monkeypatch):
    machine = Machine()
    clock = SimpleNamespace(perf_counter=lambda: machine.seconds)
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setattr(loop, "time", clock)
    for module in (progress, loop):
        monkeypatch.setattr(module, "compile_seconds", lambda: machine.compile_seconds)
    return machine


def test_the_eta_in_lines(machine):
    """Of ten steps of 10 s, the first compiles for 200 s."""
    console = Console(file=io.StringIO(), width=200)
    with Progress(console, 2, 5) as shown:
        machine.run_for(210, compiles=200)
        shown.step(1, 1, {"loss": 1.0}, 12.0)
        for step in (2, 3):
            machine.run_for(10)
            shown.step(1, step, {"loss": 1.0}, 12.0)
    text = console.file.getvalue()
    assert re.findall(r"step (\d)/5 .* ETA (\S+)", text) == [
        ("1", "0:01:30"),
        ("2", "0:01:20"),
        ("3", "0:01:10"),
    ]


def test_the_eta_of_the_bars(machine):
    console = Console(file=io.StringIO(), width=200, force_terminal=True)
    with Progress(console, 1, 10) as shown:
        for seconds, compiles in ((10, 0), (110, 100), (10, 0)):
            machine.run_for(seconds, compiles)
            shown.step(1, 1 + int(shown._bars.tasks[0].completed), {"loss": 1.0}, 12.0)
        assert shown._bars.tasks[0].time_remaining == 70


def test_the_throughput_of_a_run(machine, tmp_path, monkeypatch):
    """Four steps of 32 images in 2 s each; the first and the third compile, for 50 s and 6 s."""
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 40)
    seconds = iter([(52, 50), (2, 0), (8, 6), (2, 0)])

    def train_step(*_):
        machine.run_for(*next(seconds))
        return {"loss": 1.0, "accuracy": 0.5}

    monkeypatch.setattr(loop, "train_step", train_step)
    console = Console(file=io.StringIO(), width=200)
    config = TrainConfig(
        data="shapes10",
        limit=96,
        val=32,
        model="se_resnet8",
        epochs=2,
        batch_size=32,
        log_every=1,
        out=tmp_path,
    )
    result = fit(config, console=console)
    lines = (result.folder / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    speeds = [record["images_per_second"] for record in records if "images_per_second" in record]
    assert speeds == [16.0] * 7  # four steps, two epochs, the run
    assert [record["seconds"] for record in records if record["kind"] == "epoch"] == [54, 10]
    assert (result.images_per_second, result.training_seconds) == (16, 64)
    assert re.findall(r"(\d+) images/s  (\d+) s\n", console.file.getvalue()) == [
        ("16", "54"),
        ("16", "10"),
    ]

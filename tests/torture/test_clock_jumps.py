"""Runs whose clocks jump or stop end like the uninterrupted run, and save as often."""

import re

import pytest

from tests.torture.clocks import with_clock
from tests.torture.kill import at_call, in_function, run
from tests.torture.runs import (
    check_end,
    python,
    records,
    resume_arguments,
    train_arguments,
)

slow, long = pytest.mark.slow, pytest.mark.long
HOURS = 7200.0
CLOCKS = {
    "forwards": dict(wall=[(0.3, HOURS), (0.6, 0.0)]),
    "backwards": dict(wall=[(0.3, -HOURS), (0.5, -2 * HOURS)]),
    "to and fro": dict(wall=[(0.02 * k, HOURS * (-1) ** k) for k in range(200)]),
    "1970": dict(wall=[(0, -1.7e9), (0.4, 0.0)]),
    "a computer that sleeps": dict(monotonic=[(0.5, HOURS), (0.7, 5 * HOURS)]),
    "coarse": dict(tick=0.05),
    "stopped": dict(tick=1e6),
}


IN_CI = {"to and fro", "stopped"}


def count_saves(life):
    """Return how often last.safetensors was replaced, from the calls in the errors of at_call."""
    return len(re.findall(r"file call: replace \S+ last.safetensors", life.err))


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=slow if name in IN_CI else long) for name in CLOCKS],
)
def test_a_run_and_its_saves(data, tmp_path, alone, name):
    path = tmp_path / "runs" / "run"
    path.parent.mkdir()
    options = dict(save_every=0)
    log = at_call(path.parent, -1, "log", train_arguments(data, path, **options))
    life = run(with_clock(CLOCKS[name], log[1:]))
    check_end(path, alone(**options), life)
    steps = sum(record["kind"] == "step" for record in records(path))
    assert count_saves(life) >= steps  # each step is saved, whatever the clocks say


@pytest.mark.parametrize(
    "name",
    [pytest.param("forwards", marks=long), pytest.param("1970", marks=slow)],
)
def test_a_resume_with_another_time(data, tmp_path, alone, name):
    """The lock and the checkpoints of the killed run are in the future, or in the past."""
    path = tmp_path / "run"
    first = in_function("minise.train.loop.train_step", 8, train_arguments(data, path))
    assert run(with_clock(dict(wall=[(0, HOURS)]), first[1:])).status == -9
    life = run(with_clock(CLOCKS[name], resume_arguments(path)))
    check_end(path, alone(), life)


@slow
def test_seconds_are_never_negative(data, tmp_path):
    path = tmp_path / "run"
    life = run(with_clock(CLOCKS["backwards"], train_arguments(data, path)))
    assert life.status == 0
    assert not re.search(r"-\d+ s\b|-\d+ images", life.out)
    for record in records(path):
        assert all(record.get(key, 0) >= 0 for key in ("seconds", "training_seconds"))
    assert run(python(["-m", "minise", "verify", path])).status == 0

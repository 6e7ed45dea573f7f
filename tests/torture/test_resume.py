"""Runs that are stopped and resumed end bit-identical to the uninterrupted run.

Compared are the SHA-256 of all arrays of the last and the best checkpoint (parameters, statistics,
counters of masks, velocities), every line of the log without its times, and the test result.
"""

import functools
import json
import signal
from unittest import mock

import pytest

from minise.train import Interrupted, loop
from minise.train.batches import epoch_batches
from minise.train.checkpoint import restore
from minise.train.means import Means
from minise.train.resume import restore_run
from tests.torture.kill import in_function, run
from tests.torture.own_run import STEPS, own_run
from tests.torture.runs import (
    check_end,
    check_log,
    outcome,
    photos,
    python,
    resume_arguments,
    train_arguments,
)

slow, long = pytest.mark.slow, pytest.mark.long
ANOTHER_SEED = 9  # of the net that is built to resume: all that it draws must be replaced


@pytest.fixture(scope="module")
def own_alone(tmp_path_factory):
    """Return a function: the outcome of an uninterrupted run with settings."""

    @functools.cache
    def outcome_of(**settings):
        result = own_run(tmp_path_factory.mktemp("alone"), **settings)
        return outcome(result.folder), result.test

    return outcome_of


def interrupted_at(step, out, **settings):
    """Start or resume a run, and interrupt it by SIGINT in one of its steps, counted from 1."""
    count = [0]

    def train_step(*arguments):
        count[0] += 1
        if count[0] == step:
            signal.raise_signal(signal.SIGINT)
        return real(*arguments)

    real = loop.train_step
    with mock.patch.object(loop, "train_step", train_step), pytest.raises(Interrupted):
        own_run(out, **settings)


def check_resumes(out, own_alone, stops, settings, again=None):
    """Stop a run after each number of further steps, let it end, and compare."""
    settings, again = dict(settings), {**settings, "seed": ANOTHER_SEED, **(again or {})}
    interrupted_at(stops[0], out, **settings)
    for stop in stops[1:]:
        interrupted_at(stop, out, **again, resume=out / "run")
        check_log(out / "run")
    result = own_run(out, **again, resume=out / "run")
    expected, test = own_alone(**settings)
    check_log(out / "run")
    assert (outcome(out / "run"), result.test) == (expected, test)


@slow
@pytest.mark.parametrize("step", range(1, STEPS // 2 + 1))
def test_after_each_step(tmp_path, own_alone, step):
    """With accumulate=2 a run has 20 steps; the fifth, tenth, … are the last ones of an epoch."""
    check_resumes(tmp_path, own_alone, [step], dict(accumulate=2))


IN_LONG = {("jit", "plain"), ("jit", "momentum")}
OPTIMISERS = {
    "plain": dict(momentum=0.0, nesterov=False),
    "momentum": dict(nesterov=False),
    "nesterov": {},
    "accumulated": dict(accumulate=2, nesterov=False),
}


@pytest.mark.parametrize(
    ("ops", "name"),
    [
        pytest.param(ops, name, marks=long if (ops, name) in IN_LONG else slow)
        for ops in ("reference", "jit")
        for name in OPTIMISERS
    ],
)
def test_back_ends_and_optimisers(tmp_path, own_alone, ops, name):
    check_resumes(tmp_path, own_alone, [7], dict(ops=ops, **OPTIMISERS[name]))


@pytest.mark.parametrize(
    "threads", [pytest.param((1, 2), marks=slow), pytest.param((2, 1), marks=long)]
)
def test_another_number_of_threads(tmp_path, own_alone, threads):
    before, after = threads
    check_resumes(tmp_path, own_alone, [13], dict(ops="jit", threads=before), dict(threads=after))


@slow
@pytest.mark.parametrize("source", ["lazy", "without start", "list"])
def test_sources(tmp_path, own_alone, source):
    check_resumes(tmp_path, own_alone, [3, 14], dict(source=source))


@slow
@pytest.mark.parametrize("step", [1, 4, 5, 9])
def test_groups_of_unequal_size(tmp_path, own_alone, step):
    """Ten batches are three groups of three batches and one of a single batch."""
    check_resumes(tmp_path, own_alone, [step], dict(accumulate=3, schedule="steps"))


@slow
@pytest.mark.parametrize("stops", [[1, 1, 1, 1], [3, 8, 9, 1, 10], [10, 10, 10]])
def test_several_stops(tmp_path, own_alone, stops):
    check_resumes(tmp_path, own_alone, stops, {})


def with_zero_velocities(training, saved, anyway):
    restore_run(training, saved, anyway)
    for array in training.optimiser.velocity.values():
        array[...] = 0


def restoring(change):
    """Return minise.train.resume.restore with other arrays: change(name, array)."""

    def run(net, arrays, *rest):
        return restore(net, {name: change(name, array) for name, array in arrays.items()}, *rest)

    return run


def from_the_start(batches, epoch, start):
    return epoch_batches(batches, epoch, 0)


FORGOTTEN = {  # what a resume does not restore: how
    "velocities": ("minise.train.own.restore_run", with_zero_velocities),
    "counters of masks": (
        "minise.train.resume.restore",
        restoring(lambda name, array: 0 * array if name.endswith(".draws") else array),
    ),
    "seeds of masks": (
        "minise.train.resume.restore",
        restoring(lambda name, array: array + name.endswith(".seed")),
    ),
    "place in the epoch": ("minise.train.loop.epoch_batches", from_the_start),
    "sums of the epoch": ("minise.train.loop.Means", lambda *arguments: Means()),
    "log": ("minise.train.run_folder.RunFolder.cut_log", lambda folder, lines: ""),
}


@slow
@pytest.mark.parametrize("name", FORGOTTEN)
def test_the_comparison_notices_what_is_forgotten(tmp_path, own_alone, name):
    out = tmp_path
    interrupted_at(13, out)
    with (out / "run" / "metrics.jsonl").open("a") as file:  # as if killed after the next step
        file.write('{"kind": "step", "step": 14}\n')
    with mock.patch(*FORGOTTEN[name]):
        result = own_run(out, seed=ANOTHER_SEED, resume=out / "run")
    assert (outcome(out / "run"), result.test) != own_alone()


@slow
@pytest.mark.parametrize(("ops", "step"), [("reference", 4), ("reference", 21), ("jit", 17)])
def test_own_nets_after_kill(tmp_path, own_alone, ops, step):
    settings = dict(out=str(tmp_path), ops=ops, save_every=0.0)
    program = ["-m", "tests.torture.own_run", json.dumps(settings)]
    assert run(in_function("minise.train.loop.train_step", step, program)).status == -9
    again = {**settings, "resume": str(tmp_path / "run"), "seed": ANOTHER_SEED}
    life = run(python([*program[:2], json.dumps(again)]))
    expected, _ = own_alone(ops=ops)
    check_end(tmp_path / "run", expected, life)


MODELS = {
    "cutout": dict(cutout=3, crop=2),
    "momentum": dict(model="se_resnet8", nesterov=False),
    "accumulate": dict(accumulate=2, model="se_resnet8", label_smoothing=0.1),
    "steps": dict(schedule="steps", decay_all=True, val=0),
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=slow if name in ("momentum", "accumulate") else long)
        for name in MODELS
    ],
)
def test_command_line_after_kill(tmp_path, name):
    options = dict(epochs=2, save_every=0.0, **MODELS[name])
    flags = [f"--no-{k.replace('_', '-')}" for k, v in options.items() if v is False]
    flags += [f"--{k.replace('_', '-')}" for k, v in options.items() if v is True]
    options = {k: v for k, v in options.items() if not isinstance(v, bool)}
    data, folders = photos(tmp_path / "photos"), [tmp_path / "a", tmp_path / "b"]
    commands = [[*train_arguments(data, folder, **options), *flags] for folder in folders]
    assert run(python(commands[0])).status == 0
    assert run(in_function("minise.train.loop.train_step", 4, commands[1])).status == -9
    life = run(python(resume_arguments(folders[1])))
    expected = outcome(folders[0])
    check_end(folders[1], expected, life)

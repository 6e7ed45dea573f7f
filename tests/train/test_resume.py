"""Resumed runs end bit-identically; differences are refused.

tests/torture stops runs at every step, in every phase and call.
"""

import io
import json
import re
import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from minise import nn
from minise.data import Augment, Batches, load
from minise.nn import SE
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.train import (
    SGD,
    SoftmaxCrossEntropy,
    TrainConfig,
    checkpoint,
    fit,
    loop,
    resume,
    run,
)
from minise.train.verify import digest

CONFIG = TrainConfig(
    data="shapes10",
    limit=96,
    val=32,
    model="se_resnet8",
    se=SE(reduction=4),
    epochs=2,
    batch_size=16,
    lr=0.05,
    cutout=4,
    log_every=1,
)
STEPS = 8  # two epochs of 64 images
compiled_only = pytest.mark.skipif(AS_LOOPS, reason="too slow for kernels that run as Python")


@pytest.fixture(autouse=True)
def _few_test_images(monkeypatch):
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 40)


def quiet():
    return Console(file=io.StringIO(), width=200)


class Killed(BaseException):
    """Ends a run at once, as kill -9 does: nothing is saved any more."""


def killed_after(monkeypatch, step):
    """Let a run end without a save after a number of steps, or in the validation or test then."""
    honest = {name: getattr(loop, name) for name in ("train_step", "evaluate")}
    taken = []

    def count(*arguments):
        taken.append(1)
        if len(taken) > step:
            raise Killed
        return honest["train_step"](*arguments)

    def killed_in_evaluation(*arguments):
        if len(taken) == step:
            raise Killed
        return honest["evaluate"](*arguments)

    monkeypatch.setattr(loop, "train_step", count)
    monkeypatch.setattr(loop, "evaluate", killed_in_evaluation)


def saved(folder, name="last"):
    content = checkpoint.load(folder / f"{name}.safetensors")
    return digest({**content.arrays, **{f"v/{k}": v for k, v in content.velocity.items()}})


def records(folder):
    """The lines of metrics.jsonl without times, and without those about resumes."""
    lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    times = {"seconds", "images_per_second", "training_seconds"}
    others = (line for line in lines if line["kind"] != "resume")
    return [{k: v for k, v in line.items() if k not in times} for line in others]


def assert_same_run(folder, other):
    for name in ("last", "best"):
        if (other / f"{name}.safetensors").exists():
            assert saved(folder, name) == saved(other, name), name
    assert records(folder) == records(other)


OPS = ["reference", pytest.param("jit", marks=[pytest.mark.slow, compiled_only])]


@pytest.mark.parametrize("ops", OPS)
def test_a_killed_run_goes_on_bit_for_bit(tmp_path, monkeypatch, ops):
    config = replace(CONFIG, out=tmp_path, ops=ops, save_every=0)
    unstopped = fit(replace(config, name="unstopped"), quiet())
    for step in (3, STEPS):
        with monkeypatch.context() as patch:
            killed_after(patch, step)
            with pytest.raises(Killed):
                fit(replace(config, name=f"killed-{step}"), quiet())
        folder = tmp_path / f"killed-{step}"
        assert checkpoint.load(folder / "last.safetensors").state["step"] == step
        result = resume(folder, console=quiet())
        assert_same_run(folder, unstopped.folder)
        assert result.test == unstopped.test
        np.testing.assert_array_equal(result.confusion, unstopped.confusion)


def test_a_run_loses_what_came_after_the_last_checkpoint(tmp_path, monkeypatch):
    """Lines of metrics.jsonl that came after the checkpoint are removed."""
    config = replace(CONFIG, out=tmp_path, save_every=1e6)
    unstopped = fit(replace(config, name="unstopped"), quiet())
    with monkeypatch.context() as patch:
        killed_after(patch, 7)
        with pytest.raises(Killed):
            fit(replace(config, name="killed"), quiet())
    folder = tmp_path / "killed"
    assert [line["step"] for line in records(folder) if line["kind"] == "step"] == [*range(1, 8)]
    assert checkpoint.load(folder / "last.safetensors").state["step"] == 4  # before validation
    resume(folder, console=quiet())
    assert_same_run(folder, unstopped.folder)


def own_run(tmp_path, name=None, sequence=False, **settings):
    """A run of an own net with dropout, on batches or on a list."""
    nn.seed(settings.pop("seed", 0))  # another seed of the masks must not matter after a resume
    net = nn.Chain(
        nn.Conv2d(3, 4, 3, rng=0), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3),
        nn.GlobalAvgPool2d(), nn.Linear(4, 10, rng=1),
    )  # fmt: skip
    data = load("shapes10", "train", n=48)
    moments = dict(mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))
    batches = Batches(data, 8, augment=Augment(cutout=8), **moments)
    fixed = list(Batches(data, 8, shuffle=False, **moments).epoch(0))
    return run(
        net,
        SoftmaxCrossEntropy(),
        fixed if sequence else batches,
        SGD(net, 0.9, nesterov=True),
        epochs=2,
        lr=settings.pop("lr", 0.1),
        val=fixed,
        test=fixed if settings.pop("test", False) else None,
        out=tmp_path,
        name=name,
        save_every=0,
        console=quiet(),
        **settings,
    )


@pytest.mark.parametrize("sequence", [False, True])
def test_a_run_of_an_own_net_goes_on(tmp_path, monkeypatch, sequence):
    unstopped = own_run(tmp_path, "unstopped", sequence)
    for step in (0, 8, 12):
        with monkeypatch.context() as patch:
            killed_after(patch, step)
            with pytest.raises(Killed):
                own_run(tmp_path, f"killed-{step}", sequence)
        folder = tmp_path / f"killed-{step}"
        own_run(tmp_path, None, sequence, resume=folder, seed=7)
        assert_same_run(folder, unstopped.folder)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that was killed after three steps."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("minise.train.setup.SHAPES10_TEST", 40)
        killed_after(patch, 3)
        out = tmp_path_factory.mktemp("runs")
        with pytest.raises(Killed):
            fit(replace(CONFIG, out=out, name="a", save_every=0), quiet())
    return out / "a"


@pytest.fixture
def folder(stopped, tmp_path):
    """A copy of the stopped run, which must be unchanged at the end."""
    copy = shutil.copytree(stopped, tmp_path / "a")
    yield copy
    names = {path.name for path in stopped.iterdir()}
    assert {path.name for path in copy.iterdir()} == names
    assert (copy / "metrics.jsonl").read_bytes() == (stopped / "metrics.jsonl").read_bytes()


def change(folder, **texts):
    """Replace parts of the last checkpoint."""
    path = folder / "last.safetensors"
    checkpoint.save(path, checkpoint.load(path)._replace(**texts))


def test_what_differs_is_named_and_needs_anyway(folder, stopped, tmp_path, monkeypatch):
    state = checkpoint.load(folder / "last.safetensors").state
    environment = {**state["environment"], "BLAS kernel": "Other", "training data": "0" * 64}
    change(folder, state={**state, "environment": environment})
    pattern = r"resume: training data: 0{64} when saved, .* now; BLAS kernel: Other .*use --anyway"
    with pytest.raises(ValueError, match=pattern):
        resume(folder, console=quiet())
    moved = shutil.copytree(folder, tmp_path / "anyway")
    console = quiet()
    resume(moved, anyway=True, console=console)
    assert "BLAS kernel: Other when saved" in console.file.getvalue()
    warnings = [json.loads(line) for line in (moved / "metrics.jsonl").read_text().splitlines()]
    (line,) = [line for line in warnings if line["kind"] == "resume"]
    assert len(line["warnings"]) == 2
    now = checkpoint.load(moved / "last.safetensors").state["environment"]
    assert now == state["environment"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(epochs=3), "resume: epochs cannot change in a run, expected some of data,"),
        (dict(ops="jit"), "back end: reference when saved, jit now"),
        (dict(data="gone"), "source is 'gone', expected one of"),
        (dict(threads=10**6), "threads is 1000000, expected at most"),
        (dict(save_every=-1), "save_every is -1, expected a number of seconds"),
    ],
)
def test_changes_that_are_refused(folder, changes, message):
    if changes == dict(ops="jit") and AS_LOOPS:
        pytest.skip("too slow for kernels that run as Python")
    with pytest.raises((ValueError, TypeError), match=message):
        resume(folder, console=quiet(), **changes)


def test_a_checkpoint_of_another_version(folder):
    state = checkpoint.load(folder / "last.safetensors").state
    for other, message in (
        ({}, "has no state of the run, because an older version"),
        ({**state, "phase": "of the moon"}, "has phase, which this version .* resume with the ver"),
        ({**state, "step": "3"}, "step is '3', expected an integer"),
    ):
        change(folder, state=other)
        with pytest.raises(ValueError, match=message):
            resume(folder, console=quiet())


def test_a_run_of_another_net(folder, tmp_path):
    own = own_run(tmp_path / "own", "b").folder
    with pytest.raises(ValueError, match=r"is a run of train.run, .*: call train.run"):
        resume(folder_of_custom(own), console=quiet())
    with pytest.raises(ValueError, match="is of a run of minise train, expected one of train.run"):
        own_run(tmp_path, None, resume=folder)
    with pytest.raises(ValueError, match="resume: lr was 0.1 and is 0.2: the result would not be"):
        own_run(tmp_path, None, resume=own, lr=0.2)
    with pytest.raises(FileNotFoundError, match="nowhere does not exist, expected the folder of a"):
        resume(tmp_path / "nowhere", console=quiet())
    with pytest.raises(FileNotFoundError, match="has no config.json"):
        resume(tmp_path, console=quiet())


def folder_of_custom(own):
    """Make a finished run unfinished."""
    log = own / "metrics.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    return own


def test_a_finished_run_returns_its_result(tmp_path):
    first = own_run(tmp_path, "a", test=True)
    before = {path.name: path.read_bytes() for path in first.folder.iterdir()}
    again = resume(first.folder, console=quiet())
    assert again[0] == first[0]
    assert again[2:] == first[2:]
    assert again.confusion is None
    assert {path.name: path.read_bytes() for path in first.folder.iterdir()} == before


def test_a_damaged_last_checkpoint(folder, stopped, tmp_path):
    """The previous one is used; it stays until the next is written."""
    damaged = shutil.copytree(folder, tmp_path / "damaged")
    path = damaged / "last.safetensors"
    content = bytearray(path.read_bytes())
    content[-100] ^= 1
    path.write_bytes(content)
    console = quiet()
    result = resume(damaged, console=console)
    pattern = r"damaged/last.safetensors is altered: optimiser/velocity/\S+ fails its checksum"
    assert re.search(pattern, console.file.getvalue())
    unstopped = fit(replace(CONFIG, out=tmp_path, name="unstopped", save_every=0), quiet())
    assert_same_run(damaged, unstopped.folder)
    assert result.test == unstopped.test


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"x")])
def test_the_best_net_is_lost_after_the_last_epoch(tmp_path, damage):
    """Nothing is left to be tested; no earlier epoch comes again."""
    own = own_run(tmp_path, "a", test=True).folder
    damage(own / "best.safetensors")
    folder_of_custom(own)
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    message = r"resume: .*best.safetensors (does not exist|is truncated).*no epoch follows"
    with pytest.raises(ValueError, match=message):
        own_run(tmp_path, None, resume=own, test=True)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


def test_arrays_that_the_optimiser_makes_later(tmp_path, monkeypatch):
    own = own_run(tmp_path / "own", "a").folder
    monkeypatch.setattr(SGD, "state", lambda self: {})
    with pytest.raises(ValueError, match=r"does not fit the optimiser: .* not in the first step"):
        own_run(tmp_path, None, resume=own)


@pytest.mark.parametrize("settings", [dict(accumulate=2), dict(accumulate=2, anyway=True)])
def test_another_number_of_steps_is_refused_always(tmp_path, settings):
    """The state counts finished epochs by their steps."""
    own = own_run(tmp_path, "a").folder
    before = {path.name: path.read_bytes() for path in own.iterdir()}
    with pytest.raises(
        ValueError, match="where an epoch has 6 steps, but an epoch has 3 steps now"
    ):
        own_run(tmp_path, None, resume=own, **settings)
    assert {path.name: path.read_bytes() for path in own.iterdir()} == before


class WithTuple(SGD):
    betas = (0.9, 0.99)

    def __init__(self, *settings, **named):
        super().__init__(*settings, **named)
        self.betas = type(self).betas


def test_settings_of_objective_and_optimiser_are_compared(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.SGD", WithTuple)
    own = own_run(tmp_path, "a").folder
    for settings, message in (
        (
            dict(evaluation=SoftmaxCrossEntropy(label_smoothing=0.1)),
            "evaluation was 'Softmax.* and",
        ),
        (
            dict(data=dict(note="b")),
            r"data was \{\} and is \{'note': 'b'\}: the result would not be",
        ),
    ):
        with pytest.raises(ValueError, match=f"resume: {message}"):
            own_run(tmp_path, None, resume=own, **settings)
    with monkeypatch.context() as patch:
        patch.setattr(WithTuple, "betas", (0.5, 0.99))
        with pytest.raises(ValueError, match=r"optimiser was .*betas=\(0.9, 0.99\)"):
            own_run(tmp_path, None, resume=own)
    smoothed = partial(SoftmaxCrossEntropy, label_smoothing=0.1)
    monkeypatch.setattr(f"{__name__}.SoftmaxCrossEntropy", smoothed)
    with pytest.raises(ValueError, match=r"resume: objective was .*label_smoothing=0\.0"):
        own_run(tmp_path, None, resume=own)

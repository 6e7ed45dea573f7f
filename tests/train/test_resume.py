"""Runs that were stopped at any step go on bit for bit; what differs is refused."""

import io
import json
import shutil
from dataclasses import replace

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
    kept = (line for line in lines if line["kind"] != "resume")
    return [{k: v for k, v in line.items() if k not in times} for line in kept]


def assert_same_run(folder, other):
    for name in ("last", "best"):
        if (other / f"{name}.safetensors").exists():
            assert saved(folder, name) == saved(other, name), name
    assert records(folder) == records(other)


OPS = ["reference", pytest.param("jit", marks=[pytest.mark.slow, compiled_only])]


@pytest.mark.parametrize("ops", OPS)
def test_a_run_killed_at_any_step_goes_on_bit_for_bit(tmp_path, monkeypatch, ops):
    config = replace(CONFIG, out=tmp_path, ops=ops, save_every=0)
    whole = fit(replace(config, name="whole"), quiet())
    for step in range(STEPS + 1):
        with monkeypatch.context() as patch:
            killed_after(patch, step)
            with pytest.raises(Killed):
                fit(replace(config, name=f"killed-{step}"), quiet())
        folder = tmp_path / f"killed-{step}"
        assert checkpoint.load(folder / "last.safetensors").state["step"] == step
        result = resume(folder, console=quiet())
        assert_same_run(folder, whole.folder)
        assert result.test == whole.test
        np.testing.assert_array_equal(result.confusion, whole.confusion)


def test_a_run_loses_what_came_after_the_last_checkpoint(tmp_path, monkeypatch):
    """Lines of metrics.jsonl that came after the checkpoint are removed."""
    config = replace(CONFIG, out=tmp_path, save_every=1e6)
    whole = fit(replace(config, name="whole"), quiet())
    with monkeypatch.context() as patch:
        killed_after(patch, 7)
        with pytest.raises(Killed):
            fit(replace(config, name="killed"), quiet())
    folder = tmp_path / "killed"
    assert [line["step"] for line in records(folder) if line["kind"] == "step"] == [*range(1, 8)]
    assert checkpoint.load(folder / "last.safetensors").state["step"] == 4  # before validation
    resume(folder, console=quiet())
    assert_same_run(folder, whole.folder)


@pytest.mark.parametrize(
    "settings",
    [
        dict(accumulate=2, val=0),
        dict(nesterov=False, momentum=0.5, label_smoothing=0.1, schedule="steps", warmup=0.5),
        dict(momentum=0, weight_decay=0, decay_all=True, crop=0, flip=False),
    ],
)
def test_settings_of_a_run_survive(tmp_path, monkeypatch, settings):
    config = replace(CONFIG, out=tmp_path, save_every=0, **settings)
    whole = fit(replace(config, name="whole"), quiet())
    for step in (0, 1, 2, 3):
        with monkeypatch.context() as patch:
            killed_after(patch, step)
            with pytest.raises(Killed):
                fit(replace(config, name=f"killed-{step}"), quiet())
        resume(tmp_path / f"killed-{step}", console=quiet())
        assert_same_run(tmp_path / f"killed-{step}", whole.folder)


def test_a_run_resumed_many_times(tmp_path, monkeypatch):
    config = replace(CONFIG, out=tmp_path, save_every=0)
    whole = fit(replace(config, name="whole"), quiet())
    with monkeypatch.context() as patch:
        killed_after(patch, 1)
        with pytest.raises(Killed):
            fit(replace(config, name="killed"), quiet())
    for _ in range(STEPS - 1):
        with monkeypatch.context() as patch:
            killed_after(patch, 1)
            with pytest.raises(Killed):
                resume(tmp_path / "killed", console=quiet())
    shutil.move(tmp_path / "killed", tmp_path / "moved")
    resume(tmp_path / "moved", console=quiet())
    assert_same_run(tmp_path / "moved", whole.folder)


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
        lr=0.1,
        val=fixed,
        out=tmp_path,
        name=name,
        save_every=0,
        console=quiet(),
        **settings,
    )


@pytest.mark.parametrize("sequence", [False, True])
def test_a_run_of_an_own_net_goes_on(tmp_path, monkeypatch, sequence):
    whole = own_run(tmp_path, "whole", sequence)
    for step in (0, 3, 6, 9, 12):
        with monkeypatch.context() as patch:
            killed_after(patch, step)
            with pytest.raises(Killed):
                own_run(tmp_path, f"killed-{step}", sequence)
        folder = tmp_path / f"killed-{step}"
        own_run(tmp_path, None, sequence, resume=folder, seed=7)
        assert_same_run(folder, whole.folder)

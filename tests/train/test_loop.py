"""The training loop on a few images: run folder, reproducibility, best epoch, and messages."""

import io
import json
import os
import signal
import time
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from minise.data import Batches, load, moments
from minise.files import RUN_FILES
from minise.nn import SE
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.ops.wrap import NonFiniteError
from minise.signals import SIGNALS
from minise.train import (
    Confusion,
    Interrupted,
    NonFiniteLoss,
    SoftmaxCrossEntropy,
    TrainConfig,
    checkpoint,
    evaluate,
    fit,
    loop,
    prepare,
    train,
    train_step,
)
from minise.train.setup import for_evaluation

TINY = TrainConfig(
    data="shapes10",
    limit=96,
    val=32,
    model="se_resnet8",
    se=SE(reduction=4),
    epochs=2,
    batch_size=16,
    lr=0.05,
    log_every=3,
)
compiled_only = pytest.mark.skipif(AS_LOOPS, reason="too slow for kernels that run as Python")


@pytest.fixture(autouse=True)
def _few_test_images(monkeypatch):
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 40)


def quiet():
    return Console(file=io.StringIO(), width=200)


def lines(folder, kind):
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [record for record in records if record["kind"] == kind]


def test_the_files_of_a_run(tmp_path):
    console = quiet()
    result = fit(replace(TINY, out=tmp_path), console)
    assert result.folder == tmp_path / "se_resnet8-shapes10-1"
    names = {path.name for path in result.folder.iterdir()}
    assert names == {"config.json", "metrics.jsonl", *RUN_FILES}
    content = json.loads((result.folder / "config.json").read_text())
    assert content["config"]["se"]["reduction"] == 4
    assert content["versions"]["numpy"] == np.__version__
    epochs = lines(result.folder, "epoch")
    assert [record["epoch"] for record in epochs] == [1, 2]
    assert [record["step"] for record in lines(result.folder, "step")] == [3, 6]  # of 2 * 4
    assert len(lines(result.folder, "test")) == 1  # the test set is read once
    assert lines(result.folder, "test")[0]["accuracy"] == result.test["accuracy"]
    assert result.confusion.sum() == 40
    assert "epoch 2/2" in console.file.getvalue()
    assert fit(replace(TINY, out=tmp_path, epochs=1), quiet()).folder.name.endswith("-2")


def test_the_same_seed_gives_the_same_bits(tmp_path):
    runs = [fit(replace(TINY, out=tmp_path), quiet()).folder for _ in range(2)]
    arrays = [checkpoint.load(folder / "last.safetensors").arrays for folder in runs]
    for name, array in arrays[0].items():
        np.testing.assert_array_equal(array, arrays[1][name])
    losses = [[record["loss"] for record in lines(folder, "epoch")] for folder in runs]
    assert losses[0] == losses[1]
    other = fit(replace(TINY, out=tmp_path, seed=1), quiet()).folder
    assert lines(other, "epoch")[0]["loss"] != losses[0][0]


def test_the_best_epoch_by_validation_is_tested(tmp_path, monkeypatch):
    accuracies = iter([0.5, 0.75, 0.75, 0.25])
    honest, tested = loop.evaluate, []

    def scripted(net, batches, objective, observe=None):
        result = honest(net, batches, objective, observe)
        if len(batches.dataset) == 40:
            tested.append(net.named_parameters()["fc.weight"].copy())
            return result
        return {**result, "accuracy": next(accuracies)}

    monkeypatch.setattr(loop, "evaluate", scripted)
    folder = fit(replace(TINY, out=tmp_path, epochs=4), quiet()).folder
    best = checkpoint.load(folder / "best.safetensors")
    assert best.progress["epoch"] == 2  # the first of equals
    assert checkpoint.load(folder / "last.safetensors").progress["epoch"] == 4
    np.testing.assert_array_equal(tested, [best.arrays["fc.weight"]])


def test_without_validation_the_last_epoch_is_tested(tmp_path):
    result = fit(replace(TINY, out=tmp_path, val=0), quiet())
    assert not (result.folder / "best.safetensors").exists()
    assert "val_accuracy" not in lines(result.folder, "epoch")[0]
    (tested,) = lines(result.folder, "test")
    assert {name: tested[name] for name in ("accuracy", "loss")} == result.test


def test_training_seconds_are_the_sum_over_epochs(tmp_path, monkeypatch):
    """Data is included, and validation is not."""
    honest_batch, honest_evaluate = Batches._prepare, loop.evaluate

    def slow_batch(*arguments):
        time.sleep(0.02)
        return honest_batch(*arguments)

    def slow_evaluate(*arguments):
        time.sleep(0.3)
        return honest_evaluate(*arguments)

    monkeypatch.setattr(Batches, "_prepare", slow_batch)
    monkeypatch.setattr(loop, "evaluate", slow_evaluate)
    result = fit(replace(TINY, out=tmp_path, log_every=1), quiet())
    (tested,) = lines(result.folder, "test")
    assert tested["training_seconds"] == result.training_seconds
    assert tested["seconds"] == result.seconds
    epochs = [record["seconds"] for record in lines(result.folder, "epoch")]
    assert result.training_seconds == pytest.approx(sum(epochs))
    assert result.training_seconds >= 2 * 4 * 0.02
    assert result.seconds >= result.training_seconds + 3 * 0.3  # two validations and the test
    assert result.images_per_second == pytest.approx(2 * 64 / result.training_seconds)


def test_the_last_images_are_held_out(tmp_path):
    training = prepare(replace(TINY, out=tmp_path))
    dataset = load("shapes10", "train", n=96)
    np.testing.assert_array_equal(training.train.dataset.images, dataset.images[:64])
    np.testing.assert_array_equal(training.val.dataset.images, dataset.images[64:])
    assert training.data["mean"] == moments(dataset.take(slice(64)))[0]  # training images only


def test_mean_and_deviation_can_be_given(tmp_path):
    """Only one or both; a pixel of 51 is 0.2, two standard deviations of 0.1 above a mean of 0."""
    measured = moments(load("shapes10", "train", n=96).take(slice(64)))
    with_std = replace(TINY, out=tmp_path, std=(0.1, 0.1, 0.1))
    only_std = prepare(with_std)
    assert (only_std.data["mean"], only_std.data["std"]) == (measured[0], (0.1, 0.1, 0.1))
    both = prepare(replace(with_std, mean=(0.0, 0.0, 0.0)))
    for batches in (both.train, both.val, both.test):
        pixels = batches._normalised(np.full((1, 3, 2, 2), 51, np.uint8))
        np.testing.assert_allclose(pixels, 2, rtol=1e-6)


def test_evaluate_by_hand():
    dataset = load("shapes10", "test", n=5)

    class Always:
        """A net that predicts class 2 for every image, with probability 1/2."""

        from minise.ops import reference as ops

        def inference(self):
            return lambda x: np.log(np.tile([1.0, 1.0, 10.0] + [8 / 7] * 7, (len(x), 1)))

    batches = Batches(dataset, 2, shuffle=False, mean=(0, 0, 0), std=(1, 1, 1))
    confusion = Confusion(10)
    result = evaluate(Always(), batches, SoftmaxCrossEntropy(), confusion)
    twos = int((dataset.labels == 2).sum())
    assert result["accuracy"] == twos / 5
    # probability 10 / (1 + 1 + 10 + 7 * 8/7) = 1/2 for class 2, 1/20 for 0 and 1, 2/35 elsewhere
    shares = np.where(np.arange(10) == 2, 1 / 2, np.where(np.arange(10) < 2, 1 / 20, 2 / 35))
    assert result["loss"] == pytest.approx(-np.log(shares[dataset.labels]).mean())
    expected = np.bincount(dataset.labels, minlength=10)
    np.testing.assert_array_equal(confusion.counts[:, 2], expected)
    assert confusion.counts.sum() == 5


def test_a_saved_net_evaluates_as_the_run_did(tmp_path):
    training = prepare(replace(TINY, out=tmp_path))
    result = train(training, quiet())
    saved = checkpoint.load(result.folder / "best.safetensors")
    assert tuple(saved.data["mean"]) == training.data["mean"]
    fresh = prepare(replace(TINY, out=tmp_path, seed=3)).net
    checkpoint.restore(fresh, saved.arrays)
    batches, confusion = for_evaluation(load("shapes10", "test", n=40), saved.data), Confusion(10)
    assert evaluate(fresh, batches, training.evaluation, confusion) == result.test
    np.testing.assert_array_equal(confusion.counts, result.confusion)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_run_with_a_checkpoint(tmp_path, monkeypatch, number):
    honest, steps = loop.train_step, []

    def signalled(*arguments):
        steps.append(1)
        if len(steps) == 3:
            os.kill(os.getpid(), number)
        return honest(*arguments)

    monkeypatch.setattr(loop, "train_step", signalled)
    before = signal.getsignal(number)
    message = (
        r"after step 3 of 8, saved in .*last.safetensors; to continue: minise resume .*shapes10-1$"
    )
    with pytest.raises(Interrupted, match=message) as caught:
        fit(replace(TINY, out=tmp_path), quiet())
    assert caught.value.exit_status == 128 + number
    assert signal.getsignal(number) is before
    saved = checkpoint.load(tmp_path / "se_resnet8-shapes10-1" / "last.safetensors")
    assert saved.progress == {"epoch": 0, "step": 3}
    assert any(array.any() for array in saved.velocity.values())


def test_a_loss_that_diverges_stops_with_the_step_and_a_hint(tmp_path):
    message = (
        r"the loss is (nan|inf) at step \d+ \(epoch 1, .*lower the highest learning rate \(1e\+06\)"
    )
    with pytest.raises(NonFiniteLoss, match=message):
        fit(replace(TINY, out=tmp_path, lr=1e6, warmup=0), quiet())


def test_the_guard_names_the_layer(tmp_path, monkeypatch):
    def planted(net, *arguments):
        net.named_parameters()["layer2.0.conv1.weight"][0, 0, 0, 0] = np.inf
        return train_step(net, *arguments)

    monkeypatch.setattr(loop, "train_step", planted)
    training = prepare(replace(TINY, out=tmp_path, guard=True))
    with pytest.raises(NonFiniteError, match=r"layer layer2.0.conv1, conv2d_forward: .* weight"):
        train(training, quiet())


@pytest.mark.parametrize(
    "ops",
    ["reference", pytest.param("jit", marks=[pytest.mark.slow, compiled_only])],
)
def test_a_guarded_run_is_bit_identical(tmp_path, ops):
    """Training, validation and test."""
    config = replace(TINY, out=tmp_path, ops=ops, epochs=1)
    plain, guarded = (fit(replace(config, guard=guard), quiet()) for guard in (False, True))
    assert guarded.test == plain.test
    np.testing.assert_array_equal(guarded.confusion, plain.confusion)
    arrays = checkpoint.load(guarded.folder / "last.safetensors").arrays
    for name, array in checkpoint.load(plain.folder / "last.safetensors").arrays.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        (dict(ops="tensorflow"), "ops 'tensorflow' is unknown, expected one of reference"),
        (dict(model="se_resnet21"), "model 'se_resnet21' is unknown: did you mean"),
        (dict(model="resnet8"), "model resnet8 has no SE blocks, but reduction is set: use se_res"),
        (dict(model="se_wrn_16_8", shortcut="A"), "has no setting shortcut"),
        (dict(data="cifar11"), "source is 'cifar11', expected one of .*did you mean cifar10"),
        (dict(val=96), "96"),
    ],
)
def test_mistakes_are_found_before_anything_is_written(tmp_path, setting, message):
    with pytest.raises((ValueError, TypeError), match=message):
        prepare(replace(TINY, out=tmp_path, **setting))
    assert list(tmp_path.iterdir()) == []


def test_run_folders_are_not_written_over(tmp_path):
    prepare(replace(TINY, out=tmp_path, name="mine"))
    with pytest.raises(FileExistsError, match="mine exists already: choose another name"):
        prepare(replace(TINY, out=tmp_path, name="mine"))
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"cannot be written \(.*choose another folder by out"):
        prepare(replace(TINY, out=tmp_path / "file"))


def test_bars_in_a_terminal(tmp_path):
    screen = Console(file=io.StringIO(), force_terminal=True, width=120)
    fit(replace(TINY, out=tmp_path), screen)
    shown = screen.file.getvalue()
    for word in ("run", "epoch 2/2", "ETA", "images/s", "loss"):
        assert word in shown

"""NaN and infinity in a run: none is saved, and the error names its layer and array.

test_fifty_planted_values covers 200 values: two back ends, with and without guard.
"""

import json
import os
import re
import signal
import time

import numpy as np
import pytest

from minise import models, nn
from minise.ops import jit, reference, wrap
from minise.ops.jit.vector.simd import AS_LOOPS
from minise.train import (
    SGD,
    NonFiniteLoss,
    NonFiniteState,
    SoftmaxCrossEntropy,
    check_state,
    checkpoint,
    loop,
    run,
)
from minise.train.run_folder import RunFolder, as_strict_json
from tests.train import planting
from tests.train.planting import assert_finite_files, faults, outcome, replayed
from tests.train.regression import SquaredError, net, pairs, quiet

compiled_only = pytest.mark.skipif(AS_LOOPS, reason="too slow for kernels that run as Python")
over_guards = pytest.mark.parametrize("guard", [False, True], ids=["plain", "guarded"])


def check_planted(fault, ops, folder):
    error, layer = outcome(fault, ops, folder)
    assert error is not None, fault
    assert_finite_files(folder / "planted")
    if fault.guard:
        assert isinstance(error, wrap.NonFiniteError), fault
        # a fused op at the end of a residual unit has the name of only one of its layers
        unit = layer.rpartition(".")[0]
        assert error.layer == layer or (unit and error.layer == f"{unit}.se"), fault
        assert fault.kind == "gradient" or f"layer {layer}, " in str(error), fault
    else:
        assert isinstance(error, (NonFiniteLoss, NonFiniteState)), fault
        array = r"layer \S+, (parameter|running statistic|velocity of parameter) \S+: "
        assert fault.kind == "image" or re.search(array, str(error)), fault
    last, dumped = (folder / "planted" / f"{name}.safetensors" for name in ("last", "guard"))
    saved = planting.STEPS * (fault.step // planting.STEPS)  # at the end of the epoch before
    end = f"{last} has the state after step {saved}"
    if fault.guard:
        size = f"{dumped.stat().st_size / 1e6:.1f} MB"
        end += f"; {dumped} has the inputs and parameters ({size})"
        end += f": train.replay({str(dumped)!r}, net, objective)"
        again = replayed(fault, ops, folder)
        assert again.same, fault
        assert again.nonfinite == error.nonfinite, fault
    assert str(error).endswith(end), fault
    assert "\n" not in str(error)


def over_back_ends(*marks):
    """Parametrise over back ends; jit has further marks."""
    jit_marks = [compiled_only, *marks]
    return pytest.mark.parametrize(
        "ops",
        [pytest.param(reference, id="reference"), pytest.param(jit, id="jit", marks=jit_marks)],
    )


def test_a_guard_names_each_layer_of_a_fused_op(tmp_path):
    net = models.build("se_resnet8", reduction=4)
    wrap.attach(net, wrap.guarded(reference))

    class Planted:
        def __len__(self):
            return 1

        def epoch(self, epoch):
            net.named_state()["layer2.0.bn2.running_var"][1] = np.nan
            return planting.batches(1, seed=0)

    message = (
        r"^layer layer2.0.se, se_block_tail_forward: its input running_var .*; layer layer2.0.bn2, "
        r"running statistic running_var: 1 of 32 .* after step 0; .*guard.safetensors "
    )
    arguments = SoftmaxCrossEntropy(), Planted(), SGD(net)
    with pytest.raises(wrap.NonFiniteError, match=message):
        run(net, *arguments, epochs=1, out=tmp_path, console=quiet())


@over_guards
@over_back_ends(pytest.mark.slow)
def test_planted_values_end_the_run_and_are_never_saved(ops, guard, tmp_path):
    for k, fault in enumerate(faults(0, 5, guard)):
        check_planted(fault, ops, tmp_path / str(k))


@pytest.mark.long
@over_guards
@over_back_ends()
def test_fifty_planted_values(ops, guard, tmp_path):
    for k, fault in enumerate(faults(1, 50, guard)):
        check_planted(fault, ops, tmp_path / str(k))


# The check


def state_of(layer, kind):
    return layer.params if kind == "parameter" else layer.state


@pytest.mark.parametrize(
    ("path", "kind", "name"),
    [
        ("conv", "parameter", "weight"),
        ("norm", "running statistic", "running_var"),
        ("norm", "running statistic", "running_mean"),
        ("fc", "parameter", "bias"),
    ],
)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_it_names_the_layer_and_the_array(path, kind, name, value):
    layer = net()
    check_state(layer)
    array = state_of(layer[path], kind)[name]
    array.flat[-1] = value
    first = tuple(size - 1 for size in array.shape)
    message = (
        f"layer {path}, {kind} {name}: 1 of {array.size} numbers are not finite, the first is "
        f"{value} at {first}: stop"
    )
    with pytest.raises(NonFiniteState) as caught:
        check_state(layer, hint=": stop")
    assert str(caught.value) == message
    error = caught.value
    assert (error.layer, error.kind, error.array) == (path, kind, name)


def test_it_names_a_velocity_by_its_parameter():
    layer = net()
    optimiser = SGD(layer)
    optimiser.velocity["conv.weight"].flat[0] = np.inf
    check_state(layer)
    with pytest.raises(NonFiniteState, match="^layer conv, velocity of parameter weight: 1 of 36"):
        check_state(layer, optimiser.velocity)


@pytest.mark.parametrize(
    ("name", "layer", "kind", "array"),
    [
        ("velocity/conv.weight", "conv", "velocity of parameter", "weight"),
        ("ema/norm.bias", "norm", "ema of parameter", "bias"),
        ("scale", "", "optimiser's array", "scale"),
        ("ema/gone.weight", "", "optimiser's array", "ema/gone.weight"),
    ],
)
def test_it_names_the_arrays_of_any_optimiser(name, layer, kind, array):
    state = {**SGD(net()).state(), "steps": np.array(3), name: np.array([1, np.nan])}
    with pytest.raises(NonFiniteState) as caught:
        check_state(net(), state)
    assert (caught.value.layer, caught.value.kind, caught.value.array) == (layer, kind, array)
    assert str(caught.value).startswith(f"layer {layer or '(none)'}, {kind} {array}: 1 of 2 numb")


def test_a_layer_alone_and_counters_of_integers():
    layer = nn.Chain(nn.Linear(2, 2), nn.Dropout(0.5))
    check_state(layer)
    alone = nn.Linear(2, 2)
    alone.params["bias"][1] = np.nan
    with pytest.raises(NonFiniteState, match=r"^layer \(none\), parameter bias: 1 of 2 .* \(1,\)$"):
        check_state(alone)


# A run


def spoiled(monkeypatch, step, spoil):
    """Call spoil(net, optimiser) after a step, counted from 1."""
    honest, steps = loop.train_step, []

    def train_step(net, objective, optimiser, *arguments):
        means = honest(net, objective, optimiser, *arguments)
        steps.append(1)
        if len(steps) == step:
            spoil(net, optimiser)
        return means

    monkeypatch.setattr(loop, "train_step", train_step)


def trained(tmp_path, **settings):
    """Train two epochs of three steps."""
    layer, batches = net(), settings.pop("batches", pairs())
    defaults = dict(epochs=2, lr=0.05, out=tmp_path, name="a", console=quiet())
    return run(layer, SquaredError(), batches, SGD(layer), **{**defaults, **settings})


def parameter(layer, optimiser):
    layer["fc"].params["bias"][0] = np.nan


def variance(layer, optimiser):
    layer["norm"].state["running_var"][1] = np.inf


def velocity(layer, optimiser):
    optimiser.velocity["norm.bias"][2] = np.nan


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (parameter, "layer fc, parameter bias"),
        (variance, "layer norm, running statistic running_var"),
        (velocity, "layer norm, velocity of parameter bias"),
    ],
)
@pytest.mark.parametrize("val", [None, pairs(1, 1)], ids=["no validation", "validation"])
def test_the_last_step_of_the_run_is_checked(tmp_path, monkeypatch, spoil, message, val):
    """Also if only the optimiser's velocity is NaN, which no loss reveals."""
    spoiled(monkeypatch, 6, spoil)
    hint = r"after step 6 of 6: lower the highest learning rate \(0.05\) .*`minise train --guard`"
    with pytest.raises(
        NonFiniteState, match=f"^{message}: .*{hint}.*last.safetensors has the state after step 3$"
    ):
        trained(tmp_path, val=val)
    assert_finite_files(tmp_path / "a")
    assert checkpoint.load(tmp_path / "a" / "last.safetensors").progress["step"] == 3


def test_a_run_of_one_epoch_keeps_its_first_checkpoint(tmp_path, monkeypatch):
    spoiled(monkeypatch, 3, parameter)
    with pytest.raises(NonFiniteState, match="last.safetensors has the state after step 0$"):
        trained(tmp_path, epochs=1)
    assert {path.name for path in (tmp_path / "a").iterdir()} == {
        "config.json",
        "metrics.jsonl",
        "last.safetensors",
    }


def test_a_net_that_is_not_finite_is_not_trained(tmp_path):
    layer, optimiser = net(), None
    layer.named_parameters()["fc.bias"][0] = np.inf
    optimiser = SGD(layer)
    with pytest.raises(NonFiniteState, match="layer fc, .* before the first step: build the net "):
        run(layer, SquaredError(), pairs(), optimiser, epochs=1, out=tmp_path, console=quiet())


def test_an_interrupted_step_is_checked(tmp_path, monkeypatch):
    """Ctrl-C in a step after which the state is NaN leaves the last good checkpoint."""

    def spoil(layer, optimiser):
        velocity(layer, optimiser)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    spoiled(monkeypatch, 5, spoil)
    with pytest.raises(NonFiniteState, match=r"velocity .* after step 5 of 6: .* after step 3$"):
        trained(tmp_path)
    assert_finite_files(tmp_path / "a")


def test_the_error_of_a_nan_loss_names_the_nan_array(tmp_path, monkeypatch):
    spoiled(monkeypatch, 4, parameter)
    message = r"the loss is nan at step 5 \(epoch 2, .*\); layer fc, parameter bias: 1 of 2 numbers"
    with pytest.raises(NonFiniteLoss, match=f"^{message}.*after step 3$"):
        trained(tmp_path)


def test_the_error_of_a_nan_loss_reports_a_finite_net(tmp_path):
    batches = pairs()
    batches[1][0][0, 0, 0, 0] = np.nan
    message = (
        r"the loss is nan at step 2 \(epoch 1, .*\); every parameter, running statistic and vel"
    )
    with pytest.raises(NonFiniteLoss, match=f"^{message}.* so the inputs are not, or activations"):
        trained(tmp_path, batches=batches)


class Overflowing(SquaredError):
    """The loss of the calls with these numbers is NaN, although the net is finite."""

    def __init__(self, calls):
        self.calls, self.count = calls, 0

    def forward(self, out, targets):
        self.count += 1
        loss, cache = super().forward(out, targets)
        return (loss * np.nan if self.count in self.calls else loss), cache


def test_a_validation_loss_of_nan_is_never_best(tmp_path):
    """The loss is reported and written as null, and training continues."""
    console = quiet()
    for name, calls, best in (("first", {1}, 6), ("last", {2}, 3)):
        evaluation = Overflowing(calls)
        trained(tmp_path, name=name, val=pairs(1, 1), evaluation=evaluation, console=console)
        folder = tmp_path / name
        assert_finite_files(folder)
        assert checkpoint.load(folder / "best.safetensors").progress["step"] == best
        records = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        losses = [record["val_loss"] for record in records if record["kind"] == "epoch"]
        assert [loss is None for loss in losses] == [1 in calls, 2 in calls]
        assert "the validation loss is nan, although every parameter" in console.file.getvalue()


def test_without_any_finite_validation_loss_the_run_fails(tmp_path):
    message = (
        "there is no best epoch: the validation loss is nan, although every parameter .* is "
        "finite: the validation inputs or targets are not, or activations"
    )
    with pytest.raises(NonFiniteLoss, match=f"^{message} overflow in evaluation"):
        trained(tmp_path, val=pairs(1, 1), evaluation=Overflowing({1, 2}), test=pairs(1, 2))
    assert not (tmp_path / "a" / "best.safetensors").exists()
    assert checkpoint.load(tmp_path / "a" / "last.safetensors").progress["val_loss"] is None


class WithoutAccuracy(SquaredError):
    """The accuracy is NaN, like a mean over no inputs."""

    def metrics(self, out, targets):
        return {"accuracy": np.nan}


def test_an_accuracy_of_nan_is_never_best(tmp_path):
    with pytest.raises(NonFiniteLoss, match="there is no best epoch: the validation accuracy is"):
        trained(tmp_path, val=pairs(1, 1), evaluation=WithoutAccuracy())
    with pytest.raises(NonFiniteLoss, match="^the test accuracy is nan"):
        trained(tmp_path, test=pairs(1, 1), evaluation=WithoutAccuracy(), name="b")


def test_a_test_loss_of_nan_fails_the_run(tmp_path):
    with pytest.raises(NonFiniteLoss, match="^the test loss is nan, although .* after step 6$"):
        trained(tmp_path, evaluation=Overflowing({1}), test=pairs(1, 2))
    last = (tmp_path / "a" / "metrics.jsonl").read_text().splitlines()[-1]
    assert '"loss": null' in last
    assert_finite_files(tmp_path / "a")


# Strict JSON


def test_numbers_that_are_not_finite_are_null_with_their_text(tmp_path):
    record = dict(epoch=1, loss=0.5, val_loss=np.nan, a=np.inf, b=np.float64(-np.inf), text="nan")
    expected = dict(
        epoch=1,
        loss=0.5,
        val_loss=None,
        a=None,
        b=None,
        text="nan",
        not_finite=dict(val_loss="nan", a="inf", b="-inf"),
    )
    assert as_strict_json(record) == expected
    RunFolder(tmp_path).log("epoch", **record)
    line = (tmp_path / "metrics.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"kind": "epoch", **expected}
    assert as_strict_json(dict(loss=0.5)) == dict(loss=0.5)


def test_data_of_a_run_is_strict_json(tmp_path):
    with pytest.raises(TypeError, match="^run: data is not JSON .*JSON compliant"):
        trained(tmp_path, data=dict(mean=[np.nan]))
    assert list(tmp_path.iterdir()) == []

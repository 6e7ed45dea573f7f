"""Run a small training in which one array becomes NaN or infinite at one step."""

import json
from typing import NamedTuple

import numpy as np

from minise import models
from minise.ops import wrap
from minise.train import SGD, SoftmaxCrossEntropy, checkpoint, dump, replay, run
from tests.train.regression import quiet

EPOCHS, STEPS, BATCH = 2, 3, 4
CALLS = 20  # backward calls of which one is planted; se_resnet8 has more
KINDS = ("image", "parameter", "statistic", "velocity", "gradient")


class Fault(NamedTuple):
    """A value to plant, with its array and its step."""

    kind: str
    index: int  # of the array, or of the backward call within a step
    step: int  # counted from 0: the value is planted before this step, or in its gradients
    value: float
    guard: bool
    validation: bool


def faults(seed, count, guard):
    """Return random faults of all kinds."""
    rng = np.random.default_rng(seed)
    return [
        Fault(
            KINDS[k % len(KINDS)],
            int(rng.integers(1000)),
            int(rng.integers(EPOCHS * STEPS)),
            float(rng.choice([np.nan, np.inf, -np.inf])),
            guard,
            bool(rng.integers(2)),
        )
        for k in range(count)
    ]


class GradientPlanter(wrap.Wrapper):
    """Overwrites the gradients of one call of a backward function, once it is armed."""

    def __init__(self, ops, value):
        super().__init__(ops)
        self.value, self.calls_left, self.layer_of_call = value, -1, None

    def _backward(self, layer, op, function, dout, cache, **settings):
        gradients = list(function(dout, cache, **settings))
        if self.calls_left == 0:
            self.layer_of_call = layer
            gradients = [None if g is None else np.full_like(g, self.value) for g in gradients]
        self.calls_left -= 1
        return tuple(gradients)

    def observe(self, call):
        pass


class PlantedBatches:
    """Random batches; before one of them, a value is planted into the net or its images."""

    def __init__(self, fault, net, optimiser, planter):
        self.fault, self.net, self.optimiser, self.planter = fault, net, optimiser, planter
        self.layer = "conv1"  # the layer in which the value appears first

    def __len__(self):
        return STEPS

    def epoch(self, epoch):
        for k, (x, labels) in enumerate(batches(STEPS, seed=epoch)):
            yield self.planted(x) if epoch * STEPS + k == self.fault.step else x, labels

    def planted(self, x):
        kind, index, value = self.fault.kind, self.fault.index, self.fault.value
        if kind == "image":
            x = x.copy()
            x.flat[index % x.size] = value
        elif kind == "gradient":
            self.planter.calls_left = index % CALLS
        else:
            arrays = {
                "parameter": self.net.named_parameters(),
                "statistic": self.net.named_state(),
                "velocity": self.optimiser.velocity,
            }[kind]
            name = list(arrays)[index % len(arrays)]
            arrays[name].flat[index % arrays[name].size] = value
            owners = [layer for layer in self.net.named_layers() if name.startswith(f"{layer}.")]
            self.layer = max(owners, key=len)
        return x


def batches(count, seed):
    rng = np.random.default_rng(seed)
    return [
        (rng.standard_normal((BATCH, 3, 8, 8)).astype(np.float32), rng.integers(0, 10, BATCH))
        for _ in range(count)
    ]


def net_of(fault, ops):
    """Return a net with its planter, guarded if the fault says so."""
    net, planter = (
        models.build("se_resnet8", reduction=4, ops=ops),
        GradientPlanter(ops, fault.value),
    )
    wrap.attach(net, wrap.guarded(planter) if fault.guard else planter)
    return net, planter


def outcome(fault, ops, folder):
    """Train with a planted value; return the error or None, and the layer in which it appears."""
    net, planter = net_of(fault, ops)
    optimiser = SGD(net, nesterov=True)
    source = PlantedBatches(fault, net, optimiser, planter)
    settings = dict(epochs=EPOCHS, lr=0.01, out=folder, name="planted", console=quiet())
    settings["save_every"] = 1e6  # only before validation, however slow the machine
    val = batches(1, seed=100) if fault.validation else None
    try:
        run(net, SoftmaxCrossEntropy(ops), source, optimiser, val=val, **settings)
    except FloatingPointError as error:
        return error, planter.layer_of_call or source.layer
    return None, None


def replayed(fault, ops, folder):
    """Return the replay of the dump of a guarded run with a planted value."""
    net, planter = net_of(fault, ops)
    if fault.kind == "gradient":
        planter.calls_left = fault.index % CALLS
    return replay(folder / "planted", net, SoftmaxCrossEntropy(ops))


def assert_finite_files(folder):
    """Assert that all checkpoints of a run are finite, and metrics.jsonl is strict JSON."""
    for path in {*folder.glob("*.safetensors")} - {folder / dump.NAME}:
        saved = checkpoint.load(path)
        for name, array in {**saved.arrays, **saved.velocity}.items():
            assert np.isfinite(array).all(), f"{path.name}: {name}"
    for line in (folder / "metrics.jsonl").read_text().splitlines():
        json.loads(line, parse_constant=lambda token: 1 / 0)

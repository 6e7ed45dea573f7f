"""Measure a mistake that still trains: the gate route of dx in squeeze_excite left out.

For each seed, two SE-ResNet-8 start from the same parameters and take the same steps on the same 32
images of shapes10, one with the right backward and one with the wrong one. The first gradient is
compared, and the losses of all steps.
"""

from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from minise import data, models, train
from minise.checks import Array
from minise.nn.layer import Grads
from minise.ops import jit
from minise.ops.backend import load_ops
from minise.ops.user.pair import cache_of
from minise.ops.wrap import BACKWARD, attach, record
from minise.site.measurements.record import write_result

WRONG = str(Path(__file__).with_name("gate_route_off.py"))
SEEDS = 20
SETTINGS: dict[str, Any] = dict(
    model="se_resnet8", reduction=4, data="shapes10", images=32, steps=40, lr=0.1, momentum=0.9
)


def _right_one(name: str, function: Any) -> Any:
    """Return the function for a back end of separate ops: that of WRONG without its mistake."""
    return jit.squeeze_excite_backward if name == "squeeze_excite_backward" else function


class Run(NamedTuple):
    """The first gradient, flattened, and the loss before each step."""

    gradient: Array
    losses: list[float]


def batch(seed: int) -> tuple[Array, Array]:
    """Return the images, pixels in -0.5..0.5, and labels of a seed."""
    images = data.shapes10("train", n=SETTINGS["images"], seed=seed)
    return (images.images[:] / 255 - 0.5).astype(np.float32), images.labels


def descend(ops: Any, seed: int) -> Run:
    """Train on one batch with a back end; the seed draws images and parameters."""
    x, labels = batch(seed)
    net = models.build("se_resnet8", reduction=SETTINGS["reduction"], ops=ops, rng=seed)
    objective = train.SoftmaxCrossEntropy(ops)
    optimiser = train.SGD(net, momentum=SETTINGS["momentum"])
    first: Grads = {}
    losses = []
    for _ in range(SETTINGS["steps"]):
        logits, cache = net.forward(x, training=True)
        loss, loss_cache = objective.forward(logits, labels)
        _, grads = net.backward(objective.backward(loss_cache), cache, needs_dx=False)
        first = first or {name: grad.copy() for name, grad in grads.items()}
        optimiser.step(grads, lr=SETTINGS["lr"])
        losses.append(float(loss))
    return Run(np.concatenate([first[name].ravel() for name in sorted(first)]), losses)


def route_sizes(seed: int) -> dict[str, float]:
    """Return the length of the gate route relative to the scale route, by SE block, at first."""
    ops = record(cast(Any, load_ops(WRONG)).with_hook(_right_one))
    x, labels = batch(seed)
    net = models.build("se_resnet8", reduction=SETTINGS["reduction"], ops=ops, rng=seed)
    attach(net, ops)
    objective = train.SoftmaxCrossEntropy(jit)
    logits, cache = net.forward(x, training=True)
    _, loss_cache = objective.forward(logits, labels)
    net.backward(objective.backward(loss_cache), cache)
    sizes = {}
    for call in ops.calls:
        if (call.op, call.direction) == ("squeeze_excite", BACKWARD):
            dx_scale = call.arrays[0] * cache_of(call.cache).gates.s
            gate, scale = np.linalg.norm(call.results[0] - dx_scale), np.linalg.norm(dx_scale)
            sizes[call.layer] = round(float(gate / scale), 4)
    return dict(sorted(sizes.items()))


def measure(seed: int) -> dict[str, Any]:
    """Return the measurements of one seed, rounded to 4 decimals."""
    right, wrong = descend(jit, seed), descend(load_ops(WRONG), seed)
    lengths = [float(np.linalg.norm(run.gradient)) for run in (right, wrong)]
    cosine = float(right.gradient @ wrong.gradient) / (lengths[0] * lengths[1])
    error = float(np.linalg.norm(wrong.gradient - right.gradient)) / lengths[0]
    return {
        "seed": seed,
        "cosine": round(cosine, 4),
        "error": round(error, 4),
        "routes": route_sizes(seed),
        "right": [round(loss, 4) for loss in right.losses],
        "wrong": [round(loss, 4) for loss in wrong.losses],
    }


if __name__ == "__main__":
    print(write_result("bug_that_trains", SETTINGS, runs=[measure(seed) for seed in range(SEEDS)]))

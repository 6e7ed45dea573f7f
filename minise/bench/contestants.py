"""Who does the work. Each contestant turns a work into a function that does it once.

    make(work, settings) -> run        and run() returns a loss, logits, or what a block or op gives

All start from one net's parameters and draw the same inputs, so that first results must agree.
"""

import importlib.util
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np

from minise import models
from minise.bench import blocks
from minise.bench.settings import Settings
from minise.bench.threads import ops_with
from minise.bench.works import (
    EPS,
    MOMENTUM,
    RATE,
    SE,
    WEIGHT_DECAY,
    Work,
    arrays_of,
    conv_settings,
    images_of,
)
from minise.nn import Layer
from minise.ops.checks import Array
from minise.train import SGD, SoftmaxCrossEntropy

Run = Callable[[], Any]
IMAGES = ("x", "dout", "shortcut")  # (N, C, H, W)
NUMPY_OPS = {"numpy-im2col": "minise.bench.peers.im2col"}
COMPILERS = ("c++", "g++", "clang++")  # any of them serves torch.compile


def missing(name: str) -> str:
    """Return why a contestant cannot run here, or nothing."""
    if name.startswith("torch") and importlib.util.find_spec("torch") is None:
        return "not installed (pip install -e '.[oracle]')"
    if name == "torch-compile" and not any(map(shutil.which, COMPILERS)):
        return "needs a C++ compiler, such as g++"
    return ""


def takes_part(name: str, work: Work) -> bool:
    """Return whether a contestant does such a work.

    Of blocks and single ops torch-compile does none, and numpy-im2col only its own, the convolution
    in one group.
    """
    if work["kind"] in ("step", "forward") or name in ("minise", "torch", "torch-channels-last"):
        return True
    return name in NUMPY_OPS and work.get("op") == "conv2d" and work["groups"] == 1


def make(name: str, work: Work, settings: Settings) -> Run:
    """Return a function that does a work once, as a contestant does it."""
    if name.startswith("torch"):
        from minise.bench.peers import torch_runs

        return torch_runs.make(name, work, settings)
    if name in NUMPY_OPS:
        ops = ops_with(NUMPY_OPS[name], settings.threads)
    else:
        ops = ops_with(settings.ops, settings.threads, settings.algorithm)
    if work["kind"] == "op":
        return _op(ops, work, settings)
    if work["kind"] == "block":
        return _block(ops, work, settings)
    net = models.build(settings.net, ops=ops, **settings.net_settings)
    if work["kind"] == "forward":
        images = ops.asarray(images_of(settings)[0])
        # what a peer has is its forward; minise's own back ends have steps for inference too
        predict = net.predict if name in NUMPY_OPS else net.inference()
        return lambda: predict(images)
    return step_of(net, ops, *images_of(settings))


def step_of(net: Layer, ops: Any, images: Array, labels: Array) -> Run:
    """Return a function that takes one training step, as `train` does, and returns the loss.

    The net has a back end of its own; ops computes the loss.
    """
    x, targets = ops.asarray(images), ops.asarray(labels)
    objective = SoftmaxCrossEntropy(ops)
    optimiser = SGD(net, MOMENTUM, weight_decay=WEIGHT_DECAY, decay_all=True)

    def step() -> Any:
        out, cache = net.forward(x, training=True)
        loss, loss_cache = objective.forward(out, targets)
        _, grads = net.backward(objective.backward(loss_cache), cache, needs_dx=False)
        optimiser.step(grads, RATE)
        return loss

    return step


def _laid(ops: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return arrays as a net of the back end hands them over: images as a convolution lays its out.

    A peer's are laid out as its own net's are, too.
    """
    x, weight = np.ones((1, 2, 3, 3), np.float32), np.ones((2, 2, 1, 1), np.float32)
    out, _ = ops.conv2d_forward(ops.asarray(x), ops.asarray(weight))
    order = np.argsort([-step for step in out.strides], kind="stable")
    back = np.argsort(order)
    return {
        name: ops.asarray(np.ascontiguousarray(a.transpose(order)).transpose(back))
        if name in IMAGES
        else ops.asarray(a)
        for name, a in arrays.items()
    }


def _block(ops: Any, work: Work, settings: Settings) -> Run:
    """Return a function that does a block forward and backward."""
    block = blocks.build(work["block"], ops=ops, dtype=settings.dtype)
    x, dout = _laid(ops, arrays_of(work, settings.dtype)).values()

    def run() -> Any:
        out, cache = block.forward(x, training=True)
        block.backward(dout, cache)
        return out

    return run


def _op(ops: Any, work: Work, settings: Settings) -> Run:
    """Return a function that does one op forward and backward."""
    arrays = _laid(ops, arrays_of(work, settings.dtype))
    dout, inputs = arrays.pop("dout"), list(arrays.values())
    op = work["op"]
    keywords: dict[str, Any] = {}
    if op == "conv2d":
        inputs.append(None)  # no bias
        keywords = conv_settings(work)
    elif op != SE:
        C = work["C"]
        running = {"running_mean": np.zeros(C), "running_var": np.ones(C)}
        keywords = {key: ops.asarray(a.astype(settings.dtype)) for key, a in running.items()}
        keywords |= {"training": True, "eps": EPS}
    forward, backward = getattr(ops, f"{op}_forward"), getattr(ops, f"{op}_backward")

    def run() -> Any:
        out, cache = forward(*inputs, **keywords)
        backward(dout, cache)
        return out

    return run

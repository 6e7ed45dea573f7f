"""Implementations of the workloads: minise's own, those of its peers, and whether they agree.

    im2col      a back end whose convolution is im2col in NumPy, as courses teach it
    twins       minise's nets and blocks in PyTorch, with the same parameters
    pytorch     how PyTorch does each workload

`make` turns a workload into a function that does it once, and returns a loss, logits, or the output
of a block or op. All implementations start from the parameters of one net and draw the same inputs,
so their first results must agree. A training step is compared by its loss. Of an array (logits, or
an output) every number is added with a random sign, so that a single wrong number shows.
"""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minise import models
from minise.bench.settings import CompareSettings
from minise.bench.workloads import (
    EPS,
    IMAGE_SIZE,
    LR,
    MOMENTUM,
    SE,
    WEIGHT_DECAY,
    Workload,
    arrays_of,
    build_block,
    conv_settings,
    draw_batch,
    images_of,
)
from minise.checks import Array
from minise.nn import Layer
from minise.ops.backend import load_ops
from minise.train import SGD, SoftmaxCrossEntropy

Run = Callable[[], Any]
BASE = "minise"
NUMPY_OPS = {"numpy-im2col": "minise.bench.peers.im2col"}
IMAGES = ("x", "dout", "shortcut")  # (N, C, H, W)
COMPILERS = ("c++", "g++", "clang++")  # torch.compile needs one of them


def missing(name: str) -> str:
    """Return why an implementation cannot run here, or an empty text."""
    if name.startswith("torch") and importlib.util.find_spec("torch") is None:
        return "not installed (pip install -e '.[oracle]')"
    if name == "torch-compile" and not any(map(shutil.which, COMPILERS)):
        return "needs a C++ compiler, such as g++"
    return ""


def supports(name: str, workload: Workload) -> bool:
    """Return whether an implementation has a workload.

    torch-compile has no blocks and single ops, and numpy-im2col only its own op, the convolution in
    one group.
    """
    if workload["kind"] in ("step", "forward") or name in (BASE, "torch", "torch-channels-last"):
        return True
    return name in NUMPY_OPS and workload.get("op") == "conv2d" and workload["groups"] == 1


def make(name: str, workload: Workload, settings: CompareSettings) -> Run:
    """Return a function that does a workload once, as an implementation does it."""
    if name.startswith("torch"):
        from minise.bench.peers import pytorch

        return pytorch.make(name, workload, settings)
    if name in NUMPY_OPS:
        ops: Any = load_ops(NUMPY_OPS[name], settings.threads)
    else:
        ops = settings.load_ops()
    if workload["kind"] == "op":
        return _op(ops, workload, settings.dtype)
    if workload["kind"] == "block":
        return _block(ops, workload, settings.dtype)
    net = models.build(settings.net, ops=ops, **settings.net_settings(settings.net))
    if workload["kind"] == "forward":
        images = ops.asarray(images_of(settings)[0])
        # a peer has its own forward only; minise's back ends have folded steps for inference too
        predict = net.predict if name in NUMPY_OPS else net.inference()
        return lambda: predict(images)
    return step_of(net, ops, *images_of(settings))


def step_of(net: Layer, ops: Any, images: Array, labels: Array) -> Run:
    """Return a function that takes one training step, as `train` does, and returns the loss.

    The net has its own back end; ops computes the loss.
    """
    x, targets = ops.asarray(images), ops.asarray(labels)
    objective = SoftmaxCrossEntropy(ops)
    optimiser = SGD(net, MOMENTUM, weight_decay=WEIGHT_DECAY, decay_all=True)

    def step() -> Any:
        out, cache = net.forward(x, training=True)
        loss, loss_cache = objective.forward(out, targets)
        _, grads = net.backward(objective.backward(loss_cache), cache, needs_dx=False)
        optimiser.step(grads, LR)
        return loss

    return step


def training_step(
    ops: Any, batch: int, net: str = "se_resnet20", size: tuple[int, int] | None = None
) -> Run:
    """Return a function that takes one training step on images in the memory of the back end."""
    images, labels = draw_batch((batch, 3, *(size or IMAGE_SIZE)), 10, np.float32)
    return step_of(models.build(net, ops=ops), ops, images, labels)


def passes_of(ops: Any, workload: Workload, dtype: Any) -> tuple[Callable[..., Any], ...]:
    """Return forward and backward of an op, with the settings of a workload."""
    op = workload["op"]
    keywords: dict[str, Any] = {}
    if op == "conv2d":
        keywords = conv_settings(workload)
    elif op != SE:
        mean, var = np.zeros(workload["C"], dtype), np.ones(workload["C"], dtype)
        keywords = {"running_mean": ops.asarray(mean), "running_var": ops.asarray(var)}
        keywords |= {"training": True, "eps": EPS}
    forward = partial(getattr(ops, f"{op}_forward"), **keywords)
    return forward, getattr(ops, f"{op}_backward")


class Disagreement(Exception):
    """The implementations do not compute the same, or minise itself cannot do a workload."""


class Checksum(NamedTuple):
    """A number that tells one first result from another."""

    value: float
    scale: float  # errors of the value are relative to this

    def as_json(self) -> dict[str, float]:
        """Return the checksum as it is written with a result."""
        return {"figure": self.value, "scale": self.scale}


def checksum_of(result: Any) -> Checksum:
    """Return the checksum of a loss or an array.

    The signs are drawn from one seed, and the sum is divided by the square root of the number of
    elements, so that the value is about as large as one element.

    Examples
    --------
    >>> checksum_of(2.5)
    Checksum(value=2.5, scale=2.5)
    >>> checksum_of(np.full((2, 3), 4.0)).scale
    4.0
    """
    array = np.asarray(result)
    if array.ndim == 0:
        return Checksum(float(array), abs(float(array)))
    signs = np.random.default_rng(0).integers(0, 2, array.shape, np.int8) * np.int8(2) - np.int8(1)
    root = np.sqrt(array.size)
    scale = float(np.linalg.norm(array.ravel()) / root)
    return Checksum(float(np.sum(array * signs, dtype=np.float64) / root), scale)


def check_agreement(
    what: str, checksums: Mapping[str, Checksum], dtype: str, base: str = BASE
) -> None:
    """Raise Disagreement unless all implementations agree with base to half of their digits."""
    expected = checksums[base]
    tolerance = np.sqrt(np.finfo(dtype).eps) * expected.scale
    for name, checksum in checksums.items():
        if not abs(checksum.value - expected.value) <= tolerance:
            raise Disagreement(
                f"{what}: the first result of {name} is {checksum.value:.6f}, but that of {base} "
                f"{expected.value:.6f} (of an array: the sum of its numbers with random signs); "
                "they do not compute the same"
            )


def relative_error(result: Array, expected: Array) -> float:
    """Return ||result - expected|| / ||expected||, or infinity where a number is not finite."""
    if not np.isfinite(result).all():
        return np.inf
    norm = np.linalg.norm(expected.ravel()) or 1  # gates that are 0 for all images send back 0
    return float(np.linalg.norm((result - expected).ravel()) / norm)


def _in_layout(ops: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return arrays as a net of the back end passes them: images in its convolution's layout.

    The arrays of a peer have the layout of its own net, too.
    """
    x, weight = np.ones((1, 2, 3, 3), np.float32), np.ones((2, 2, 1, 1), np.float32)
    out, _ = ops.conv2d_forward(ops.asarray(x), ops.asarray(weight))
    order = np.argsort([-step for step in out.strides], kind="stable")
    inverse = np.argsort(order)
    return {
        name: ops.asarray(np.ascontiguousarray(a.transpose(order)).transpose(inverse))
        if name in IMAGES
        else ops.asarray(a)
        for name, a in arrays.items()
    }


def _block(ops: Any, workload: Workload, dtype: str) -> Run:
    """Return a function that does a block forward and backward."""
    block = build_block(workload["block"], ops=ops, dtype=dtype)
    x, dout = _in_layout(ops, arrays_of(workload, dtype)).values()

    def run() -> Any:
        out, cache = block.forward(x, training=True)
        block.backward(dout, cache)
        return out

    return run


def _op(ops: Any, workload: Workload, dtype: str) -> Run:
    """Return a function that does one op forward and backward."""
    arrays = _in_layout(ops, arrays_of(workload, dtype))
    dout, inputs = arrays.pop("dout"), list(arrays.values())
    if workload["op"] == "conv2d":
        inputs.append(None)  # no bias
    forward, backward = passes_of(ops, workload, dtype)

    def run() -> Any:
        out, cache = forward(*inputs)
        backward(dout, cache)
        return out

    return run

"""Implementations of the workloads by minise and its peers, and the check that they agree.

    im2col      a back end whose convolution is im2col in NumPy, as taught in courses
    twins       minise's nets and blocks in PyTorch, with the same parameters
    pytorch     PyTorch implementations of each workload

`make` returns a function that runs a workload once and returns a loss, logits, or the output of a
block or op. All implementations use the same initial parameters and inputs, so their first results
must agree. Training steps are compared by the loss; arrays (logits, or outputs) by the sum of all
elements with random signs, so that a single wrong element changes the result.
"""

import importlib.util
import shutil
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from minise import models
from minise.bench.net_settings import CompareSettings
from minise.bench.workloads import (
    EPS,
    IMAGE_SIZE,
    LR,
    MOMENTUM,
    SE,
    WEIGHT_DECAY,
    Workload,
    arrays_of,
    batch_of,
    build_block,
    conv_settings,
    draw_batch,
)
from minise.checks import Array
from minise.nn import Layer
from minise.ops.backend import load_ops
from minise.train import SGD, SoftmaxCrossEntropy

Run = Callable[[], Any]
BASELINE = "minise"  # the implementation that all others are compared with
RESULT = "result"  # name of the only result of a workload
NUMPY_OPS = {"numpy-im2col": "minise.bench.peers.im2col"}
IMAGES = ("x", "dout", "shortcut")  # (N, C, H, W)
COMPILERS = ("c++", "g++", "clang++")  # torch.compile needs one of them


def missing(name: str) -> str:
    """Return the reason why an implementation is unavailable, or "" if it is available."""
    if name.startswith("torch") and importlib.util.find_spec("torch") is None:
        return "not installed (pip install -e '.[oracle]')"
    if name == "torch-compile" and not any(map(shutil.which, COMPILERS)):
        return "needs a C++ compiler, such as g++"
    return ""


def supports(name: str, workload: Workload) -> bool:
    """Return True if an implementation supports a workload.

    torch-compile does not support blocks and single ops; of these, numpy-im2col supports only
    convolutions in one group.
    """
    eager = (BASELINE, "torch", "torch-channels-last")
    if workload["kind"] in ("step", "forward") or name in eager:
        return True
    return name in NUMPY_OPS and workload.get("op") == "conv2d" and workload["groups"] == 1


def make(name: str, workload: Workload, settings: CompareSettings) -> Run:
    """Return a function that runs a workload once with an implementation."""
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
    net = settings.build(ops)
    images, labels = batch_of(net, settings.batch, settings.size)
    if workload["kind"] == "forward":
        x = ops.asarray(images)
        # im2col is timed without the folding of batch norm that minise applies for inference
        predict = net.predict if name in NUMPY_OPS else net.inference()
        return lambda: predict(x)
    return training_step_of(net, ops, images, labels)


def training_step_of(net: Layer, ops: Any, images: Array, labels: Array) -> Run:
    """Return a function that takes one training step, as `train` does, and returns the loss.

    The net uses its own back end; ops computes the loss.
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
    """Return a function that takes one training step of a net by name, on random images."""
    images, labels = draw_batch((batch, 3, *(size or IMAGE_SIZE)), 10, np.float32)
    return training_step_of(models.build(net, ops=ops), ops, images, labels)


def forward_and_backward_of(
    ops: Any, workload: Workload, dtype: Any
) -> tuple[Callable[..., Any], ...]:
    """Return the forward and backward functions of an op, with the settings of a workload."""
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
    """The first results of two implementations differ, or minise fails on a workload."""


class Checksum(NamedTuple):
    """A number that represents a result, for the comparison of implementations."""

    value: float
    scale: float  # reference for relative errors of the value

    def as_json(self) -> dict[str, float]:
        """Return the checksum as a result file stores it."""
        return {"figure": self.value, "scale": self.scale}


def checksum_of(result: Any) -> Checksum:
    """Return the checksum of a loss or an array.

    For an array, the value is the sum of all elements with random signs drawn from seed 0, divided
    by the square root of the number of elements, so that its magnitude is that of one element.

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


def checksums_of(result: Any) -> dict[str, Checksum]:
    """Return the checksum of a result, under the name RESULT, or of each of a dict of arrays."""
    results = result if isinstance(result, dict) else {RESULT: result}
    return {name: checksum_of(value) for name, value in results.items() if value is not None}


def first_as_json(checksums: dict[str, Checksum]) -> dict[str, Any]:
    """Return the checksums of a workload as a result file stores them."""
    by_name = {name: checksum.as_json() for name, checksum in checksums.items()}
    return by_name.get(RESULT, by_name)


def check_agreements(label: str, checksums: Mapping[str, dict[str, Checksum]], dtype: str) -> None:
    """Check the agreement of each result of a workload; checksums are by implementation."""
    for result in checksums[BASELINE]:
        name = label if result == RESULT else f"{label}, {result}"
        check_agreement(name, {peer: each[result] for peer, each in checksums.items()}, dtype)


def check_agreement(
    label: str, checksums: Mapping[str, Checksum], dtype: str, base: str = BASELINE
) -> None:
    """Raise Disagreement unless all checksums equal that of base to half of the dtype's digits."""
    expected = checksums[base]
    tolerance = np.sqrt(np.finfo(dtype).eps) * expected.scale
    for name, checksum in checksums.items():
        if not abs(checksum.value - expected.value) <= tolerance:
            raise Disagreement(
                f"{label}: the checksum of the first result of {name} is {checksum.value:.6f}, "
                f"expected {expected.value:.6f}, the checksum of {base} (a loss, or the sum of an "
                "array with random signs): the implementations do not compute the same function"
            )


def relative_error(result: Array, expected: Array) -> float:
    """Return ||result - expected|| / ||expected||, or infinity if any number is not finite."""
    if not np.isfinite(result).all():
        return np.inf
    norm = np.linalg.norm(expected.ravel()) or 1  # gradients are 0 if all gates are 0
    return float(np.linalg.norm((result - expected).ravel()) / norm)


def _in_layout(ops: Any, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return arrays of the back end, images in the memory layout of its convolution's output."""
    x, weight = np.ones((1, 2, 3, 3), np.float32), np.ones((2, 2, 1, 1), np.float32)
    out, _ = ops.conv2d_forward(ops.asarray(x), ops.asarray(weight))
    order = np.argsort([-stride for stride in out.strides], kind="stable")
    inverse = np.argsort(order)
    return {
        name: ops.asarray(np.ascontiguousarray(a.transpose(order)).transpose(inverse))
        if name in IMAGES
        else ops.asarray(a)
        for name, a in arrays.items()
    }


def _block(ops: Any, workload: Workload, dtype: str) -> Run:
    """Return a function that runs a block forward and backward."""
    block = build_block(workload["block"], ops=ops, dtype=dtype)
    x, dout = _in_layout(ops, arrays_of(workload, dtype)).values()

    def run() -> Any:
        out, cache = block.forward(x, training=True)
        block.backward(dout, cache)
        return out

    return run


def _op(ops: Any, workload: Workload, dtype: str) -> Run:
    """Return a function that runs one op forward and backward, or one pass of it."""
    arrays = _in_layout(ops, arrays_of(workload, dtype))
    dout, inputs = arrays.pop("dout"), list(arrays.values())
    if workload["op"] == "conv2d":
        inputs.append(None)  # no bias
    forward, backward = forward_and_backward_of(ops, workload, dtype)
    if "pass" in workload:
        return _one_pass(forward, backward, workload, inputs, dout)

    def run() -> Any:
        out, cache = forward(*inputs)
        backward(dout, cache)
        return out

    return run


def _one_pass(
    forward: Callable[..., Any],
    backward: Callable[..., Any],
    workload: Workload,
    inputs: list[Any],
    dout: Any,
) -> Run:
    """Return a function that runs one pass of a convolution; backward returns {name: gradient}."""
    if workload["pass"] == "forward":
        return lambda: forward(*inputs)[0]
    cache, needs_dx = forward(*inputs)[1], workload["needs_dx"]

    def run() -> Any:
        dx, dweight, *_ = backward(dout, cache, needs_dx=needs_dx)
        return {"dx": dx if needs_dx else None, "dweight": dweight}

    return run

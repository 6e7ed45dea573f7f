"""Workloads: a training step, a forward pass, a block, or one op at its shapes in a net.

A workload is a plain dict, so that it can be sent to another process as JSON. The field "pass" of a
convolution, "forward" or "backward", selects one pass; without it, both are timed together.

Two blocks with grouped convolutions are timed as units:

    depthwise   3x3 depthwise, norm, ReLU, 1x1, norm, ReLU
    grouped     1x1, norm, ReLU, 3x3 in 32 groups, norm, ReLU, 1x1

Both have 128 channels of 16x16, a size that occurs in nets for CIFAR: the depthwise block is the
third block of MobileNet for CIFAR (whose first convolution has stride 1), and 32 groups of 4
channels are the inner width of ResNeXt's first stage (32x4d). Unlike the block, a ResNeXt
bottleneck is wider at both ends and has a shortcut; without them, the grouped convolution takes a
larger share of the time.

Source: Howard et al., "MobileNets", arXiv:1704.04861, and Xie et al., "Aggregated Residual
Transformations for Deep Neural Networks", arXiv:1611.05431.
"""

from typing import Any, NamedTuple

import numpy as np

from minise.analysis.inputs import Size, input_shape, outputs_of, recorded
from minise.bench.net_settings import CompareSettings
from minise.nn import Build, Chain, Layer
from minise.ops import reference
from minise.ops.reference.windows import windows_of
from minise.ops.wrap import Call

Workload = dict[str, Any]
IMAGE_SIZE = (32, 32)
LR, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4  # of SGD in a training step
EPS = 1e-5  # of batch norm, in minise and in PyTorch
NORM, SE, TAIL = "batch_norm2d_relu", "squeeze_excite", "se_block_tail"
BLOCK_CHANNELS, BLOCK_SIZE = 128, (16, 16)


class Convolution(NamedTuple):
    """One convolution of a block; norm and ReLU follow if norm_relu is True."""

    kernel: int
    groups: int
    norm_relu: bool = True


BLOCKS = {
    "depthwise": (Convolution(3, BLOCK_CHANNELS), Convolution(1, 1)),
    "grouped": (Convolution(1, 1), Convolution(3, 32), Convolution(1, 1, norm_relu=False)),
}
BLOCK_TITLES = {"depthwise": "depthwise 3x3 + 1x1", "grouped": "1x1 + 3x3 in 32 groups + 1x1"}


def workloads_of(settings: CompareSettings) -> list[Workload]:
    """Return the workloads of the settings, in the order in which they are measured.

    Raises
    ------
    ValueError, TypeError
        If the net is unknown, or does not have the settings.
    """
    net = settings.build()
    workloads: list[Workload] = []
    for what in dict.fromkeys(settings.what):
        if what == "ops":
            workloads += op_workloads(net, settings.batch, settings.size)
        elif what == "blocks":
            workloads += block_workloads(settings.batch)
        else:
            workloads.append({"kind": what})
    return workloads


def block_workloads(batch: int) -> list[Workload]:
    """Return a workload for each block."""
    H, W = BLOCK_SIZE
    sizes = {"N": batch, "C": BLOCK_CHANNELS, "H": H, "W": W}
    return [{"kind": "block", "block": name, **sizes} for name in BLOCKS]


def op_workloads(net: Layer, batch: int, size: Size = None) -> list[Workload]:
    """Return the most expensive ops of a net, each at every shape in it; size as in cost_of."""
    workloads: list[Workload] = []
    for call in recorded(net, size):
        workload = _workload_of(call, batch)
        if workload and workload not in workloads:
            workloads.append(workload)
    return workloads


def title(workload: Workload) -> str:
    """Return the name of a workload for tables.

    Examples
    --------
    >>> title({"kind": "op", "op": "conv2d", "C": 16, "H": 32, "W": 32, "K": 32, "kernel": (3, 3),
    ...        "groups": 1, "stride": (2, 2)})
    'conv2d 3x3 /2, 16 to 32, 32x32'
    """
    if workload["kind"] in ("step", "forward"):
        return {"step": "training step", "forward": "inference"}[workload["kind"]]
    size = f"{workload['H']}x{workload['W']}"
    if workload["kind"] == "block":
        return f"block {BLOCK_TITLES[workload['block']]}, {workload['C']}, {size}"
    if workload["op"] != "conv2d":
        gated = f"squeeze-excite R={workload.get('R')}"
        names = {NORM: "batch norm + ReLU", SE: gated, TAIL: f"batch norm + {gated} + add + ReLU"}
        return f"{names[workload['op']]}, {workload['C']}, {size}"
    KH, KW = workload["kernel"]
    stride = "" if max(workload["stride"]) == 1 else f" /{max(workload['stride'])}"
    groups = "" if workload["groups"] == 1 else f" in {workload['groups']} groups"
    direction = f", batch {workload['N']}, {workload['pass']}" if "pass" in workload else ""
    return (
        f"conv2d {KH}x{KW}{stride}{groups}, {workload['C']} to {workload['K']}, {size}{direction}"
    )


def _workload_of(call: Call, batch: int) -> Workload | None:
    """Return the workload of a call of an op, or None for ops that are not timed."""
    if len(call.arrays[0].shape) != 4:
        return None
    _, C, H, W = call.arrays[0].shape
    workload = {"kind": "op", "N": batch, "C": C, "H": H, "W": W}
    if call.op == "conv2d":
        weight = call.arrays[1]
        pairs = {key: list(call.settings[key]) for key in ("stride", "padding")}
        sizes = {"K": len(weight), "kernel": list(weight.shape[2:])}
        return workload | {"op": "conv2d", **sizes, **pairs, "groups": call.settings["groups"]}
    if call.op == SE:
        return workload | {"op": SE, "R": len(call.arrays[1])}
    if call.op == TAIL:
        return workload | {"op": TAIL, "R": len(call.arrays[3])}
    return workload | {"op": NORM} if call.op.startswith("batch_norm2d") else None


def build_block(name: str, *, ops: Any = reference, dtype: Any = np.float32) -> Chain:
    """Return a block by name, with parameters drawn from seed 0."""
    parts = Build(ops, rng=0, dtype=dtype)
    layers: list[Layer] = []
    for kernel, groups, norm_relu in BLOCKS[name]:
        layers.append(parts.conv(BLOCK_CHANNELS, BLOCK_CHANNELS, kernel, groups=groups))
        if norm_relu:
            layers.append(parts.norm_relu(BLOCK_CHANNELS))
    return parts.chain(*layers)


def conv_settings(workload: Workload) -> dict[str, Any]:
    """Return the keyword arguments of a convolution, for minise and for PyTorch."""
    pairs = {key: tuple(workload[key]) for key in ("stride", "padding")}
    return {**pairs, "groups": workload["groups"]}


def arrays_of(workload: Workload, dtype: str) -> dict[str, np.ndarray]:
    """Return the inputs of an op or a block by name, and dout, all drawn from seed 0."""
    rng = np.random.default_rng(0)
    N, C, H, W = (workload[axis] for axis in "NCHW")
    shapes: dict[str, tuple[int, ...]] = {"x": (N, C, H, W), "dout": (N, C, H, W)}
    if workload["kind"] == "op" and workload["op"] == "conv2d":
        windows = windows_of((H, W), workload["kernel"], workload["stride"], workload["padding"])
        weight = (workload["K"], C // workload["groups"], *workload["kernel"])
        shapes |= {"weight": weight, "dout": (N, workload["K"], *windows.outputs)}
    elif workload["kind"] == "op":
        R = workload.get("R", 0)
        gates = {"w1": (R, C), "b1": (R,), "w2": (C, R), "b2": (C,)}
        norm = {"gamma": (C,), "beta": (C,)}
        shapes |= {} if workload["op"] == SE else norm
        shapes |= {} if workload["op"] == NORM else gates
        shapes |= {"shortcut": (N, C, H, W)} if workload["op"] == TAIL else {}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def gated_arrays_of(workload: Workload) -> dict[str, np.ndarray]:
    """Return the inputs of an op with gates, and dout; weights are scaled to avoid saturation."""
    arrays = arrays_of(workload, "float32")
    for name in ("w1", "w2"):
        arrays[name] /= np.sqrt(arrays[name].shape[1], dtype=np.float32)
    return arrays


def batch_of(net: Layer, count: int, size: Size = None) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels of the dtype, channels and classes of a net; size as in cost_of."""
    dtype = next((a.dtype for a in net.named_parameters().values()), np.float32)
    return draw_batch((count, *input_shape(net, size)), outputs_of(net), dtype)


def draw_batch(shape: tuple[int, ...], classes: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return normally distributed inputs of a shape, and uniform labels, drawn from seed 0."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal(shape).astype(dtype)
    return images, rng.integers(0, classes, len(images))

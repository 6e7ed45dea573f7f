"""What is timed: a step, a forward pass, a block, or one op at the shapes that a net gives it.

A work is a plain dict, so that it can be sent to another process as it is.
"""

from typing import Any

import numpy as np

from minise import models
from minise.analysis.cost import channels_of, outputs_of, recorded
from minise.bench import blocks
from minise.bench.settings import Settings
from minise.nn import Layer
from minise.ops.reference.windows import windows_of
from minise.ops.wrap import Call

Work = dict[str, Any]
SIZE = (32, 32)  # of an image
RATE, MOMENTUM, WEIGHT_DECAY = 0.01, 0.9, 1e-4  # of a training step's SGD
EPS = 1e-5  # of batch norm, in both libraries
NORM, SE, TAIL = "batch_norm2d_relu", "squeeze_excite", "se_block_tail"


def works_of(settings: Settings) -> list[Work]:
    """Return the works that settings ask for, in the order in which they are done.

    Raises
    ------
    ValueError, TypeError
        If there is no such net, or it has no such settings.
    """
    net = models.build(settings.net, **settings.net_settings)
    works: list[Work] = []
    for what in dict.fromkeys(settings.what):
        if what == "ops":
            works += op_works(net, settings)
        elif what == "blocks":
            works += block_works(settings)
        else:
            works.append({"kind": what})
    return works


def title(work: Work) -> str:
    """Return what a work is called in a table.

    Examples
    --------
    >>> title({"kind": "op", "op": "conv2d", "C": 16, "H": 32, "W": 32, "K": 32, "kernel": (3, 3),
    ...        "groups": 1, "stride": (2, 2)})
    'conv2d 3x3 /2, 16 to 32, 32x32'
    """
    if work["kind"] in ("step", "forward"):
        return {"step": "training step", "forward": "inference"}[work["kind"]]
    size = f"{work['H']}x{work['W']}"
    if work["kind"] == "block":
        return f"block {blocks.TITLES[work['block']]}, {work['C']}, {size}"
    if work["op"] != "conv2d":
        gated = f"squeeze-excite R={work.get('R')}"
        ends = {NORM: "batch norm + ReLU", SE: gated, TAIL: f"batch norm + {gated} + add + ReLU"}
        return f"{ends[work['op']]}, {work['C']}, {size}"
    KH, KW = work["kernel"]
    stride = "" if max(work["stride"]) == 1 else f" /{max(work['stride'])}"
    groups = "" if work["groups"] == 1 else f" in {work['groups']} groups"
    return f"conv2d {KH}x{KW}{stride}{groups}, {work['C']} to {work['K']}, {size}"


def block_works(settings: Settings) -> list[Work]:
    """Return the blocks of minise.bench.blocks."""
    H, W = blocks.SIZE
    sizes = {"N": settings.batch, "C": blocks.CHANNELS, "H": H, "W": W}
    return [{"kind": "block", "block": name, **sizes} for name in blocks.BLOCKS]


def op_works(net: Any, settings: Settings) -> list[Work]:
    """Return the ops of a net that take most of its time, each at every shape it has there."""
    works: list[Work] = []
    for call in recorded(net, SIZE)[1]:
        work = _work_of(call, settings.batch)
        if work and work not in works:
            works.append(work)
    return works


def _work_of(call: Call, batch: int) -> Work | None:
    if len(call.arrays[0].shape) != 4:
        return None
    _, C, H, W = call.arrays[0].shape
    work = {"kind": "op", "N": batch, "C": C, "H": H, "W": W}
    if call.op == "conv2d":
        weight = call.arrays[1]
        where = {key: list(call.settings[key]) for key in ("stride", "padding")}
        where |= {"groups": call.settings["groups"]}
        return work | {"op": "conv2d", "K": len(weight), "kernel": list(weight.shape[2:])} | where
    if call.op == SE:
        return work | {"op": SE, "R": len(call.arrays[1])}
    if call.op == TAIL:
        return work | {"op": TAIL, "R": len(call.arrays[3])}
    return work | {"op": NORM} if call.op.startswith("batch_norm2d") else None


def conv_settings(work: Work) -> dict[str, Any]:
    """Return what a convolution takes by keyword, in minise as in PyTorch."""
    pairs = {key: tuple(work[key]) for key in ("stride", "padding")}
    return {**pairs, "groups": work["groups"]}


def arrays_of(work: Work, dtype: str) -> dict[str, np.ndarray]:
    """Return the inputs of an op or a block, by name, and dout, drawn from one seed for all."""
    rng = np.random.default_rng(0)
    N, C, H, W = (work[axis] for axis in "NCHW")
    shapes: dict[str, tuple[int, ...]] = {"x": (N, C, H, W), "dout": (N, C, H, W)}
    if work["kind"] == "op" and work["op"] == "conv2d":
        where = windows_of((H, W), work["kernel"], work["stride"], work["padding"])
        weight = (work["K"], C // work["groups"], *work["kernel"])
        shapes |= {"weight": weight, "dout": (N, work["K"], *where.outputs)}
    elif work["kind"] == "op":
        R = work.get("R", 0)
        gates = {"w1": (R, C), "b1": (R,), "w2": (C, R), "b2": (C,)}
        norm = {"gamma": (C,), "beta": (C,)}
        shapes |= {} if work["op"] == SE else norm
        shapes |= {} if work["op"] == NORM else gates
        shapes |= {"shortcut": (N, C, H, W)} if work["op"] == TAIL else {}
    return {name: rng.standard_normal(shape).astype(dtype) for name, shape in shapes.items()}


def images_of(settings: Settings) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels, drawn from one seed for all contestants."""
    return drawn((settings.batch, 3, *SIZE), 10, settings.dtype)


def batch_of(net: Layer, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images and labels as a net takes them, which may be of the user's own."""
    dtype = next((a.dtype for a in net.named_parameters().values()), np.float32)
    return drawn((count, channels_of(net), *SIZE), outputs_of(net), dtype)


def drawn(shape: tuple[int, ...], classes: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs of a shape, normal, and their labels, uniform."""
    rng = np.random.default_rng(0)
    images = rng.standard_normal(shape).astype(dtype)
    return images, rng.integers(0, classes, len(images))

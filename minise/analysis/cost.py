"""What a net costs: output shapes, parameters and multiply-accumulates (MACs) of every layer.

The figures are read off one recorded forward pass of one image, so they belong to the code that
trains. Counted as in the paper's tables (whose "GFLOPs" are MACs): the products of convolutions
and dense layers, the two dense layers of an SE block, and one multiplication for each number that
a gate scales. Normalisation, ReLU, pooling and sums are not counted.
"""

from collections.abc import Callable
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minise.nn import SEBlock
from minise.ops.checks import check_integer
from minise.ops.wrap import Call, attach, record


class LayerCost(NamedTuple):
    """One line of the table: a layer that calls an op, or whose parameters an op is called with."""

    layer: str
    kind: str  # the layer's class, and what is one op with it
    shape: tuple[int, ...]  # of its output, without the batch
    parameters: int
    macs: int  # of one image
    se: bool  # whether it is an SE block


class NetCost(NamedTuple):
    """The table, and its sums."""

    layers: list[LayerCost]

    @property
    def parameters(self) -> int:
        """Numbers that are learned."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass of one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def se_parameters(self) -> int:
        """Those of SE blocks."""
        return sum(layer.parameters for layer in self.layers if layer.se)

    @property
    def se_macs(self) -> int:
        """Those of SE blocks."""
        return sum(layer.macs for layer in self.layers if layer.se)


def cost_of(net: Any, size: tuple[int, int] = (32, 32)) -> NetCost:
    """Return what every layer of a net costs for one image of size (rows, columns).

    Parameters
    ----------
    net : Net
        From images (N, 3, H, W) to logits; it is run once, in evaluation mode.
    size : (int, int)
        Rows and columns of an image.

    Raises
    ------
    ValueError
        If the net cannot take images of that size.
    """
    for axis, number in zip(("rows", "columns"), size, strict=True):
        check_integer("cost_of", f"size ({axis})", number, 1)
    recorder = record(net.ops)
    attach(net, recorder)
    try:
        dtype = next(iter(net.named_parameters().values())).dtype
        net.predict(recorder.asarray(np.zeros((1, 3, *size)), dtype))
    finally:
        attach(net, recorder.ops)
    layers = net.named_layers()
    owners = {id(a): name for name, layer in net.layers() for a in layer.params.values()}
    calls: dict[str, list[Call]] = {}
    for call in recorder.calls:  # a fused op may run more layers than the one that calls it
        run = [owners[id(array)] for array in call.arrays if id(array) in owners]
        for name in dict.fromkeys([*run, call.layer]):
            calls.setdefault(name, []).append(call)
    return NetCost([_row(name, layers[name], calls[name]) for name in calls])


def _row(name: str, layer: Any, calls: list[Call]) -> LayerCost:
    own = [call for call in calls if call.layer == name]
    kinds = dict.fromkeys(KINDS.get(call.op, type(layer).__name__) for call in own)
    return LayerCost(
        name,
        ", ".join(kinds) or type(layer).__name__,
        tuple(calls[-1].results[0].shape[1:]),
        sum(array.size for array in layer.params.values()),
        sum(macs(call) for call in own),
        isinstance(layer, SEBlock),
    )


def macs(call: Call) -> int:
    """Return the multiply-accumulates of one recorded forward call."""
    count = MACS.get(call.op)
    return count(call) if count else 0


def _conv2d(call: Call) -> int:
    weight = call.arrays[1]
    return call.results[0].size * prod(weight.shape[1:])


def _linear(call: Call) -> int:
    return call.results[0].size * call.arrays[1].shape[1]


def _squeeze_excite(call: Call) -> int:
    x, w1, w2 = call.arrays[0], call.arrays[1], call.arrays[3]
    each_pixel = call.settings.get("squeeze") == "none"  # else once for each image
    gates = x.size // x.shape[1] if each_pixel else len(x)
    return x.size + gates * (w1.size + w2.size)


def _se_block_tail(call: Call) -> int:
    x, w1, w2 = call.arrays[0], call.arrays[3], call.arrays[5]
    return x.size + len(x) * (w1.size + w2.size)


def _channel_scale(call: Call) -> int:
    return call.arrays[0].size


MACS: dict[str, Callable[[Call], int]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "squeeze_excite": _squeeze_excite,
    "se_block_tail": _se_block_tail,
    "channel_scale": _channel_scale,
}
KINDS = {  # where the layer's class does not tell what is done
    "add": "add",
    "relu": "ReLU",
    "batch_norm2d_relu": "BatchNorm2d, ReLU",
    "batch_norm2d_add_relu": "BatchNorm2d, add, ReLU",
    "se_block_tail": "SEBlock, add, ReLU",
}

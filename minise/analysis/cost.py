"""Output shape, parameters and multiply-accumulates (MACs) of every layer of a net.

All counts come from one recorded forward pass of one image, so they describe the code that trains;
the pass computes shapes only (minise/ops/cost).
MACs are counted as in the paper's tables (whose "GFLOPs" are MACs): the products of convolutions
and dense layers, the two dense layers of an SE block, and one multiplication for each element that
a gate scales. Normalisation, ReLU, pooling and sums are not counted.
"""

import copy
import operator
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minise.checks import check_integer
from minise.nn import Layer, SEBlock
from minise.nn.layer import Module
from minise.ops import cost
from minise.ops.wrap import FORWARD, Call, Recorder, attach, record

OUTPUT = ""  # op name of a recorded call that holds the output of a layer with parameters


class LayerCost(NamedTuple):
    """One row of the table: a layer that calls an op or has parameters."""

    layer: str
    kind: str  # the layer's class, and the layers fused with it
    shape: tuple[int, ...]  # of the output, without the batch axis; () if forward skips the layer
    parameters: int
    macs: int  # per image
    se: bool  # True if the layer is an SE block


class NetCost(NamedTuple):
    """The costs of all layers of a net, and their totals."""

    layers: list[LayerCost]

    @property
    def parameters(self) -> int:
        """Number of learned parameters."""
        return sum(layer.parameters for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one forward pass of one image."""
        return sum(layer.macs for layer in self.layers)

    @property
    def se_parameters(self) -> int:
        """Number of learned parameters in SE blocks."""
        return sum(layer.parameters for layer in self.layers if layer.se)

    @property
    def se_macs(self) -> int:
        """Multiply-accumulates of the SE blocks in one forward pass of one image."""
        return sum(layer.macs for layer in self.layers if layer.se)


def cost_of(net: Layer, size: int | Sequence[int] = (32, 32)) -> NetCost:
    """Return the cost of every layer of a net for one image.

    Every layer with parameters has a row. Computations that a layer does in NumPy, without an op,
    add no MACs.

    Parameters
    ----------
    net : Layer
        A net or a layer; a copy of it runs once, in evaluation mode.
    size : int, (int, int), or (int, int, int) or (int,)
        (rows, columns) of an image, or one integer for a square image; the number of channels is
        inferred from the first array of parameters. Or the full shape of an input:
        (channels, rows, columns) or (features,).

    Raises
    ------
    ValueError, TypeError
        If size is not a valid size, or the net cannot process an input of that size.
    """
    twin, recorded_calls = _record(net, _size_tuple(size))
    modules: dict[str, list[Module]] = {}
    owners: dict[int, str] = {}
    for name, module in twin.layers():
        modules.setdefault(name, []).append(module)
        owners |= {id(array): name for array in module.params.values()}
    calls: dict[str, list[Call]] = {}
    for call in recorded_calls:  # a fused op may compute several layers, with parameters of each
        own = {id(a) for module in modules[call.layer] for a in module.params.values()}
        others = [owners[id(a)] for a in call.arrays if id(a) in owners and id(a) not in own]
        for name in dict.fromkeys([*others, call.layer]):
            calls.setdefault(name, []).append(call)
    first_names = {id(module): name for name, module in reversed(list(twin.layers()))}
    for name, module in twin.layers():
        if module.params and first_names[id(module)] == name:
            calls.setdefault(name, [])  # a layer that forward skips
    counted: set[int] = set()
    return NetCost([_row(name, modules[name], calls[name], counted) for name in calls])


def _size_tuple(size: Any, where: str = "cost_of") -> tuple[int, ...]:
    """Return size as a tuple of integers, an integer as (size, size)."""
    if isinstance(size, np.ndarray):
        size = size.tolist()
    if hasattr(size, "__index__"):
        size = (size, size)
    if not isinstance(size, tuple | list) or not 1 <= len(size) <= 3:
        raise TypeError(
            f"{where}: size is {size!r}, expected (rows, columns) or the full shape of an input: "
            "give size=(channels, rows, columns)"
        )
    axes: Sequence[Any] = ("rows", "columns") if len(size) == 2 else range(len(size))
    for axis, length in zip(axes, size, strict=True):
        check_integer(where, f"size ({axis})", length, 1)
    return tuple(map(operator.index, size))


def input_shape(net: Layer, size: Any, where: str = "cost_of") -> tuple[int, ...]:
    """Return the shape of one input of a net; size as in cost_of."""
    sizes = _size_tuple(size, where)
    return (channels_of(net), *sizes) if len(sizes) == 2 else sizes


def on_shapes(net: Layer, shapes: cost.Shapes) -> Layer:
    """Return a copy of a net on a back end of shapes; its arrays are not copied."""
    arrays = [array for kind in ("params", "state") for _, array in net.names(kind)]
    memo: dict[int, Any] = {id(a): shapes.shaped(a.shape, a.dtype) for a in arrays}
    twin = copy.deepcopy(net, memo)
    attach(twin, shapes)
    return twin


def recorded(net: Layer, size: tuple[int, ...]) -> tuple[Layer, list[Call]]:
    """Return a copy of a net and the op calls of one forward pass on zeros; size as in cost_of.

    The pass runs forward, not the folded inference, so that the ops are those of training. Arrays
    have shapes and no elements (minise/ops/cost), unless a layer needs elements.
    """
    twin, calls = _record(net, size)
    return twin, [call for call in calls if call.op != OUTPUT]


def _record(net: Layer, size: tuple[int, ...]) -> tuple[Layer, list[Call]]:
    """Return a copy of a net and its calls, with a call OUTPUT for each layer with parameters."""
    if not getattr(net.ops, "composed", ()):  # a user's back end may compose an op of others
        with suppress(Exception):  # such as a compiled function of a user's layer
            return _recorded(on_shapes(net, cost.Shapes()), size)
    return _recorded(copy.deepcopy(net), size)


def _recorded(twin: Layer, size: tuple[int, ...]) -> tuple[Layer, list[Call]]:
    shape = input_shape(twin, size)
    dtype = next((array.dtype for array in twin.named_parameters().values()), np.float32)
    recorder = record(twin.ops)
    attach(twin, recorder)
    for name, module in twin.layers():
        if module.params and hasattr(module, "forward") and "forward" not in vars(module):
            vars(module)["forward"] = partial(_record_output, module.forward, name, recorder)
    x = recorder.asarray(np.zeros((1, *shape)), dtype)
    try:
        twin.predict(x)
    except (ValueError, TypeError, IndexError) as error:
        if len(size) != 2:
            raise
        raise ValueError(
            f"cost_of: size is {size}, expected the number of channels too, because the net fails "
            f"on {shape[0]} channels, inferred from its first parameters: give "
            f"size=(channels, rows, columns); the net raised {type(error).__name__}: {error}"
        ) from error
    return twin, recorder.calls


def _record_output(
    forward: Callable[..., Any], name: str, recorder: Recorder, *arguments: Any, **settings: Any
) -> Any:
    """Run a layer's forward and record its output after the calls of its ops."""
    returned = forward(*arguments, **settings)
    recorder.calls.append(Call(name, OUTPUT, FORWARD, (), {}, None, (returned[0],), 0.0))
    return returned


def channels_of(net: Layer) -> int:
    """Return the number of input channels or features, inferred from the first parameters.

    Examples
    --------
    >>> from minise.nn import Chain, Conv2d, ReLU
    >>> channels_of(Chain(ReLU(), Conv2d(6, 8, 3, groups=2)))
    6
    """
    for _, module in net.layers():
        for array in module.params.values():
            if array.ndim:  # a scalar parameter has no channel axis
                inputs = array.shape[0] if array.ndim == 1 else array.shape[1]
                return int(inputs) * int(getattr(module, "groups", 1))
    return 3


def outputs_of(net: Layer) -> int:
    """Return the number of output channels or features, inferred from the last parameters.

    Examples
    --------
    >>> from minise.nn import Chain, Conv2d, GlobalAvgPool2d
    >>> outputs_of(Chain(Conv2d(3, 7, 3), GlobalAvgPool2d()))
    7
    """
    arrays = list(net.named_parameters().values())
    return int(arrays[-1].shape[0]) if arrays else 3


def _row(name: str, modules: list[Module], calls: list[Call], counted: set[int]) -> LayerCost:
    """Return one row; shared parameters count in the first layer that uses them."""
    own = [call for call in calls if call.layer == name and call.op != OUTPUT]
    arrays = {id(a): a for module in modules for a in module.params.values()}
    parameters = sum(array.size for key, array in arrays.items() if key not in counted)
    counted.update(arrays)
    kinds = dict.fromkeys(KIND_BY_OP.get(call.op) or _class_of(modules, call.op) for call in own)
    return LayerCost(
        name,
        ", ".join(kinds) or _class_of(modules),
        tuple(calls[-1].results[0].shape[1:]) if calls else (),
        parameters,
        sum(macs(call) for call in own),
        any(isinstance(module, SEBlock) for module in modules),
    )


def _class_of(modules: list[Module], op: str | None = None) -> str:
    """Return the class name of the first module that runs an op, or that has parameters.

    Several modules share a name where a composite gives its own name to layers inside it; the
    outermost comes first.
    """
    matches = [m for m in modules if (m.params if op is None else getattr(m, "op", None) == op)]
    return type([*matches, *modules][0]).__name__


def macs(call: Call) -> int:
    """Return the multiply-accumulates of one recorded forward call."""
    count = MACS_BY_OP.get(call.op)
    return count(call) if count else 0


def _conv2d(call: Call) -> int:
    weight = call.arrays[1]
    return call.results[0].size * prod(weight.shape[1:])


def _linear(call: Call) -> int:
    return call.results[0].size * call.arrays[1].shape[1]


def _squeeze_excite(call: Call) -> int:
    x, w1, w2 = call.arrays[0], call.arrays[1], call.arrays[3]
    gate_per_pixel = call.settings.get("squeeze") == "none"  # otherwise one gate per image
    gates = x.size // x.shape[1] if gate_per_pixel else len(x)
    return x.size + gates * (w1.size + w2.size)


def _se_block_tail(call: Call) -> int:
    x, w1, w2 = call.arrays[0], call.arrays[3], call.arrays[5]
    return x.size + len(x) * (w1.size + w2.size)


def _channel_scale(call: Call) -> int:
    return call.arrays[0].size


MACS_BY_OP: dict[str, Callable[[Call], int]] = {
    "conv2d": _conv2d,
    "linear": _linear,
    "squeeze_excite": _squeeze_excite,
    "se_block_tail": _se_block_tail,
    "channel_scale": _channel_scale,
}
KIND_BY_OP = {  # for ops that the layer's class does not name
    "add": "add",
    "relu": "ReLU",
    "batch_norm2d_relu": "BatchNorm2d, ReLU",
    "batch_norm2d_add_relu": "BatchNorm2d, add, ReLU",
    "se_block_tail": "SEBlock, add, ReLU",
}

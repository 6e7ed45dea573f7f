"""What a net costs: output shapes, parameters and multiply-accumulates (MACs) of every layer.

The figures are read off one recorded forward pass of one image, so they belong to the code that
trains. Counted as in the paper's tables (whose "GFLOPs" are MACs): the products of convolutions
and dense layers, the two dense layers of an SE block, and one multiplication for each number that
a gate scales. Normalisation, ReLU, pooling and sums are not counted.
"""

import copy
import operator
from collections.abc import Callable, Sequence
from functools import partial
from math import prod
from typing import Any, NamedTuple

import numpy as np

from minise.checks import check_integer
from minise.nn import Layer, SEBlock
from minise.nn.layer import Module
from minise.ops.wrap import FORWARD, Call, Recorder, attach, record

OUTPUT = ""  # in the place of an op's name: what a layer with parameters returned


class LayerCost(NamedTuple):
    """One line of the table: a layer that calls an op, or that has parameters."""

    layer: str
    kind: str  # the layer's class, and what is one op with it
    shape: tuple[int, ...]  # of its output, without the batch; () of a layer that is not run
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


def cost_of(net: Layer, size: int | Sequence[int] = (32, 32)) -> NetCost:
    """Return what every layer of a net costs for one image.

    Every layer with parameters has a row. What a layer computes in NumPy of its own, without an op,
    counts no MACs.

    Parameters
    ----------
    net : Layer
        A net or a layer; a copy of it is run once, in evaluation mode.
    size : int, (int, int), or (int, int, int) or (int,)
        Rows and columns of an image, one number if they are equal; it has as many channels as the
        first array of parameters takes. Or the whole shape of an input: (channels, rows, columns)
        or (features,).

    Raises
    ------
    ValueError, TypeError
        If size is no size, or the net cannot take an input of it.
    """
    twin, recorded_calls = _run(net, _as_size(size))
    modules: dict[str, list[Module]] = {}
    owners: dict[int, str] = {}
    for name, module in twin.layers():
        modules.setdefault(name, []).append(module)
        owners |= {id(array): name for array in module.params.values()}
    calls: dict[str, list[Call]] = {}
    for call in recorded_calls:  # a fused op may run more layers than the one that calls it
        own = {id(a) for module in modules[call.layer] for a in module.params.values()}
        others = [owners[id(a)] for a in call.arrays if id(a) in owners and id(a) not in own]
        for name in dict.fromkeys([*others, call.layer]):
            calls.setdefault(name, []).append(call)
    first_names = {id(module): name for name, module in reversed(list(twin.layers()))}
    for name, module in twin.layers():
        if module.params and first_names[id(module)] == name:
            calls.setdefault(name, [])  # forward did not run the layer
    counted: set[int] = set()
    return NetCost([_row(name, modules[name], calls[name], counted) for name in calls])


def _as_size(size: Any) -> tuple[int, ...]:
    """Return size as a tuple, and (size, size) of an integer."""
    if isinstance(size, np.ndarray):
        size = size.tolist()
    if hasattr(size, "__index__"):
        size = (size, size)
    if not isinstance(size, tuple | list) or not 1 <= len(size) <= 3:
        raise TypeError(
            f"cost_of: size is {size!r}, expected (rows, columns) or the whole shape of an input: "
            "give size=(channels, rows, columns)"
        )
    axes: Sequence[Any] = ("rows", "columns") if len(size) == 2 else range(len(size))
    for axis, number in zip(axes, size, strict=True):
        check_integer("cost_of", f"size ({axis})", number, 1)
    return tuple(map(operator.index, size))


def recorded(net: Layer, size: tuple[int, ...]) -> tuple[Layer, list[Call]]:
    """Return a copy of a net, and the calls of its ops for one input of zeros; size as of cost_of.

    It is evaluated by its forward, so that the ops are those of training.
    """
    twin, calls = _run(net, size)
    return twin, [call for call in calls if call.op != OUTPUT]


def _run(net: Layer, size: tuple[int, ...]) -> tuple[Layer, list[Call]]:
    """Return what `recorded` does, with a call OUTPUT where a layer with parameters returns."""
    shape = (channels_of(net), *size) if len(size) == 2 else size
    dtype = next((array.dtype for array in net.named_parameters().values()), np.float32)
    twin = copy.deepcopy(net)
    recorder = record(twin.ops)
    attach(twin, recorder)
    for name, module in twin.layers():
        if module.params and hasattr(module, "forward") and "forward" not in vars(module):
            vars(module)["forward"] = partial(_observed, module.forward, name, recorder)
    x = recorder.asarray(np.zeros((1, *shape)), dtype)
    try:
        twin.predict(x)
    except (ValueError, TypeError, IndexError) as error:
        if len(size) != 2:
            raise
        raise ValueError(
            f"cost_of: size is {size}, expected the channels too, as the net does not run on an "
            f"image with the {shape[0]} that its first parameters suggest: give "
            f"size=(channels, rows, columns); the net raised {type(error).__name__}: {error}"
        ) from error
    return twin, recorder.calls


def _observed(
    forward: Callable[..., Any], name: str, recorder: Recorder, *arguments: Any, **settings: Any
) -> Any:
    """Run a layer's forward, and record its output behind the calls of its ops."""
    returned = forward(*arguments, **settings)
    recorder.calls.append(Call(name, OUTPUT, FORWARD, (), {}, None, (returned[0],), 0.0))
    return returned


def channels_of(net: Layer) -> int:
    """Return how many channels or features a net takes, by its first array of parameters.

    Examples
    --------
    >>> from minise.nn import Chain, Conv2d, ReLU
    >>> channels_of(Chain(ReLU(), Conv2d(6, 8, 3, groups=2)))
    6
    """
    for _, module in net.layers():
        for array in module.params.values():
            if array.ndim:  # a single number tells nothing
                inputs = array.shape[0] if array.ndim == 1 else array.shape[1]
                return int(inputs) * int(getattr(module, "groups", 1))
    return 3


def outputs_of(net: Layer) -> int:
    """Return how many channels or features a net returns, by its last array of parameters.

    Examples
    --------
    >>> from minise.nn import Chain, Conv2d, GlobalAvgPool2d
    >>> outputs_of(Chain(Conv2d(3, 7, 3), GlobalAvgPool2d()))
    7
    """
    arrays = list(net.named_parameters().values())
    return int(arrays[-1].shape[0]) if arrays else 3


def _row(name: str, modules: list[Module], calls: list[Call], counted: set[int]) -> LayerCost:
    """Return one line; an array of parameters counts where it is met first."""
    own = [call for call in calls if call.layer == name and call.op != OUTPUT]
    arrays = {id(a): a for module in modules for a in module.params.values()}
    parameters = sum(array.size for key, array in arrays.items() if key not in counted)
    counted.update(arrays)
    kinds = dict.fromkeys(KINDS.get(call.op) or _class_of(modules, call.op) for call in own)
    return LayerCost(
        name,
        ", ".join(kinds) or _class_of(modules),
        tuple(calls[-1].results[0].shape[1:]) if calls else (),
        parameters,
        sum(macs(call) for call in own),
        any(isinstance(module, SEBlock) for module in modules),
    )


def _class_of(modules: list[Module], op: str | None = None) -> str:
    """Return the class of the layer that is an op, or that has parameters, among those of a name.

    A composite may give its own name to children: of several modules the outermost comes first.
    """
    fitting = [m for m in modules if (m.params if op is None else getattr(m, "op", None) == op)]
    return type([*fitting, *modules][0]).__name__


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

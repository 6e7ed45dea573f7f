"""Inputs of a net for analysis: the size of an image, and a copy of the net on shapes."""

import copy
import operator
from collections.abc import Sequence
from typing import Any

import numpy as np

from minise.checks import check_integer
from minise.nn import Layer
from minise.ops import cost
from minise.ops.backend import shaped
from minise.ops.wrap import Call, attach, record

Size = int | Sequence[int] | None


def size_of(net: Layer, size: Any, where: str = "cost_of") -> tuple[int, ...]:
    """Return a size as a tuple of integers, an integer as (size, size).

    If size is None, it is the net's own (models.Net), or (32, 32).
    """
    if size is None:
        size = getattr(net, "size", None) or (32, 32)
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
    sizes = size_of(net, size, where)
    return (channels_of(net), *sizes) if len(sizes) == 2 else sizes


def on_shapes(net: Layer, shapes: cost.Shapes) -> Layer:
    """Return a copy of a net on a back end of shapes; its arrays are not copied."""
    arrays = [array for kind in ("params", "state") for _, array in net.names(kind)]
    memo: dict[int, Any] = {id(a): shapes.shaped(a.shape, a.dtype) for a in arrays}
    twin = copy.deepcopy(net, memo)
    attach(twin, shapes)
    return twin


def batch_on(ops: Any, net: Layer, size: tuple[int, ...], batch_size: int) -> Any:
    """Return a batch of zeros for a net; without elements if ops computes shapes only."""
    dtype = next((array.dtype for array in net.named_parameters().values()), np.dtype(np.float32))
    shape = batch_size, *input_shape(net, size)
    zeros = shaped(ops, shape, dtype)
    return ops.asarray(np.zeros(shape), dtype) if zeros is None else zeros


def recorded(net: Layer, size: Size = None) -> list[Call]:
    """Return the op calls of one forward pass of a copy of a net on one image; size as in cost_of.

    The pass runs forward, not the folded inference, so that the ops are those of training. Arrays
    have shapes and no elements (minise/ops/cost).
    """
    shapes = cost.Shapes()
    twin = on_shapes(net, shapes)
    recorder = record(shapes)
    attach(twin, recorder)
    twin.predict(batch_on(shapes, twin, size_of(net, size), 1))
    return recorder.calls


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

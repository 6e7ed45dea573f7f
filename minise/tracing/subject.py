"""Run an op or a net forward and backward, with every line recorded.

The loss is ``<dout, out>``, the sum of elementwise products; its gradient with respect to out is
dout. A net with labels ends in softmax cross-entropy, with dout = 1.
"""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import Array
from minise.gradcheck.adapters import layer as adapt
from minise.gradcheck.slopes.arrays import promoted
from minise.nn.residual import NormAddReLU
from minise.ops.shapes import check_labels
from minise.ops.wrap import attach
from minise.tracing.recorder import LineRecorder, Replacement, argument_names

LOSS = "softmax_cross_entropy"


class Subject:
    """An op or a net whose lines are recorded and whose values can be replaced.

    Attributes
    ----------
    name : str
        Name of the op, or of the net's class.
    names, inputs : list
        The arrays of forward, with their names; for a net, its images and parameters.
    recorder : LineRecorder
        The recorder, with the calls of the last run.
    """

    def __init__(
        self,
        name: str,
        names: Sequence[str],
        inputs: Sequence[Any],
        recorder: LineRecorder,
        forward: Callable[..., tuple[Any, Any]],
        backward: Callable[[Array, Any], tuple[Any, ...]],
    ) -> None:
        self.name, self.names, self.inputs = name, list(names), list(inputs)
        self.recorder, self._forward, self._backward = recorder, forward, backward

    def forward(
        self, inputs: Sequence[Any], replacement: Replacement | None = None
    ) -> tuple[Array, Any]:
        """Return out and the cache; the recorder then has the calls."""
        self.recorder.start(replacement)
        return self._forward(*inputs)

    def backward(self, dout: Array, cache: Any) -> tuple[Any, ...]:
        """Return one gradient per input."""
        return self._backward(dout, cache)


def op_subject(
    ops: Any, file: Path | None, op: str, inputs: Sequence[Any], settings: dict[str, Any]
) -> Subject:
    """Return a Subject that runs one op of a back end on arrays, with settings."""
    recorder = LineRecorder(ops, file)

    def forward(*arrays: Any) -> tuple[Any, Any]:
        is_complex = any(np.iscomplexobj(array) for array in arrays if array is not None)
        keywords = {k: promoted(v) for k, v in settings.items()} if is_complex else settings
        return getattr(recorder, f"{op}_forward")(*arrays, **keywords)

    names = argument_names(getattr(ops, f"{op}_forward"), len(inputs))
    return Subject(op, names, inputs, recorder, forward, getattr(recorder, f"{op}_backward"))


def net_subject(
    ops: Any, file: Path | None, net: Any, x: Array, labels: Array | None, training: bool
) -> Subject:
    """Return a Subject that runs a copy of a net on `ops`, with a loss if labels are passed."""
    recorder = LineRecorder(ops, file)
    twin = copy.deepcopy(net)
    attach(twin, recorder)
    recorder.layers = layers_in_fused_ops(twin)
    net_forward, net_backward, params = adapt(twin, training)
    float_params = [np.asarray(array, np.float64) for array in params.values()]

    def forward(*arrays: Any) -> tuple[Any, Any]:
        out, cache = net_forward(*arrays)
        if labels is None:
            return out, (cache, None)
        check_labels(LOSS, labels, out.shape[-1])
        loss, loss_cache = recorder.softmax_cross_entropy_forward(out, labels)
        return loss, (cache, loss_cache)

    def backward(dout: Array, caches: Any) -> tuple[Any, ...]:
        cache, loss_cache = caches
        if labels is not None:
            dout, _ = recorder.softmax_cross_entropy_backward(dout, loss_cache)
        return net_backward(dout, cache)

    inputs, name = [x, *float_params], type(net).__name__
    return Subject(name, ["x", *params], inputs, recorder, forward, backward)


def layers_in_fused_ops(net: Any) -> dict[tuple[str, str], str]:
    """Return the layer of each op in a fused tail, by the layer that calls the tail and the op.

    The sum and the ReLU are the residual unit's own.
    """
    layers: dict[tuple[str, str], str] = {}
    for path, tail in net.layers():
        if isinstance(tail, NormAddReLU):
            below = [(f"{path}.{name}".strip("."), layer) for name, layer in tail.before.children()]
            caller = below[-1][0]  # as in NormAddReLU
            layers |= {(caller, op): path for op in ("add", "relu")}
            layers |= {(caller, layer.op): name for name, layer in below}
    return layers

"""Create, copy and update arrays; see minise.ops.reference.arrays."""

from typing import Any

from minise.checks import Array
from minise.ops.cuda.launcher import Launcher, blocks_of
from minise.ops.reference import arrays as reference


def asarray(gpu: Launcher, values: Any, dtype: Any = None) -> Array:
    """Return values as an array on the GPU."""
    return gpu.asarray(values, dtype)


def asnumpy(gpu: Launcher, array: Array) -> Array:
    """Return an array on the GPU as a NumPy array; waits for pending kernels."""
    return gpu.asnumpy(array)


def sgd_update(
    gpu: Launcher,
    param: Array,
    grad: Array,
    velocity: Array,
    *,
    rate: float,
    momentum: float,
    nesterov: bool,
    weight_decay: float,
) -> None:
    """See minise.ops.reference.sgd_update; one kernel per parameter."""
    if not (param.flags.c_contiguous and velocity.flags.c_contiguous):
        reference.sgd_update(
            param,
            grad,
            velocity,
            rate=rate,
            momentum=momentum,
            nesterov=nesterov,
            weight_decay=weight_decay,
        )
        return
    scalars = float(rate), float(momentum), int(nesterov), float(weight_decay), param.size
    arrays = param, grad, velocity
    gpu.launch("sgd.cu", "sgd_update", blocks_of(param.size), arrays, scalars, dtype=param.dtype)

"""Create, copy and update arrays; see minise.ops.reference.arrays."""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from minise.checks import Array
from minise.ops.cuda.launcher import ENTRIES, Launcher
from minise.ops.reference import arrays as reference

NUMBERS_PER_BLOCK = 2048  # as in sgd.cu


class Update(NamedTuple):
    """A parameter and what moves it."""

    param: Array
    grad: Array
    velocity: Array
    weight_decay: float


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
    """See minise.ops.reference.sgd_update."""
    settings: dict[str, Any] = dict(rate=rate, momentum=momentum, nesterov=nesterov)
    sgd_updates(gpu, [param], [grad], [velocity], weight_decays=[weight_decay], **settings)


def sgd_updates(
    gpu: Launcher,
    params: Sequence[Array],
    grads: Sequence[Array],
    velocities: Sequence[Array],
    *,
    rate: float,
    momentum: float,
    nesterov: bool,
    weight_decays: Sequence[float],
) -> None:
    """See minise.ops.reference.sgd_updates; one kernel updates up to 112 parameters."""
    settings: dict[str, Any] = dict(rate=rate, momentum=momentum, nesterov=nesterov)
    by_dtype: dict[Any, list[Update]] = {}
    for row in zip(params, grads, velocities, weight_decays, strict=True):
        update = Update(*row)
        if update.param.size == 0:
            continue
        if gpu.ready(update.param) and gpu.ready(update.velocity):
            by_dtype.setdefault(update.param.dtype, []).append(update)
        else:
            reference.sgd_update(*update[:3], weight_decay=update.weight_decay, **settings)
    for dtype, updates in by_dtype.items():
        most = ENTRIES[dtype.itemsize]
        for first in range(0, len(updates), most):
            _launch(
                gpu, updates[first : first + most], dtype, float(rate), float(momentum), nesterov
            )


def _launch(
    gpu: Launcher, updates: list[Update], dtype: Any, rate: float, momentum: float, nesterov: bool
) -> None:
    """Update parameters of one dtype by one kernel."""
    params, grads, velocities, decays = (list(column) for column in zip(*updates, strict=True))
    sizes = tuple(param.size for param in params)
    ends = tuple(accumulate(-(-size // NUMBERS_PER_BLOCK) for size in sizes))
    tables = sizes, (0, *ends[:-1]), tuple(map(float, decays))
    scalars = *tables, rate, momentum, int(nesterov), len(params)
    arrays = params, grads, velocities
    gpu.launch("sgd.cu", "sgd_updates", ends[-1], arrays, scalars, dtype=dtype)

"""Create, copy and update arrays; see minise.ops.reference.arrays.

`copies` and `sgd_updates` take many arrays and launch one kernel for all of a dtype (up to 112 at a
time), because a launch takes longer than the copy or the update of a small array.
"""

from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import Any, NamedTuple

from minise.checks import Array
from minise.ops.cuda.launcher import Launcher
from minise.ops.cuda.plan import ENTRIES, FLOATS
from minise.ops.reference import arrays as reference

NUMBERS_PER_BLOCK = 2048  # as in common.cuh


class Update(NamedTuple):
    """A parameter with its gradient, velocity and weight decay."""

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


def copies(gpu: Launcher, arrays: Sequence[Array]) -> list[Array]:
    """Return a copy of each array."""
    results = [gpu.xp.empty(array.shape, array.dtype) for array in arrays]
    pairs = list(zip(arrays, results, strict=True))
    for source, target in pairs:
        if source.dtype not in FLOATS:
            target[...] = source
    floats = [pair for pair in pairs if pair[0].dtype in FLOATS]
    for group in _groups(floats, lambda pair: pair[0]):
        sources, targets = (list(column) for column in zip(*group, strict=True))
        _launch(gpu, "copy.cu", "copies", (sources, targets))
    return results


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
    """Update many parameters and their velocities, each as reference.sgd_update does."""
    settings: dict[str, Any] = dict(rate=rate, momentum=momentum, nesterov=nesterov)
    contiguous = []
    for row in zip(params, grads, velocities, weight_decays, strict=True):
        update = Update(*row)
        _check_shapes(update)
        if gpu.ready(update.param) and gpu.ready(update.velocity):
            contiguous.append(update)
        else:
            reference.sgd_update(*update[:3], weight_decay=update.weight_decay, **settings)
    scalars = float(rate), float(momentum), int(nesterov)
    for group in _groups(contiguous, lambda update: update.param):
        *arrays, decays = (list(column) for column in zip(*group, strict=True))
        _launch(gpu, "sgd.cu", "sgd_updates", arrays, tuple(map(float, decays)), *scalars)


def _check_shapes(update: Update) -> None:
    """Raise ValueError if the shapes differ: the kernel takes the parameter's size for all."""
    param, grad, velocity, _ = update
    for name, array in (("grad", grad), ("velocity", velocity)):
        if getattr(array, "shape", param.shape) != param.shape:  # the launcher checks the type
            raise ValueError(
                f"sgd_update: {name} has shape {array.shape}, expected {param.shape} as param: "
                "pass the gradient and the velocity of this parameter"
            )


def _groups(rows: list[Any], array_of: Callable[[Any], Array]) -> Iterator[list[Any]]:
    """Yield the rows with non-empty arrays in groups of one dtype, which one kernel can take."""
    by_dtype: dict[Any, list[Any]] = {}
    for row in rows:
        if array_of(row).size:
            by_dtype.setdefault(array_of(row).dtype, []).append(row)
    for dtype, same in by_dtype.items():
        entries = ENTRIES[dtype.itemsize]
        yield from (same[first : first + entries] for first in range(0, len(same), entries))


def _launch(
    gpu: Launcher, file: str, kernel: str, arrays: Sequence[list[Array]], *scalars: Any
) -> None:
    """Launch a kernel over many arrays, whose sizes and first blocks are tables."""
    sizes = tuple(array.size for array in arrays[0])
    ends = tuple(accumulate(-(-size // NUMBERS_PER_BLOCK) for size in sizes))
    settings = sizes, (0, *ends[:-1]), *scalars, len(sizes)
    gpu.launch(file, kernel, ends[-1], arrays, settings, dtype=arrays[0][0].dtype)

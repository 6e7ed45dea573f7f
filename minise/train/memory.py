"""Find a batch size that fits into memory, for a training step that does not.

`check_memory` predicts before anything is allocated; `out_of_memory` tries, after a step failed.
"""

import traceback
from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any

from minise.analysis import memory_of
from minise.analysis.memory import bytes_text
from minise.nn import Layer
from minise.ops.backend import Backend, name_of
from minise.train.available import available
from minise.train.objective import Objective

CHECKED = ("reference", "jit")  # back ends whose memory is that of the machine, and was measured
MARGIN = 0.9  # share of the available bytes that the batch size in a message may need
_TOO_LARGE = "a batch of {} does not fit either: use a smaller net or smaller images"


class OutOfMemory(MemoryError):
    """Training needs more memory than is available; the message has a fix.

    For a training step, the fix is a batch size that fits.
    """


def check_memory(
    net: Layer | str,
    batch_size: int,
    size: Any = (32, 32),
    *,
    ops: Backend | str,
    accumulate: int = 1,
    data_bytes: int = 0,
    **settings: Any,
) -> None:
    """Raise OutOfMemory if a training step is predicted to need more memory than is available.

    No array is allocated. The prediction is approximate (analysis.memory_of), so a step that passes
    this check may still fail. Not checked: the back end cuda, a back end of the user's own, and
    systems that do not report how much memory is available.

    Parameters
    ----------
    net : Layer or str
        The net, whose parameters and velocities are in memory already, or the name of a model.
    batch_size, size
        Images of a batch, and the size of an image as in analysis.cost_of.
    ops : back end or str
        The back end, or its name as in TrainConfig.
    accumulate : int
        Number of batches of an optimiser step, for the message.
    data_bytes : int
        Bytes of images that are still to be loaded.
    **settings
        Arguments of models.build for the name of a model.

    Raises
    ------
    OutOfMemory
        The message says how much is needed and available, and the largest batch size that fits
        into nine tenths of it, as predictions err by up to a tenth.
    ValueError, TypeError
        If the model or a setting is wrong, or the model cannot process such images.
    """
    name = ops if isinstance(ops, str) else name_of(ops)
    left = available() if name in CHECKED else None
    if left is None:
        return

    @cache
    def needed(images: int) -> int:
        predict = _memory_of_model if isinstance(net, str) else memory_of
        memory = predict(net, images, tuple(size), name, **settings)
        own = memory.parameters + memory.statistics + memory.velocities
        return memory.peak - (0 if isinstance(net, str) else own) + data_bytes

    try:
        if needed(batch_size) <= left.bytes:
            return
    except Exception:
        if isinstance(net, str):
            raise
        return  # a user's layer may read elements; training reports what is wrong
    largest = _largest(needed, batch_size, int(MARGIN * left.bytes))
    remedy = _remedy(largest, batch_size, accumulate) if largest else _TOO_LARGE.format(1)
    raise OutOfMemory(
        f"train: a step on a batch of {batch_size} needs {bytes_text(needed(batch_size))}, but "
        f"{bytes_text(left.bytes)} are available {left.where}: {remedy}"
    )


_memory_of_model = lru_cache(memory_of)  # a process may train one model many times


def _largest(needed: Callable[[int], int], too_many: int, max_bytes: int) -> int:
    """Return the largest batch size that needs at most max_bytes, below too_many; 0 if none.

    Memory grows almost linearly with the batch size, so each guess is a linear interpolation.
    """
    if needed(1) > max_bytes:
        return 0
    fits = 1
    while too_many - fits > 1:
        slope = (needed(too_many) - needed(fits)) / (too_many - fits)
        guess = fits + int((max_bytes - needed(fits)) / slope)
        guess = min(max(guess, fits + 1), too_many - 1)
        if needed(guess) <= max_bytes:
            fits = guess
        else:
            too_many = guess
    return fits


def lack_of_memory(where: str, error: MemoryError) -> str:
    """Return the message of an OutOfMemory, or a similar message for another MemoryError."""
    if isinstance(error, OutOfMemory):
        return str(error)
    return (
        f"{where}: there is not enough memory ({_reason(error)}): use fewer or smaller images or "
        "a smaller net, or end other programs"
    )


def _reason(error: MemoryError) -> str:
    return str(error).partition("\n")[0] or "allocation failed"


def out_of_memory(
    error: MemoryError, net: Layer, objective: Objective, batch: tuple[Any, Any]
) -> OutOfMemory:
    """Return an error whose message has a batch size that fits: a half, a quarter, … of the batch.

    The size is found by trial; the trials change the net's state, such as running statistics.
    """
    traceback.clear_frames(error.__traceback__)  # they hold the arrays of the failed step
    x, targets = batch
    size, failed = len(x) // 2, len(x)
    while size and not _fits(net, objective, x[:size], targets[:size]):
        size, failed = size // 2, size
    remedy = _remedy(size, len(x)) if size else _TOO_LARGE.format(failed)
    return OutOfMemory(
        f"train: a step on a batch of {len(x)} does not fit into memory "
        f"({_reason(error)}): {remedy}"
    )


def _remedy(size: int, batch_size: int, accumulate: int = 1) -> str:
    parts = -(-batch_size // size) * accumulate
    return (
        f"a batch of {size} fits: use --batch-size {size}, with --accumulate {parts} for "
        "gradients over as many images as before"
    )


def _fits(net: Layer, objective: Objective, x: Any, targets: Any) -> bool:
    """Return True if forward and backward of a batch fit into memory."""
    try:
        out, cache = net.forward(net.ops.asarray(x), training=True)
        _, loss_cache = objective.forward(out, targets)
        net.backward(objective.backward(loss_cache), cache, needs_dx=False)
    except MemoryError as error:
        traceback.clear_frames(error.__traceback__)
        return False
    return True

"""Find a batch size that fits into memory, for a training step that does not."""

import traceback
from typing import Any

from minise.nn import Layer
from minise.train.objective import Objective


class OutOfMemory(MemoryError):
    """Training needs more memory than is available; the message has a fix.

    For a training step, the fix is a batch size that fits.
    """


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
    if not size:
        remedy = f"a batch of {failed} does not fit either: use a smaller net or smaller images"
    else:
        parts = -(-len(x) // size)
        remedy = (
            f"a batch of {size} fits: use --batch-size {size}, with --accumulate {parts} for "
            "gradients over as many images as before"
        )
    return OutOfMemory(
        f"train: a step on a batch of {len(x)} does not fit into memory "
        f"({_reason(error)}): {remedy}"
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

"""One step of training.

out, cache = net.forward(x, training=True)
loss, loss_cache = objective.forward(out, targets)
_, grads = net.backward(objective.backward(loss_cache), cache)
optimiser.step(grads, lr)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minise.nn import Layer, total
from minise.nn.layer import Grads
from minise.train.batches import check_batches
from minise.train.objective import Objective, check_objective, figures_of, loss_of
from minise.train.sgd import SGD

ON_HOST = np.ndarray | np.generic | float  # losses that can be looked at without a wait


def train_step(
    net: Layer,
    objective: Objective,
    optimiser: SGD,
    batches: Sequence[tuple[Any, Any]],
    lr: float,
) -> dict[str, float]:
    """Take one step on the mean loss of one or several batches.

    Parameters
    ----------
    net, objective, optimiser
        As of `run`.
    batches : sequence of (inputs, targets)
        Their gradients are added up, each batch in proportion to its inputs.
    lr : float
        Learning rate.

    Returns
    -------
    dict of str to float
        The loss before the step and the objective's metrics. Where the loss is not finite,
        parameters and state are as they were. (On a GPU they are lost: to look at the loss of
        each batch would be to wait for it.) Only the loss is checked: gradients with NaN or
        infinity at a finite loss make the parameters so too; wrap.guarded finds where they arise.

    Raises
    ------
    ValueError, TypeError
        If a batch, the objective, the optimiser or lr is not as described here; then parameters
        and state are as they were.
    """
    check_parts("train_step", net, objective, optimiser)
    check_batches("train_step", "batches", batches)
    ops, count = net.ops, sum(len(x) for x, _ in batches)
    held = net.named_state()
    state = {name: array.copy() for name, array in held.items()}
    grads: Grads = {}
    sums: dict[str, float] = {}
    refused = False
    try:
        for x, targets in batches:
            share = len(x) / count
            out, cache = net.forward(ops.asarray(x), training=True)
            loss, loss_cache = loss_of("train_step", objective, out, targets)
            refused = isinstance(loss, ON_HOST) and not np.isfinite(loss)
            if not refused:
                dout = objective.backward(loss_cache)
                if len(batches) > 1:
                    dout = dout * ops.asarray(share, dout.dtype)
                grads = total(grads, net.backward(dout, cache, needs_dx=False)[1])
            for name, mean in figures_of("train_step", objective, loss, out, targets).items():
                sums[name] = sums.get(name, 0.0) + mean * share
            if refused:
                break
        if not refused:
            optimiser.step(grads, lr)
            state = {}
    finally:
        for name, array in state.items():  # the step was refused: what forward did is undone
            held[name][...] = array
    return sums


def check_parts(where: str, net: Any, objective: Any, optimiser: Any) -> None:
    """Refuse an objective and an optimiser that lack what a step of the net needs."""
    check_objective(where, "objective", objective, "forward", "backward", "metrics")
    if not all(hasattr(optimiser, name) for name in ("net", "step", "velocity")):
        raise TypeError(
            f"{where}: optimiser is a {type(optimiser).__name__}, expected an optimiser such as "
            "train.SGD: pass SGD(net)"
        )
    if optimiser.net is not net:
        raise ValueError(f"{where}: the optimiser is of another net: pass SGD(net)")

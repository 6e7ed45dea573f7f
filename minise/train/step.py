"""One training step.

out, cache = net.forward(x, training=True)
loss, loss_cache = objective.forward(out, targets)
_, grads = net.backward(objective.backward(loss_cache), cache)
optimiser.step(grads, lr)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from minise.checks import Array
from minise.nn import Layer, total
from minise.nn.layer import Grads
from minise.ops.backend import copies
from minise.ops.guard import RESULT, NonFiniteError, check_finite, unguarded
from minise.ops.wrapper import FORWARD
from minise.train.batches import check_batches
from minise.train.means import HOST_TYPES
from minise.train.objective import Objective, check_objective, forward_loss, loss_and_metrics
from minise.train.sgd import SGD


def train_step(
    net: Layer,
    objective: Objective,
    optimiser: SGD,
    batches: Sequence[tuple[Any, Any]],
    lr: float,
) -> dict[str, Any]:
    """Take one optimiser step on the mean loss of one or more batches.

    Parameters
    ----------
    net, objective, optimiser
        As for `run`.
    batches : sequence of (inputs, targets)
        Batches whose gradients are summed, each weighted by its share of the inputs.
    lr : float
        Learning rate.

    Returns
    -------
    dict of str to float
        The loss before the step and the objective's metrics; on a GPU arrays of shape (), so that
        no step waits for the GPU. If the loss is not finite, parameters
        and state are unchanged. (On a GPU they are lost, because reading the loss of each batch
        would synchronise.) Only the loss is checked: if it is finite but a gradient has NaN or
        infinity, the parameters become NaN or infinite; wrap.guarded finds the first op.

    Raises
    ------
    ValueError, TypeError
        If a batch, the objective, the optimiser or lr is invalid; then parameters and state are
        unchanged.
    NonFiniteError
        If the net has a guard (wrap.guarded) that finds a NaN or an infinity, also in the loss or
        in the update; then parameters and state are unchanged.
    """
    check_parts("train_step", net, objective, optimiser)
    check_batches("train_step", "batches", batches)
    ops, count = net.ops, sum(len(x) for x, _ in batches)
    state = net.named_state()
    saved = dict(zip(state, copies(ops, list(state.values())), strict=True))
    grads: Grads = {}
    sums: dict[str, Any] = {}
    refused = False
    try:
        for x, targets in batches:
            share = len(x) / count
            out, cache = net.forward(ops.asarray(x), training=True)
            loss, loss_cache = forward_loss("train_step", objective, out, targets)
            if unguarded(ops) is not ops:  # the objective may have no guard
                check_loss(objective, loss, out)
            refused = isinstance(loss, HOST_TYPES) and not np.isfinite(loss)
            if not refused:
                dout = objective.backward(loss_cache)
                if len(batches) > 1:
                    dout = dout * ops.asarray(share, dout.dtype)
                grads = total(grads, net.backward(dout, cache, needs_dx=False)[1])
            for name, mean in loss_and_metrics("train_step", objective, loss, out, targets).items():
                term = mean if len(batches) == 1 else mean * share
                sums[name] = sums[name] + term if name in sums else term
            if refused:
                break
        if not refused:
            optimiser.step(grads, lr)
            saved = {}
    except NonFiniteError as error:
        error.batches, error.lr = batches, lr
        raise
    finally:
        for name, array in saved.items():  # the step failed: undo forward's updates of the state
            state[name][...] = array
    return sums


def check_loss(objective: Objective, loss: Any, out: Array) -> None:
    """Raise NonFiniteError if the loss of an objective is not finite."""
    losses = {"loss": loss if hasattr(loss, "dtype") else np.asarray(loss)}
    check_finite(("", type(objective).__name__, FORWARD, RESULT), losses, {"out": out})


def check_parts(where: str, net: Any, objective: Any, optimiser: Any) -> None:
    """Raise if the objective or the optimiser lacks a method or attribute, or the net differs."""
    check_objective(where, "objective", objective, "forward", "backward", "metrics")
    if not all(hasattr(optimiser, name) for name in ("net", "step", "velocity")):
        raise TypeError(
            f"{where}: optimiser is a {type(optimiser).__name__}, expected an optimiser such as "
            "train.SGD: pass SGD(net)"
        )
    if optimiser.net is not net:
        raise ValueError(f"{where}: optimiser is for another net: pass SGD(net)")

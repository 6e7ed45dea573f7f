"""Lines and messages about a run in progress."""

from typing import Any

from minise.checks import Array
from minise.train.finite import NonFiniteState, check_state
from minise.train.objective import SoftmaxCrossEntropy
from minise.train.sgd import optimiser_state
from minise.train.training import Training
from minise.train.verdict import verdict


def epoch_line(metrics: dict[str, Any], epochs: int) -> str:
    """Return the line about a finished epoch."""
    accuracy = f"  train {metrics['accuracy']:.2%}" if "accuracy" in metrics else ""
    val = ""
    if "val_accuracy" in metrics:
        val = f"  val {metrics['val_accuracy']:.2%}"
    elif "val_loss" in metrics:
        val = f"  val loss {metrics['val_loss']:.4f}"
    return (
        f"epoch {metrics['epoch']}/{epochs}  loss {metrics['loss']:.4f}{accuracy}{val}  "
        f"{metrics['images_per_second']:.0f} images/s  {metrics['seconds']:.0f} s"
    )


def divergence(training: Training, loss: float, step: int) -> str:
    """Return the message about a loss that is not finite at a step, counted from 1."""
    cause = (
        "every parameter, running statistic and velocity is finite, so the inputs are not, or "
        "activations overflow"
    )
    try:
        check_state(training.net, optimiser_state(training.optimiser))
    except NonFiniteState as error:
        cause = str(error)
    epoch, lr = (step - 1) // training.steps + 1, training.lr_at(step)
    where = f"the loss is {loss} at step {step} (epoch {epoch}, lr {lr:.3g}); {cause}"
    return f"{where}: {remedy(training)}"


def remedy(training: Training) -> str:
    """Return what to do against NaN and infinity."""
    return (
        f"lower the highest learning rate ({training.lr:g}) or lengthen the warmup "
        f"({training.warmup:g}); to find the layer and op with the first NaN or infinity, use "
        "`minise train --guard`, or in Python wrap.attach(net, wrap.guarded(net.ops))"
    )


def remark(training: Training, counts: Array | None) -> str | None:
    """Return the `verdict` about a run whose epochs are finished, or None."""
    names, losses = training.data.get("classes"), [e["loss"] for e in training.state.epochs]
    softmax = isinstance(training.objective, SoftmaxCrossEntropy)
    classes = len(names) if names and softmax else None
    tested = counts if training.test is not None else None
    return verdict(losses, training.lr, training.epochs * training.steps, classes, tested)

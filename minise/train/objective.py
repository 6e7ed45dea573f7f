"""Objectives: the loss that training minimises, a function of a net's output and the targets."""

from collections.abc import Mapping
from numbers import Real
from typing import Any, Protocol

from minise.checks import Array, check_number
from minise.ops import reference
from minise.ops.backend import Backend, load_ops
from minise.train.means import HOST_TYPES

# Names in metrics.jsonl that no metric may have; nor may it begin with VALIDATION_PREFIX.
RESERVED = {
    "kind",
    "loss",
    "lr",
    "rate",  # the name of lr in older files
    "epoch",
    "step",
    "seconds",
    "training_seconds",
    "images_per_second",
    "not_finite",
    "remark",
}
VALIDATION_PREFIX = "val_"


class Objective(Protocol):
    """A loss with a layer's contract: the caller of forward holds the cache."""

    def forward(self, out: Array, targets: Any) -> tuple[Array, Any]:
        """Return the mean loss over the batch, an array of shape (), and the cache."""
        ...

    def backward(self, cache: Any) -> Array:
        """Return the gradient of the loss with respect to out."""
        ...

    def metrics(self, out: Array, targets: Any) -> Mapping[str, Any]:
        """Return further metrics by name, such as the accuracy: means over the batch.

        A value is a number or an array of shape (). Leave arrays on the GPU: training reads them
        when it logs them, so that no step waits for the GPU.
        """
        ...


class SoftmaxCrossEntropy:
    """Mean cross-entropy of the softmax of logits (N, K), in nats; targets are labels (N,).

    Parameters
    ----------
    ops : back end or str
        The back end of the net, or its name.
    label_smoothing : float
        Probability that is spread evenly over all classes in the targets, 0..1.
    """

    def __init__(self, ops: Backend | str = reference, *, label_smoothing: float = 0.0) -> None:
        self.ops: Backend = load_ops(ops) if isinstance(ops, str) else ops
        self.label_smoothing = check_number(
            "SoftmaxCrossEntropy", "label_smoothing", label_smoothing, "a number from 0 to 1", 0, 1
        )
        self._ones: dict[Any, Array] = {}  # dloss by dtype: a copy to a GPU in each step costs time

    def forward(self, out: Array, targets: Any) -> tuple[Array, Any]:
        """Return the loss and the cache; targets are integers 0..K-1."""
        smoothing = {"label_smoothing": self.label_smoothing}
        labels = self.ops.asarray(targets)
        loss, cache = self.ops.softmax_cross_entropy_forward(out, labels, **smoothing)
        return loss, (out.dtype, cache)

    def backward(self, cache: Any) -> Array:
        """Return dlogits."""
        dtype, inner = cache
        if dtype not in self._ones:
            self._ones[dtype] = self.ops.asarray(1, dtype)
        dlogits, _ = self.ops.softmax_cross_entropy_backward(self._ones[dtype], inner)
        return dlogits

    def metrics(self, out: Array, targets: Any) -> dict[str, Any]:
        """Return the accuracy, 0..1, an array of shape () on a GPU."""
        hits = out.argmax(axis=1) == self.ops.asarray(targets)
        return {"accuracy": hits.mean()}


def check_objective(where: str, title: str, objective: Any, *methods: str) -> None:
    """Raise TypeError if an objective is a class, or lacks one of the methods."""
    if isinstance(objective, type):
        name = objective.__name__
        raise TypeError(
            f"{where}: {title} is the class {name}, expected an object of it: pass {name}(...)"
        )
    missing = [name for name in methods if not callable(getattr(objective, name, None))]
    if missing:
        raise TypeError(
            f"{where}: {title} is a {type(objective).__name__} without {' and '.join(missing)}, "
            "expected a loss such as train.SoftmaxCrossEntropy: pass SoftmaxCrossEntropy(net.ops)"
        )


def forward_loss(where: str, objective: Objective, out: Array, targets: Any) -> tuple[Array, Any]:
    """Run objective.forward; check that it returns a loss of shape () and a cache."""
    result = objective.forward(out, targets)
    name = f"{type(objective).__name__}.forward"
    if not isinstance(result, tuple | list) or len(result) != 2:
        kind = type(result).__name__
        raise TypeError(f"{where}: {name} returns a {kind}, expected a pair: return loss, cache")
    loss, cache = result
    shape = getattr(loss, "shape", () if isinstance(loss, Real) else None)
    if shape != ():
        received = f"a {type(loss).__name__}" if shape is None else f"of shape {shape}"
        raise TypeError(
            f"{where}: the loss of {name} is {received}, expected a number of shape (): "
            "return the mean over the batch"
        )
    return loss, cache


def loss_and_metrics(
    where: str, objective: Objective, loss: Array, out: Array, targets: Any
) -> dict[str, Any]:
    """Return the loss and the objective's metrics by name; check the metrics.

    Values are floats, or arrays of shape () on a GPU, which are not read: see Objective.metrics.
    """
    metrics, name = objective.metrics(out, targets), f"{type(objective).__name__}.metrics"
    if not isinstance(metrics, dict):
        kind = type(metrics).__name__
        raise TypeError(f"{where}: {name} returns a {kind}, expected a dict: return {{}} if none")
    for metric, value in metrics.items():
        if (
            not isinstance(metric, str)
            or metric in RESERVED
            or metric.startswith(VALIDATION_PREFIX)
        ):
            raise ValueError(
                f"{where}: {name} has {metric!r}, expected a name other than "
                f"{', '.join(sorted(RESERVED))} and {VALIDATION_PREFIX}…: rename the metric"
            )
        if not isinstance(value, Real) and getattr(value, "shape", None) != ():
            shape = getattr(value, "shape", None)
            kind = type(value).__name__ + ("" if shape is None else f" of shape {shape}")
            raise TypeError(
                f"{where}: {metric} of {name} is a {kind}, expected a number: return its mean "
                "over the batch"
            )
    values = {"loss": loss, **metrics}
    return {k: float(v) if isinstance(v, HOST_TYPES | Real) else v for k, v in values.items()}

"""Objectives: what training minimises, as a function of a net's output and the targets."""

from typing import Any, Protocol

import numpy as np

from minise.ops import reference
from minise.ops.backend import Backend
from minise.ops.checks import Array


class Objective(Protocol):
    """A loss under the contract of the layers; whoever calls forward holds the cache."""

    def forward(self, out: Array, targets: Any) -> tuple[Array, Any]:
        """Return the loss, the mean over the batch, an array of shape (), and the cache."""
        ...

    def backward(self, cache: Any) -> Array:
        """Return the gradient of the loss with respect to out."""
        ...

    def metrics(self, out: Array, targets: Any) -> dict[str, float]:
        """Return what else is reported, by name: means over the batch, such as the accuracy."""
        ...


class SoftmaxCrossEntropy:
    """Mean cross-entropy of the softmax of logits (N, K), in nats; targets are labels (N,).

    Parameters
    ----------
    ops : back end
        That of the net.
    label_smoothing : float
        Share of the wanted probability that is spread over all classes, 0..1.
    """

    def __init__(self, ops: Backend = reference, *, label_smoothing: float = 0.0) -> None:
        self.ops, self.label_smoothing = ops, label_smoothing

    def forward(self, out: Array, targets: Any) -> tuple[Array, Any]:
        """Return the loss and the cache; targets are integers 0..K-1."""
        smoothing = {"label_smoothing": self.label_smoothing}
        labels = self.ops.asarray(targets)
        loss, cache = self.ops.softmax_cross_entropy_forward(out, labels, **smoothing)
        return loss, (out.dtype, cache)

    def backward(self, cache: Any) -> Array:
        """Return dlogits."""
        dtype, inner = cache
        dlogits, _ = self.ops.softmax_cross_entropy_backward(self.ops.asarray(1, dtype), inner)
        return dlogits

    def metrics(self, out: Array, targets: Any) -> dict[str, float]:
        """Return the accuracy, 0..1."""
        hits = self.ops.asnumpy(out).argmax(axis=1) == np.asarray(targets)
        return {"accuracy": float(hits.mean())}

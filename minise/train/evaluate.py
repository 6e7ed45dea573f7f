"""Evaluate a net on a data set: mean loss and metrics, and a confusion matrix."""

from collections.abc import Callable
from typing import Any

import numpy as np

from minise.checks import Array, check_integer, check_within
from minise.data import ten_crops
from minise.nn import Layer
from minise.ops.guard import NonFiniteError
from minise.ops.shapes import check_arrays, check_labels
from minise.train.batches import BatchSource, check_batch, check_batches, epoch_batches
from minise.train.means import Means
from minise.train.objective import Objective, check_objective, forward_loss, loss_and_metrics


def evaluate(
    net: Layer,
    batches: BatchSource,
    objective: Objective,
    observe: Callable[[Array, Any], None] | None = None,
    *,
    predict: Callable[[Array], Array] | None = None,
) -> dict[str, float]:
    """Return the mean loss and metrics of a net in evaluation mode over a data set.

    Parameters
    ----------
    net : Layer
        The net, in evaluation mode.
    batches
        Pairs of inputs and targets, neither shuffled nor augmented (see train.run).
    objective : Objective
        Computes the loss and the metrics.
    observe : callable, optional
        Called with each batch's output and targets, such as a Confusion. Arrays of the back end,
        such as those on a GPU, are passed as NumPy's.
    predict : callable, optional
        Computes the output of a batch of inputs, such as `ten_crop_logits`; by default
        net.inference().

    Raises
    ------
    ValueError, TypeError
        If there is no batch, a batch is not a pair, or the objective does not return numbers.
    """
    check_batches("evaluate", "batches", batches)
    check_objective("evaluate", "objective", objective, "forward", "metrics")
    predict = predict or net.inference()
    means = Means()
    for batch in epoch_batches(batches, 0):
        check_batch("evaluate", "a batch", batch)
        x, targets = batch
        try:
            out = predict(net.ops.asarray(x))
            loss, _ = forward_loss("evaluate", objective, out, targets)
        except NonFiniteError as error:
            error.batches = [(x, targets)]
            raise
        means.add(loss_and_metrics("evaluate", objective, loss, out, targets), len(x))
        if observe is not None:
            on_host = net.ops.asnumpy(targets) if isinstance(targets, type(out)) else targets
            observe(net.ops.asnumpy(out), on_host)
    if not means.count:
        raise ValueError("evaluate: the number of batches is 0, expected at least one")
    means.read()
    return means.means()


def ten_crop_logits(net: Layer, height: int, width: int) -> Callable[[Array], Array]:
    """Return a function from images to the net's output, averaged over ten crops of each image.

    Parameters
    ----------
    net : Layer
        A net whose output is logits (N, K).
    height, width : int
        Rows and columns of a crop: those of the training images.

    Returns
    -------
    callable
        From images (N, C, H, W), at least as large as the crops, to the logarithm (N, K) of the
        softmax's probabilities, averaged over `data.ten_crops`.

    Notes
    -----
    Source: Krizhevsky et al., "ImageNet classification with deep convolutional neural networks",
    NIPS 2012, section 4.1.
    """
    inference = net.inference()

    def predict(images: Array) -> Array:
        crops = [net.ops.asnumpy(inference(crop)) for crop in ten_crops(images, height, width)]
        scores = np.stack(crops).astype(np.float64)  # (10, N, K)
        scores -= scores.max(axis=2, keepdims=True)
        scores -= np.log(np.exp(scores).sum(axis=2, keepdims=True))
        mean = np.logaddexp.reduce(scores) - np.log(len(scores))
        return net.ops.asarray(mean.astype(crops[0].dtype))

    return predict


class Confusion:
    """A confusion matrix.

    Attributes
    ----------
    counts : ndarray of shape (classes, classes)
        Number of images by label (row) and prediction (column).
    ranks : ndarray of shape (classes,)
        Number of images by the rank of their label among the logits, 0 for the largest.
    """

    def __init__(self, classes: int) -> None:
        check_integer("Confusion", "classes", classes, 1)
        self.counts = np.zeros((classes, classes), np.int64)
        self.ranks = np.zeros(classes, np.int64)

    def __call__(self, logits: Array, labels: Array) -> None:
        """Add the counts of a batch of logits (N, classes) and labels (N,)."""
        labels, classes = np.asarray(labels), len(self.counts)
        outputs = check_arrays("Confusion", "logits: N K, labels: N int", logits, labels)["K"]
        if outputs != classes:
            raise ValueError(
                f"Confusion: classes is {classes}, expected {outputs}, the columns of logits: "
                'name every output of the net, in data["classes"] of a run'
            )
        check_labels("Confusion", labels, classes)
        np.add.at(self.counts, (labels, logits.argmax(axis=1)), 1)
        own = np.take_along_axis(logits, labels[:, None].astype(np.int64), axis=1)
        before = (logits == own) & (np.arange(classes) < labels[:, None])  # as argmax chooses
        np.add.at(self.ranks, ((logits > own) | before).sum(axis=1), 1)

    def top_error(self, count: int) -> float:
        """Return the fraction of images whose label is not among the `count` largest logits."""
        check_within("top_error", "count", count, 1, len(self.ranks), "there are no more classes")
        return float(self.ranks[count:].sum() / self.ranks.sum())

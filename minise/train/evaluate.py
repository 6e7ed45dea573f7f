"""How good a net is on a data set: loss, accuracy, and which class it takes for which."""

from typing import Any, NamedTuple

import numpy as np

from minise.data import Batches
from minise.ops.checks import Array


class Evaluation(NamedTuple):
    """Figures of a net on a data set."""

    loss: float  # mean cross-entropy, in nats
    accuracy: float  # 0..1
    confusion: Array  # (classes, classes) counts: row the label, column the prediction


def evaluate(net: Any, batches: Batches, classes: int) -> Evaluation:
    """Run a net in evaluation mode over a data set, once.

    Parameters
    ----------
    net : Net
        From images to logits, by what net.inference() returns.
    batches : Batches
        Neither shuffled nor augmented, with the mean and deviation of the training images.
    classes : int
        How many columns logits have.
    """
    predict = net.inference()
    loss, confusion = 0.0, np.zeros((classes, classes), np.int64)
    for images, labels in batches.epoch(0):
        logits = predict(net.ops.asarray(images))
        mean, _ = net.ops.softmax_cross_entropy_forward(logits, net.ops.asarray(labels))
        loss += float(mean) * len(labels)
        np.add.at(confusion, (labels, net.ops.asnumpy(logits).argmax(axis=1)), 1)
    count = int(confusion.sum())
    return Evaluation(loss / count, float(confusion.trace()) / count, confusion)

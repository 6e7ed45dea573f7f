"""Detect finished runs that have learned nothing or have diverged without NaN."""

import math
from typing import Any

import numpy as np

from minise.checks import Array

STANDARD_ERRORS = 2  # an accuracy less far above chance level may be due to chance
MIN_STEPS = 100  # with fewer, a loss near the initial one means that the run was too short
MAX_RATIO_TO_INITIAL = 2.0  # of a loss that is near the initial one


def verdict(
    losses: list[float],
    lr: float,
    steps: int,
    classes: int | None = None,
    counts: Array | None = None,
) -> str | None:
    """Return a line about a run that diverged or ended at chance level, otherwise None.

    Parameters
    ----------
    losses : list of float
        Mean training loss of each epoch.
    lr : float
        The highest learning rate, for the remedy.
    steps : int
        Number of optimiser steps, for the remedy.
    classes : int, optional
        Number of classes, if the loss is the cross-entropy of a softmax over them: equal
        probabilities have a loss of ln(classes).
    counts : ndarray of shape (labels, predictions), optional
        Confusion matrix of the test images.

    Returns
    -------
    str or None
        The observations and the remedy, such as "…: lower lr (0.2) or lengthen the warmup".

    Notes
    -----
    Chance level is the accuracy that these predictions would have, on average, if they did not
    depend on the images: the sum over classes of the fraction of labels times the fraction of
    predictions. So a net that always predicts the most frequent class is at chance level.
    """
    diverged = _divergence(losses, classes)
    chance = None if counts is None else _chance(counts)
    observations = [text for text in (diverged, chance) if text]
    if not observations:
        return None
    lower, longer = f"lower lr ({lr:g}) or lengthen the warmup", "train for more epochs"
    if steps < MIN_STEPS and losses[-1] <= MAX_RATIO_TO_INITIAL * _initial_loss(losses, classes):
        remedy = f"{longer}, because the run has only {steps:,} steps"
    else:
        remedy = lower if diverged else f"{longer}, {lower}"
    return f"{'; '.join(observations)}: {remedy}"


def _initial_loss(losses: list[float], classes: int | None) -> float:
    return abs(losses[0]) if classes is None or classes < 2 else math.log(classes)


def _divergence(losses: list[float], classes: int | None) -> str | None:
    first, last = losses[0], losses[-1]
    if classes is not None and classes > 1 and last > math.log(classes):
        return (
            f"the training loss of the last epoch is {last:.4g}, above ln({classes}) = "
            f"{math.log(classes):.4g}, the loss of equal probabilities"
        )
    if last > first:
        return f"the training loss rose from {first:.4g} in the first epoch to {last:.4g}"
    return None


def _chance(counts: Any) -> str | None:
    images = int(counts.sum())
    labels, predictions = counts.sum(axis=1) / images, counts.sum(axis=0) / images
    if np.count_nonzero(labels) < 2:  # every prediction of the only class is correct
        return None
    accuracy, chance = np.trace(counts) / images, float(labels @ predictions)
    noise = STANDARD_ERRORS * math.sqrt(chance * (1 - chance) / images)
    if accuracy > chance + noise:
        return None
    return (
        f"the test accuracy is {accuracy:.2%}, not above chance level ({chance:.2%}) by more than "
        f"noise ({noise:.2%} for {images:,} images)"
    )

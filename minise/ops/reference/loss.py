"""Softmax and cross-entropy in one op, which never takes the logarithm of a rounded probability.

    shifted  = logits - max(logits)                   (N, K)    the softmax does not change
    logprob  = shifted - log(sum exp(shifted))        (N, K)    exponents are at most 0: no overflow
    hit      = logprob at the label                   (N,)
    loss     = mean over N of -hit

With label_smoothing e the target distribution is 1 - e at the label plus e / K everywhere, and the
loss is the mean of ``-(1 - e) * hit - e * mean(logprob)``.

The gradient is ``dlogits = (softmax - target) / N * dout``.

Source: Szegedy et al., "Rethinking the Inception Architecture", arXiv:1512.00567, for the
smoothing; PyTorch's formula is the same.
"""

from typing import NamedTuple

import numpy as np

from minise.checks import Array, check_number
from minise.ops.reference.sums import mean_over, sum_over
from minise.ops.shapes import check_arrays, check_gradient, check_labels

SHAPES = {"softmax_cross_entropy": "logits: N K, labels: N int"}


class SoftmaxCrossEntropyCache(NamedTuple):
    """What backward needs from forward."""

    logprob: Array  # (N, K)  logarithm of the softmax
    labels: Array  # (N,)
    label_smoothing: float


def softmax_cross_entropy_forward(
    logits: Array, labels: Array, *, label_smoothing: float = 0.0
) -> tuple[Array, SoftmaxCrossEntropyCache]:
    """Return the mean over the batch of minus the log-probability of the correct class.

    Parameters
    ----------
    logits : ndarray of shape (N, K)
        Unnormalised log-probabilities; no value overflows.
    labels : integer ndarray of shape (N,)
        The correct classes, 0..K-1.
    label_smoothing : float
        Share of the target probability that is spread over all classes, 0..1.

    Returns
    -------
    loss : ndarray of shape ()
        In nats, in the dtype of logits.
    cache : SoftmaxCrossEntropyCache
        For softmax_cross_entropy_backward.

    Raises
    ------
    ValueError, TypeError
        If shapes, dtypes or labels are wrong.
    """
    op = "softmax_cross_entropy"
    check_arrays(op, SHAPES[op], logits, labels, complex_step=True)
    check_labels(op, labels, logits.shape[1])
    share = "a number from 0 to 1"
    label_smoothing = check_number(op, "label_smoothing", label_smoothing, share, 0, 1)
    shifted = logits - logits.real.max(axis=1, keepdims=True)
    logprob = shifted - np.log(sum_over(np.exp(shifted), 1, keepdims=True))
    hit = logprob[np.arange(len(labels)), labels]  # = logprob[n, labels[n]]
    spread = mean_over(logprob, 1) if label_smoothing else np.zeros_like(hit)
    loss = np.asarray(-mean_over((1 - label_smoothing) * hit + label_smoothing * spread, 0))
    return loss, SoftmaxCrossEntropyCache(logprob, labels, label_smoothing)


def softmax_cross_entropy_backward(
    dout: Array, cache: SoftmaxCrossEntropyCache
) -> tuple[Array, None]:
    """Return the gradient of the loss with respect to the logits.

    Parameters
    ----------
    dout : ndarray of shape ()
        Gradient of the training loss with respect to this loss: 1, or the loss scale.
    cache : SoftmaxCrossEntropyCache
        As forward returned it.

    Returns
    -------
    dlogits : ndarray of shape (N, K)
        Every row sums to 0, because the softmax does not change with a constant.
    None
        Labels have no gradient.

    Raises
    ------
    ValueError, TypeError
        If dout does not have the shape () and the dtype of logits.
    """
    logprob, labels, label_smoothing = cache
    check_gradient("softmax_cross_entropy", dout, logprob, ())
    N, K = logprob.shape

    # forward: loss = mean of -((1 - e) * hit + e * spread)
    dhit = -(1 - label_smoothing) * dout / N
    dspread = -label_smoothing * dout / N

    # forward: hit = logprob at the label, spread = mean of logprob
    at_label = np.arange(K) == labels[:, None]
    dlogprob = np.where(at_label, dhit, 0) + dspread / K

    # forward: logprob = shifted - log(sum exp(shifted))      exp(logprob) is the softmax
    dlogits = dlogprob - np.exp(logprob) * sum_over(dlogprob, 1, keepdims=True)
    return dlogits, None

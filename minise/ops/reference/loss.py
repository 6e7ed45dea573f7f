"""Softmax and cross-entropy in one op, which never takes the logarithm of a rounded probability.

    shifted  = logits - max(logits)                   (N, K)    the softmax does not change
    logprob  = shifted - log(sum exp(shifted))        (N, K)    exponents are at most 0: no overflow
    hit      = logprob at the label                   (N,)
    loss     = mean over N of -hit

With label_smoothing e the target distribution is 1 - e at the label plus e / K everywhere, and the
loss is the mean of ``-(1 - e) * hit - e * mean(logprob)``.

The gradient is ``dlogits = (softmax - target) / N * dout``; without smoothing the target is onehot,
1 at the label and 0 elsewhere.

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

    Notes
    -----
    With the softmax p = exp(logprob) and onehot, 1 at the label and 0 elsewhere, this function
    computes without smoothing::

        dlogprob = -onehot / N * dout           the mean of -hit reads logprob at the label only
        dlogits  = dlogprob - p * (sum of dlogprob over k)
                 = (p - onehot) / N * dout      because the row of dlogprob sums to -dout / N

    With label_smoothing e the target (1 - e) * onehot + e / K takes the place of onehot.
    """
    logprob, labels, label_smoothing = cache
    check_gradient("softmax_cross_entropy", dout, logprob, ())
    N, K = logprob.shape

    # forward: loss = mean of -((1 - e) * hit + e * spread)
    # why if not label_smoothing: The loss is minus the mean of hit over the N images, so its slope
    #      in the hit of each image is -1 / N.
    # why: The loss is minus the mean over the N images of (1 - label_smoothing) * hit plus the
    #      spread part, so its slope in the hit of each image is -(1 - label_smoothing) / N.
    dhit = -(1 - label_smoothing) * dout / N
    # why: The loss is minus the mean over the N images of label_smoothing * spread plus the hit
    #      part, so its slope in the spread of each image is -label_smoothing / N.
    dspread = -label_smoothing * dout / N

    # forward: hit = logprob at the label, spread = mean of logprob
    # why: Not a gradient: it marks the one entry of each row that forward picked as hit.
    at_label = np.arange(K) == labels[:, None]  # = true where k is the label of image n
    # why: hit is a copy of one entry of the row of logprob, the one at the label, so that entry
    #      gets dhit and the others 0.
    dlogprob_hit = np.where(at_label, dhit, 0)
    # why if label_smoothing: The entry at the label is in hit, and each of the K entries of the row
    #      is in spread with the slope 1 / K of a mean, so the gradients of both routes add up.
    # why: Without smoothing the loss reads logprob through hit alone.
    dlogprob = dlogprob_hit + dspread / K if label_smoothing else dlogprob_hit

    # forward: logprob = shifted - log(sum exp(shifted))
    # why if not label_smoothing: A logit raises its own logprob with slope 1, and the logarithm of
    #      the sum, which every logprob of the row subtracts, with slope p = exp(logprob), the
    #      softmax. The row of dlogprob is -onehot / N * dout and sums to -dout / N, so the result
    #      is (p - onehot) / N * dout: what the net said minus what it should have said. The maximum
    #      that forward subtracts moves a whole row and leaves logprob as it was, so it plays no
    #      part.
    # why: A logit raises its own logprob with slope 1, and the logarithm of the sum, which every
    #      logprob of the row subtracts, with slope p = exp(logprob), the softmax. The row of
    #      dlogprob is -target / N * dout and sums to -dout / N, so the result is (p - target) / N *
    #      dout. The maximum that forward subtracts moves a whole row and leaves logprob as it was,
    #      so it plays no part.
    dlogits = dlogprob - np.exp(logprob) * sum_over(dlogprob, 1, keepdims=True)
    return dlogits, None

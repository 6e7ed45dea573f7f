"""Softmax and cross-entropy, compiled: one sample at a time.

The formulas are in minise/ops/reference/loss.py.
"""

import math

import numpy as np
from numba import prange

from minise.checks import Array, check_number
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.vector.layout import frozen
from minise.ops.reference.loss import SHAPES, SoftmaxCrossEntropyCache
from minise.ops.shapes import check_arrays, check_gradient, check_labels


def softmax_cross_entropy_forward(
    logits: Array, labels: Array, *, label_smoothing: float = 0.0
) -> tuple[Array, SoftmaxCrossEntropyCache]:
    """See minise.ops.reference.softmax_cross_entropy_forward."""
    op = "softmax_cross_entropy"
    check_arrays(op, SHAPES[op], logits, labels)
    check_labels(op, labels, logits.shape[1])
    share = "a number from 0 to 1"
    label_smoothing = check_number(op, "label_smoothing", label_smoothing, share, 0, 1)
    rows = frozen(logits)
    logprob, losses = np.empty_like(rows), np.empty(len(rows))
    _forward(rows, _integers(labels), label_smoothing, logprob, losses)
    loss = np.asarray(losses.mean(), logits.dtype)
    return loss, SoftmaxCrossEntropyCache(logprob, labels, label_smoothing)


def softmax_cross_entropy_backward(
    dout: Array, cache: SoftmaxCrossEntropyCache
) -> tuple[Array, None]:
    """See minise.ops.reference.softmax_cross_entropy_backward."""
    logprob, labels, label_smoothing = cache
    check_gradient("softmax_cross_entropy", dout, logprob, ())
    rows = frozen(logprob)
    dlogits = np.empty_like(rows)
    _backward(float(dout), rows, _integers(labels), label_smoothing, dlogits)
    return dlogits, None


def _integers(labels: Array) -> Array:
    return frozen(labels.astype(np.intp))


@kernel
def _forward(logits, labels, label_smoothing, logprob, losses):
    N, K = logits.shape
    for n in prange(N):
        largest = logits[n, 0]
        for k in range(1, K):
            if logits[n, k] > largest or math.isnan(logits[n, k]):
                largest = logits[n, k]
        total = 0.0
        for k in range(K):
            total += math.exp(logits[n, k] - largest)
        spread = 0.0
        for k in range(K):
            logprob[n, k] = logits[n, k] - largest - math.log(total)
            spread += logprob[n, k]
        hit = logprob[n, labels[n]]
        losses[n] = -((1 - label_smoothing) * hit)
        if label_smoothing:
            losses[n] -= label_smoothing * spread / K


@kernel
def _backward(dout, logprob, labels, label_smoothing, dlogits):
    N, K = logprob.shape
    for n in prange(N):
        hit = -(1 - label_smoothing) * dout / N
        spread = -label_smoothing * dout / N / K
        for k in range(K):
            wanted = spread + hit if k == labels[n] else spread
            dlogits[n, k] = wanted - math.exp(logprob[n, k]) * (hit + K * spread)

"""Softmax cross-entropy on the GPU, by whole-array calls of CuPy."""

from minise.checks import Array, check_number
from minise.ops.cuda.launcher import Launcher
from minise.ops.reference.loss import SHAPES, SoftmaxCrossEntropyCache
from minise.ops.shapes import check_arrays, check_gradient


def softmax_cross_entropy_forward(
    gpu: Launcher, logits: Array, labels: Array, *, label_smoothing: float = 0.0
) -> tuple[Array, SoftmaxCrossEntropyCache]:
    """See minise.ops.reference.softmax_cross_entropy_forward.

    A label out of range gives a NaN loss instead of an error: a check would copy the labels to the
    host, and every step would wait for the GPU.
    """
    op, xp = "softmax_cross_entropy", gpu.xp
    check_arrays(op, SHAPES[op], logits, labels)
    expected = "a number from 0 to 1"
    label_smoothing = check_number(op, "label_smoothing", label_smoothing, expected, 0, 1)
    shifted = logits - logits.max(axis=1, keepdims=True)
    logprob = shifted - xp.log(xp.exp(shifted).sum(axis=1, keepdims=True))
    at_label = _at_label(gpu, labels, logits.shape[1])
    label_logprob = xp.where(at_label, logprob, 0).sum(axis=1)
    hit = xp.where(at_label.any(axis=1), label_logprob, xp.nan)
    spread = logprob.mean(axis=1) if label_smoothing else 0
    loss = -((1 - label_smoothing) * hit + label_smoothing * spread).mean()
    return xp.asarray(loss, logits.dtype), SoftmaxCrossEntropyCache(
        logprob, labels, label_smoothing
    )


def softmax_cross_entropy_backward(
    gpu: Launcher, dout: Array, cache: SoftmaxCrossEntropyCache
) -> tuple[Array, None]:
    """See minise.ops.reference.softmax_cross_entropy_backward."""
    logprob, labels, label_smoothing = cache
    check_gradient("softmax_cross_entropy", dout, logprob, ())
    N, K = logprob.shape
    dhit = -(1 - label_smoothing) * dout / N
    dspread = -label_smoothing * dout / N
    dlogprob = gpu.xp.where(_at_label(gpu, labels, K), dhit, 0) + dspread / K
    dlogits = dlogprob - gpu.xp.exp(logprob) * dlogprob.sum(axis=1, keepdims=True)
    return dlogits, None


def _at_label(gpu: Launcher, labels: Array, K: int) -> Array:
    """Return a boolean mask (N, K) that is True at each row's label."""
    return gpu.xp.arange(K) == labels[:, None]

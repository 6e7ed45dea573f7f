"""Softmax cross-entropy on the GPU, by cross_entropy.cu."""

import numpy as np

from minise.checks import Array, check_number
from minise.ops.cuda.launcher import Launcher, warps
from minise.ops.reference.loss import SHAPES, SoftmaxCrossEntropyCache
from minise.ops.shapes import check_arrays, check_gradient

FILE = "cross_entropy.cu"


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
    smoothing = float(check_number(op, "label_smoothing", label_smoothing, expected, 0, 1))
    (N, K), dtype = logits.shape, logits.dtype
    labels = _as_int64(labels)
    logprob, losses = xp.empty((N, K), dtype), xp.empty(N, np.float64)
    loss = xp.empty((), dtype)
    arrays = logits, labels, logprob, losses
    gpu.launch(FILE, "log_softmax", warps(N), arrays, (smoothing, N, K), dtype=dtype)
    gpu.launch(FILE, "mean_loss", 1, (losses, loss), (N,), dtype=dtype)
    return loss, SoftmaxCrossEntropyCache(logprob, labels, smoothing)


def softmax_cross_entropy_backward(
    gpu: Launcher, dout: Array, cache: SoftmaxCrossEntropyCache
) -> tuple[Array, None]:
    """See minise.ops.reference.softmax_cross_entropy_backward."""
    logprob, labels, smoothing = cache
    check_gradient("softmax_cross_entropy", dout, logprob, ())
    (N, K), dtype = logprob.shape, logprob.dtype
    dlogits = gpu.xp.empty((N, K), dtype)
    dout = gpu.asarray(dout, dtype)  # a product of an array and a number may be NumPy's scalar
    arrays, scalars = (dout, logprob, _as_int64(labels), dlogits), (float(smoothing), N, K)
    gpu.launch(FILE, "logits_gradient", warps(N), arrays, scalars, dtype=dtype)
    return dlogits, None


def _as_int64(labels: Array) -> Array:
    """Return labels in the kernels' dtype; numbers above its range become negative."""
    return labels if labels.dtype == np.int64 else labels.astype(np.int64)

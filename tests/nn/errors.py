"""Rounding-error bounds of a layer's output, propagated through its forward op by op."""

import numpy as np

from minise.ops import reference
from minise.ops.reference.squeezes import squeeze_argmax, squeeze_forward
from minise.ops.wrap import Wrapper

SLOPES = {"sigmoid": 1 / 4, "tanh": 1, "relu": 1, "hard_sigmoid": 1 / 6}  # at most


class Errors(Wrapper):
    """Records a bound on the rounding error of each array that an evaluation computes.

    Bounds are in units of count * eps, where no sum has more than count terms. The error of a sum
    is at most the sum of its terms' errors and magnitudes, for any order of summation and any
    factors folded into the weights. A ReLU or a maximum does not increase an error.
    """

    def __init__(self):
        super().__init__(reference)
        self._recorded = {}  # holds each array with its error, so that no other gets its id
        self.count = 0

    def of(self, array):
        """Return the error of an array, which is 0 if no op computed it."""
        return self._recorded.get(id(array), (None, np.zeros_like(array)))[1]

    def bound(self, array):
        """Return the largest difference between two evaluations, each with its own errors."""
        return 2 * self.count * np.finfo(array.dtype).eps * self.of(array)

    def observe(self, call):
        x = call.arrays[0]
        sizes = [a[0].size for a in call.arrays if a is not None]
        self.count = max(self.count, 16 + max(sizes))
        error = getattr(self, call.op)(call, abs(x) + self.of(x), *call.arrays[1:], **call.settings)
        self._recorded[id(call.results[0])] = call.results[0], error

    # Arguments of each: the call, |x| + the error of x, and the other arrays unchanged

    def conv2d(self, call, x, weight, bias, **settings):
        positive = None if bias is None else abs(bias)
        return reference.conv2d_forward(x, abs(weight), positive, **settings)[0]

    def linear(self, call, x, weight, bias):
        return x @ abs(weight).T + abs(bias)

    def batch_norm2d(self, call, x, gamma, beta, *, running_mean, running_var, eps, **_):
        columns = (abs(a)[:, None, None] for a in (gamma, beta, running_mean))
        scale, shift, mean = columns
        return scale / np.sqrt(running_var + eps)[:, None, None] * (x + mean) + shift

    def batch_norm2d_relu(self, call, x, *arrays, **settings):
        return self.batch_norm2d(call, x, *arrays, **settings)

    def batch_norm2d_add_relu(self, call, x, gamma, beta, shortcut, **settings):
        return (
            self.batch_norm2d(call, x, gamma, beta, **settings) + abs(shortcut) + self.of(shortcut)
        )

    def squeeze_excite(self, call, x, w1, b1, w2, b2, *, squeeze="avg", gate="sigmoid"):
        s = call.cache.gates.s
        return self._gated(abs(call.arrays[0]), x, s, w1, b1, w2, b2, squeeze, gate)

    def se_block_tail(self, call, x, gamma, beta, w1, b1, w2, b2, shortcut, *, gate, **settings):
        y, _ = reference.batch_norm2d_forward(call.arrays[0], gamma, beta, **settings)
        error = self.batch_norm2d(call, x, gamma, beta, **settings)
        gated = self._gated(abs(y), error, call.cache.gates.s, w1, b1, w2, b2, "avg", gate)
        return gated + abs(shortcut) + self.of(shortcut)

    def _gated(self, x, error, s, w1, b1, w2, b2, squeeze, gate):
        """Bound the error of x * s: the error of each factor times the size of the other."""
        b1, b2 = (0 if b is None else abs(b)[:, None, None] for b in (b1, b2))
        z = squeeze_forward(error, squeeze_argmax(error) if squeeze == "max" else None, squeeze)
        h = np.einsum("rc,ncij->nrij", abs(w1), z) + b1
        v = np.einsum("cr,nrij->ncij", abs(w2), h) + b2
        return error * abs(s) + x * (abs(s) + SLOPES[gate] * v)

    def add(self, call, a, b):
        return a + abs(b) + self.of(b)

    def relu(self, call, x):
        return x

    def global_avg_pool2d(self, call, x):
        return x.mean(axis=(2, 3))

    def avg_pool2d(self, call, x, **settings):
        return reference.avg_pool2d_forward(x, **settings)[0]

    def concat(self, call, x, *more):
        return np.concatenate([x, *(abs(a) + self.of(a) for a in more)], axis=1)

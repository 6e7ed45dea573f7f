"""How far rounding can take a result: error bounds that follow a layer's forward, op by op."""

import numpy as np

from minise.ops import reference
from minise.ops.reference.squeezes import squeeze_argmax, squeeze_forward
from minise.ops.wrap import Wrapper

SLOPES = {"sigmoid": 1 / 4, "tanh": 1, "relu": 1, "hard_sigmoid": 1 / 6}  # at most


class Errors(Wrapper):
    """Holds, for each array that an evaluation makes, by how much another evaluation may differ.

    Errors are in units of count * eps, where no sum adds up more than count numbers: then a sum of
    terms that are off by e themselves is off by no more than the sum of all e plus the terms'
    magnitudes, whichever order it is taken in and whatever factors were multiplied into its
    weights. What reaches a ReLU or a maximum leaves it no larger.
    """

    def __init__(self):
        super().__init__(reference)
        self._held = {}  # the array is kept with its error, so that its id stays its own
        self.count = 0

    def of(self, array):
        """Return an array's error; what no op made has none."""
        return self._held.get(id(array), (None, np.zeros_like(array)))[1]

    def bound(self, array):
        """Return by how much two evaluations may differ: each is off by its own roundings."""
        return 2 * self.count * np.finfo(array.dtype).eps * self.of(array)

    def observe(self, call):
        x = call.arrays[0]
        sizes = [a[0].size for a in call.arrays if a is not None]
        self.count = max(self.count, 16 + max(sizes))
        error = getattr(self, call.op)(call, abs(x) + self.of(x), *call.arrays[1:], **call.settings)
        self._held[id(call.results[0])] = call.results[0], error

    # Each is given the call, |x| + the error of x, and the other arrays as they are

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
        """Bound x * s: an error is that of each factor times the size of the other."""
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

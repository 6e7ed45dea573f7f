"""NaN around arrays: what a kernel reads too much of becomes NaN, what it writes too much of shows.

Memory that nobody has filled is poisoned too: with NaN where the product allocates it in Python,
and where kernels run as Python, also inside of them.
"""

from contextlib import contextmanager

import numpy as np
import pytest

from minise.ops.jit.vector import memory
from minise.ops.jit.vector.memory import LINE
from minise.ops.jit.vector.simd import AS_LOOPS

BAND = 8 * LINE  # bytes, longer than a vector
NAN = 0xFF  # a byte: all bits set are NaN in every float dtype


class Guarded:
    """Arrays that lie between bands of NaN, and that are filled with NaN where nobody fills them.

    It takes the place of the pool of minise.ops.jit.vector.memory, so that `empty` hands them out.
    """

    def __init__(self):
        self.outer = []  # (memory with its bands, bytes of the array)
        self.freed = []  # what memory's leases give back

    def take(self, size):
        """Return memory for a lease, which keeps LINE bytes for itself, all NaN."""
        return self._between(size, size - LINE)

    def array(self, values, order=None):
        """Return a copy of values, contiguous in memory in an order of axes."""
        axes = tuple(range(values.ndim)) if order is None else order
        laid = np.ascontiguousarray(values.transpose(axes))
        memory_of = self._between(laid.nbytes, laid.nbytes)
        copy = memory_of.view(laid.dtype).reshape(laid.shape)
        copy[...] = laid
        return copy.transpose(np.argsort(axes))

    def check(self):
        """Assert that no band was written to."""
        for outer, begin, size in self.outer:
            assert (outer[:begin] == NAN).all()
            assert (outer[begin + size :] == NAN).all()

    def _between(self, size, used):
        outer = np.full(size + 2 * BAND + LINE, NAN, np.uint8)
        begin = BAND + -outer.ctypes.data % LINE
        self.outer.append((outer, begin, used))
        return outer[begin : begin + size]


@contextmanager
def guarded():
    """Yield a Guarded that all results and scratch come from; in the end, check its bands."""
    guards = Guarded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_pool", guards)
        patch.setattr(memory, "SMALL", -1)
        if AS_LOOPS:
            patch.setattr(np, "empty", poisoned(np.empty))
        yield guards
    guards.check()


def poisoned(empty):
    """Return np.empty, but with NaN in it; it takes the place of the one that kernels call."""

    def filled(shape, dtype=float, *rest, **more):
        array = empty(shape, dtype, *rest, **more)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    return filled

"""Guard bands of NaN around arrays: a read out of bounds gives NaN, a write leaves a trace.

Uninitialised memory is NaN, too: arrays that minise allocates in Python, and, if kernels run as
Python, those that kernels allocate.
"""

from contextlib import contextmanager

import numpy as np
import pytest

from minise.ops.jit.vector import memory
from minise.ops.jit.vector.memory import CACHE_LINE_BYTES
from minise.ops.jit.vector.simd import AS_LOOPS

BAND_BYTES = 8 * CACHE_LINE_BYTES  # longer than a vector
NAN = 0xFF  # a byte: all bits set are NaN in every float dtype


class Guarded:
    """A region of arrays between bands of NaN; uninitialised arrays are full of NaN.

    It replaces the region of minise.ops.jit.vector.memory, so that `empty` returns such arrays.
    """

    def __init__(self):
        self.outer = []  # (memory with its bands, begin and size of the array in bytes)
        self.freed = []  # blocks that allocations have returned

    def allocate(self, owner, size):
        """Set the owner's block to `size` bytes, all of them NaN; its begin is relative."""
        owner.block = self._between(size).ctypes.data - memory._pages.address, size
        return True

    def array(self, values, order=None):
        """Return a copy of values between bands, contiguous in memory in the given axis order."""
        axes = tuple(range(values.ndim)) if order is None else order
        laid = np.ascontiguousarray(values.transpose(axes))
        copy = self._between(laid.nbytes).view(laid.dtype).reshape(laid.shape)
        copy[...] = laid
        return copy.transpose(np.argsort(axes))

    def check(self):
        """Assert that no band was written to."""
        for outer, begin, size in self.outer:
            assert (outer[:begin] == NAN).all()
            assert (outer[begin + size :] == NAN).all()

    def _between(self, size):
        outer = np.full(size + 2 * BAND_BYTES + CACHE_LINE_BYTES, NAN, np.uint8)
        begin = BAND_BYTES + -outer.ctypes.data % CACHE_LINE_BYTES
        self.outer.append((outer, begin, size))
        return outer[begin : begin + size]


@contextmanager
def guarded():
    """Yield a Guarded that allocates all results and scratch memory; check its bands at the end."""
    guards = Guarded()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(memory, "_region", guards)
        patch.setattr(memory, "MAX_UNPOOLED_BYTES", -1)
        patch.setattr(memory, "padded", int)  # so that a band follows the last byte
        if AS_LOOPS:
            patch.setattr(np, "empty", poisoned(np.empty))
        yield guards
    guards.check()


def poisoned(empty):
    """Return a replacement for np.empty whose floating-point arrays are full of NaN."""

    def filled(shape, dtype=float, *rest, **more):
        array = empty(shape, dtype, *rest, **more)
        if array.dtype.kind == "f":
            array.fill(np.nan)
        return array

    return filled

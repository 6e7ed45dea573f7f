"""Memory pools of the stand-in device, with the interface of cupy.cuda; freed memory is poisoned.

As in CuPy, a block returns to its pool when its last array is freed, and the pool reuses it for the
next array of the same size (in units of 512 bytes) on the same stream, the last freed block first.
Blocks of a deleted pool can be used by any pool. A freed block is filled with bytes 0xff, NaN in
float32 and float64 and -1 in integers, so that a kernel of a graph that reads freed memory gives
wrong numbers. Blocks are never split or merged, so they are reused less often than in CuPy.
"""

import contextlib
import math
import weakref
from collections import defaultdict

import numpy as np

from tests.ops.cuda.capture import get_current_stream

UNIT_BYTES = 512  # CuPy's unit of sizes and alignment


class Memory:
    """A block in use: the last base of every array in it."""

    POISON = 0xFF

    def __init__(self, block, pool, stream):
        self.block, self.pool, self.stream = block, weakref.ref(pool), stream

    @property
    def ptr(self):
        """The address of the first byte."""
        return self.block.ctypes.data

    @property
    def __array_interface__(self):
        return self.block.__array_interface__

    def __del__(self):
        self.block.fill(self.POISON)
        pool = self.pool()
        if pool is None:
            MemoryPool._unused[self.block.size].append(self.block)
        else:
            pool._take_back(self)


class MemoryPool:
    """A pool of memory; its malloc is an allocator for using_allocator."""

    _unused = defaultdict(list)  # noqa: RUF012, blocks that no pool holds, by size

    def __init__(self):
        self._free = defaultdict(list)  # blocks by stream and size
        self._used_bytes = 0

    def malloc(self, size):
        """Return Memory of at least this size, in bytes."""
        rounded = max(1, -(-size // UNIT_BYTES)) * UNIT_BYTES
        stream = get_current_stream().ptr
        blocks = self._free[stream, rounded] or self._unused[rounded]
        block = blocks.pop() if blocks else aligned(rounded)
        self._used_bytes += rounded
        return Memory(block, self, stream)

    def _take_back(self, memory):
        """Add a block that is no longer in use."""
        self._used_bytes -= memory.block.size
        self._free[memory.stream, memory.block.size].append(memory.block)

    def free_all_blocks(self):
        """Give up all blocks that are not in use."""
        for (_, size), blocks in self._free.items():
            self._unused[size].extend(blocks)
        self._free.clear()

    def used_bytes(self):
        """Return the size of the blocks in use."""
        return self._used_bytes

    def total_bytes(self):
        """Return the size of all blocks."""
        free = sum(size * len(blocks) for (_, size), blocks in self._free.items())
        return self._used_bytes + free

    def __del__(self):
        self.free_all_blocks()


def aligned(size):
    """Return a poisoned block of bytes at an address that is a multiple of UNIT_BYTES."""
    raw = np.full(size + UNIT_BYTES, Memory.POISON, np.uint8)
    start = -raw.ctypes.data % UNIT_BYTES
    return raw[start : start + size]


default_pool = MemoryPool()
allocators = [default_pool.malloc]  # the last one is used


@contextlib.contextmanager
def using_allocator(allocator):
    """Allocate arrays with another allocator, such as a pool's malloc."""
    allocators.append(allocator)
    try:
        yield
    finally:
        allocators.pop()


def allocate(shape, dtype, strides=None):
    """Return a poisoned NumPy array in a block of the current allocator's pool."""
    shape = shape if isinstance(shape, tuple | list) else (shape,)
    memory = allocators[-1](math.prod(shape) * np.dtype(dtype).itemsize)
    return np.ndarray(shape, dtype, np.asarray(memory), strides=strides)


def owner(array):
    """Return the object that owns an array's memory: Memory, or a NumPy array."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def unowned(array):
    """Return an array in the same memory that does not keep it in use, as a kernel's pointer."""
    memory = owner(array)
    if not isinstance(memory, Memory):
        return array
    offset = array.ctypes.data - memory.ptr
    return np.ndarray(array.shape, array.dtype, memory.block, offset, array.strides)

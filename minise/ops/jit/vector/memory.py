"""Memory for results: what is freed is used again, so that its pages need not be made anew.

A system gives a large array pages that do not exist yet; each is made, and filled with zeros, when
it is first touched, and gone when the array is freed. A training step frees all that it makes, so
it pays that for every array of every step: measured, 55 of the 240 ms of a step of SE-ResNet-20.

Here memory whose last array is gone waits for the next array of its size; what was freed last
comes first, as it may still be in the cache. What waits and what is used together never exceed a
little more (SLACK) than what was once used at the same time: beyond, what waited longest is given
back to the system. Arrays begin where a vector and a line of the cache begin.
"""

from collections import deque
from math import prod
from threading import Lock
from typing import Any

import numpy as np

from minise.checks import Array
from minise.ops.jit.vector.simd import LINE

SMALL = 64 * 1024  # bytes up to which the system keeps memory itself, at less cost a call
SLACK = 1.25  # of the most that was used at the same time


class _Pool:
    """Memory that waits, by size, and how much there is."""

    def __init__(self) -> None:
        self.waiting: dict[int, list[Array]] = {}  # by size; sizes asked for last are at the end
        self.used = self.most = self.free = 0  # bytes
        self.freed: deque[Array] = deque()  # not counted yet: append can interrupt anything
        self.lock = Lock()

    def take(self, size: int) -> Array:
        """Return memory of a size, one that waits or a new one."""
        with self.lock:
            self._count_freed()
            self.used += size
            self.most = max(self.most, self.used)
            waiting = self.waiting.pop(size, [])
            if not waiting:
                self._drop(int(SLACK * self.most) - self.used)
                return np.empty(size, np.uint8)
            memory = waiting.pop()
            if waiting:
                self.waiting[size] = waiting
            self.free -= size
            return memory

    def release(self) -> None:
        """Drop all that waits, and begin to count anew."""
        with self.lock:
            self._count_freed()
            self._drop(0)
            self.most = self.used

    def _count_freed(self) -> None:
        while self.freed:
            memory = self.freed.popleft()
            self.used -= memory.size
            self.free += memory.size
            self.waiting.setdefault(memory.size, []).append(memory)

    def _drop(self, most: int) -> None:
        """Drop what waits, of the sizes first that were not asked for longest, down to so much."""
        while self.free > max(0, most):
            size = next(iter(self.waiting))
            self.free -= self.waiting[size].pop(0).size
            if not self.waiting[size]:
                del self.waiting[size]


class _Lease:
    """Memory in use: the arrays in it keep this alive, and when the last is gone it waits again."""

    def __init__(self, size: int) -> None:
        self.pool = _pool
        self.memory = self.pool.take(size)
        begin = self.memory.ctypes.data
        begin += -begin % LINE
        self.__array_interface__ = {
            "shape": (size - LINE,),
            "typestr": "|u1",
            "data": (begin, False),
            "version": 3,
        }

    def __del__(self) -> None:
        self.pool.freed.append(self.memory)


_pool = _Pool()


def empty(shape: tuple[int, ...], dtype: Any) -> Array:
    """Return an array, C-contiguous, of whatever stands in its memory."""
    kind = np.dtype(dtype)
    size = prod(shape) * kind.itemsize
    if size <= SMALL:
        return np.empty(shape, kind)
    lease = _Lease(size + LINE)
    return np.asarray(lease)[:size].view(kind).reshape(shape)


def empty_like(array: Array) -> Array:
    """Return an array of the shape and dtype of another, C-contiguous."""
    return empty(array.shape, array.dtype)


def release() -> None:
    """Give all that waits back to the system."""
    _pool.release()

"""The caching allocator reuses freed memory, and arrays in use never share memory."""

import gc
import threading

import numpy as np
import pytest

from minise.ops.jit.vector import memory
from minise.ops.jit.vector.memory import (
    CACHE_LINE_BYTES,
    MAX_UNPOOLED_BYTES,
    SLACK,
    empty,
    empty_like,
    release,
)

BIG = (MAX_UNPOOLED_BYTES // 4 + 1,)  # the smallest float32 shape that comes from the allocator


@pytest.fixture(autouse=True)
def used_bytes():
    """Empty the cache, and return the bytes in use by arrays of other tests."""
    gc.collect()
    release()
    return memory._allocator.used_bytes


def test_freed_memory_comes_back():
    first = empty(BIG, np.float32)
    at = first.ctypes.data
    del first
    assert empty(BIG, np.float32).ctypes.data == at


def test_a_view_keeps_the_memory():
    """Also after the array of which it is a view is gone."""
    view = empty(BIG, np.float32).reshape(1, -1)[:, 5:9].T
    view[...] = 7
    others = [empty(BIG, np.float32) for _ in range(4)]
    for other in others:
        other[...] = 1
    assert (view == 7).all()


def test_arrays_begin_at_a_line():
    for count in range(MAX_UNPOOLED_BYTES // 4 + 1, MAX_UNPOOLED_BYTES // 4 + 20):
        array = empty((count,), np.float32)
        assert array.ctypes.data % CACHE_LINE_BYTES == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.aligned
    assert empty_like(np.zeros((200, 300)).T).shape == (300, 200)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5000), (2, 3)])
def test_small_and_empty_arrays(shape):
    array = empty(shape, np.float64)
    assert array.shape == shape
    assert array.dtype == np.float64


def test_cached_memory_is_bounded(used_bytes):
    """Arrays of 1000 different sizes never exceed SLACK times the peak of used memory."""
    max_peak = used_bytes
    for count in range(1000):
        array = empty((MAX_UNPOOLED_BYTES + 100 * count,), np.uint8)
        max_peak = max(max_peak, used_bytes + 2 * (array.nbytes + CACHE_LINE_BYTES))
        allocator = memory._allocator
        assert allocator.peak <= max_peak
        assert allocator.cached_bytes + allocator.used_bytes <= SLACK * allocator.peak
    del array
    release()
    assert (allocator.cached_bytes, allocator.used_bytes) == (0, used_bytes)


def test_many_threads(used_bytes):
    """Each thread writes its own number into each array, and must read it back."""
    wrong = []

    def work(number):
        rng = np.random.default_rng(number)
        for _ in range(300):
            array = empty((MAX_UNPOOLED_BYTES + int(rng.integers(1, 4)),), np.uint8)
            array[...] = number
            if (array != number).any():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    release()
    assert memory._allocator.used_bytes == used_bytes

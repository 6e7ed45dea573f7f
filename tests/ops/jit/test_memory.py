"""Memory that is freed is used again, and no two arrays that are alive share any."""

import gc
import threading

import numpy as np
import pytest

from minise.ops.jit.vector import memory
from minise.ops.jit.vector.memory import LINE, SLACK, SMALL, empty, empty_like, release

BIG = (SMALL // 4 + 1,)  # float32 numbers: just above what the system keeps


@pytest.fixture(autouse=True)
def used():
    """Nothing waits, and as many bytes are in use as other tests have left."""
    gc.collect()
    release()
    return memory._pool.used


def test_freed_memory_comes_back():
    first = empty(BIG, np.float32)
    at = first.ctypes.data
    del first
    assert empty(BIG, np.float32).ctypes.data == at


def test_a_view_keeps_the_memory():
    """Also one without the array that it was taken from."""
    view = empty(BIG, np.float32).reshape(1, -1)[:, 5:9].T
    view[...] = 7
    others = [empty(BIG, np.float32) for _ in range(4)]
    for other in others:
        other[...] = 1
    assert (view == 7).all()


def test_arrays_begin_at_a_line():
    for count in range(SMALL // 4 + 1, SMALL // 4 + 20):
        array = empty((count,), np.float32)
        assert array.ctypes.data % LINE == 0
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.flags.aligned
    assert empty_like(np.zeros((200, 300)).T).shape == (300, 200)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 5000), (2, 3)])
def test_small_and_empty_ones(shape):
    array = empty(shape, np.float64)
    assert array.shape == shape
    assert array.dtype == np.float64


def test_what_waits_is_bounded(used):
    """Arrays of ever new sizes leave no more behind than was in use at once, and SLACK."""
    most = used
    for count in range(1000):
        array = empty((SMALL + 100 * count,), np.uint8)
        most = max(most, used + 2 * (array.nbytes + LINE))
        pool = memory._pool
        assert pool.most <= most
        assert pool.free + pool.used <= SLACK * pool.most
    del array
    release()
    assert (pool.free, pool.used) == (0, used)


def test_many_threads(used):
    """Each writes its own number and must find it again."""
    wrong = []

    def work(number):
        rng = np.random.default_rng(number)
        for _ in range(300):
            array = empty((SMALL + int(rng.integers(1, 4)),), np.uint8)
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
    assert memory._pool.used == used

"""The caching allocator reuses freed memory, and arrays in use never share memory."""

import gc
import os
import random
import signal
import threading
import types

import numpy as np
import pytest

from minise.nn import SE
from minise.nn.blocks import Build, basic_block
from minise.ops import jit
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


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="there is no /proc/self/statm")
def test_released_memory_goes_back_to_the_operating_system():
    """Also where memory allocated later is still in use, which the C library's heap would not."""

    def resident_pages():
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1])

    arrays = [np.copyto(array := empty((300_000,), np.uint8), 1) or array for _ in range(200)]
    before = resident_pages()
    del arrays[::2]
    release()
    freed = (before - resident_pages()) * os.sysconf("SC_PAGESIZE")
    assert freed > 0.9 * 100 * 300_000
    assert all((array == 1).all() for array in arrays)


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


def counts():
    """Return the bytes in use; assert that the cached bytes are those of the cached arrays."""
    allocator = memory._allocator
    with allocator.lock:
        allocator._count_freed()
    assert allocator.cached_bytes == sum(size * len(a) for size, a in allocator.cached.items())
    assert all(array.size == size for size, arrays in allocator.cached.items() for array in arrays)
    assert not allocator.lock.locked()
    return allocator.used_bytes


@pytest.mark.parametrize("size", [1 << 60, 1 << 64])
def test_a_failed_request_leaves_the_counters_unchanged(used_bytes, size):
    array = empty(BIG, np.float32)
    peak = memory._allocator.peak
    with pytest.raises(MemoryError, match=f"{size + CACHE_LINE_BYTES:,} bytes"):
        empty((size,), np.uint8)
    assert counts() == used_bytes + array.nbytes + CACHE_LINE_BYTES
    assert memory._allocator.peak == peak


@pytest.mark.skipif("NUMBA_DISABLE_JIT" in os.environ, reason="a step takes minutes as Python")
def test_a_memory_error_at_any_allocation_of_a_step(used_bytes, monkeypatch):
    """Each call of NumPy in the allocator fails once; then the counters are as before the step."""
    block = basic_block(16, 16, 1, Build(rng=0, se=SE(), ops=jit))
    x = np.random.default_rng(0).standard_normal((2, 16, 32, 32)).astype(np.float32)
    calls, fails_at = 0, None

    def counted(function):
        def call(*arguments):
            nonlocal calls
            calls += 1
            if calls == fails_at:
                raise MemoryError
            return function(*arguments)

        return call

    def step():
        nonlocal calls
        calls = 0
        out, cache = block.forward(x, training=True)
        block.backward(out, cache)

    step()
    before = counts()
    functions = {name: counted(getattr(np, name)) for name in ("empty", "asarray", "frombuffer")}
    numpy = types.SimpleNamespace(dtype=np.dtype, uint8=np.uint8, **functions)
    monkeypatch.setattr(memory, "np", numpy)
    step()
    count = calls
    assert count > 20
    for number in range(1, count + 1):
        fails_at = number
        with pytest.raises(MemoryError):
            step()
        assert counts() == before
    fails_at = None
    step()
    assert (counts(), calls) == (before, count)
    assert before == used_bytes


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no timers here")
def test_interruptions_leave_the_counters_exact(used_bytes):
    """Interrupted like by Ctrl-C in a notebook, at 400 random moments."""

    def interrupt(number, frame):
        if frame.f_code.co_name == "__del__":  # Python ignores exceptions there
            signal.setitimer(signal.ITIMER_REAL, 1e-4)
        else:
            raise KeyboardInterrupt

    rng, arrays = random.Random(0), []
    handler = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(400):
            with pytest.raises(KeyboardInterrupt):  # noqa: PT012, it comes at any of these calls
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-4, 1e-3))
                while True:
                    arrays.append(empty((BIG[0] + rng.randrange(20),), np.float32))
                    if len(arrays) > 8:
                        del arrays[rng.randrange(8)]
            del arrays[4:]
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, handler)
    sizes = [array.nbytes + CACHE_LINE_BYTES for array in arrays]
    assert counts() == used_bytes + sum(sizes)
    del arrays
    release()
    assert (counts(), memory._allocator.cached_bytes) == (used_bytes, 0)


def test_cached_memory_is_returned_before_an_array_is_refused(monkeypatch):
    """A MemoryError while memory of other sizes is cached: the second attempt has it."""
    allocator = memory._CachingAllocator()
    owner = types.SimpleNamespace()

    def limited(size):
        if allocator.used_bytes + allocator.cached_bytes + size > 1300:
            raise MemoryError(f"Unable to allocate {size}")
        return np.empty(size, np.uint8)

    monkeypatch.setattr(memory, "_mapped", limited)
    allocator.freed += [allocator.allocate(owner, 600) for _ in range(2)]
    assert allocator.allocate(owner, 300).size == 300
    assert (allocator.used_bytes, allocator.cached_bytes) == (300, 0)
    with pytest.raises(MemoryError, match="Unable to allocate 1100"):
        allocator.allocate(owner, 1100)
    assert (allocator.used_bytes, allocator.cached_bytes) == (300, 0)

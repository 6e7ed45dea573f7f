"""The caching allocator reuses freed memory, and arrays in use never share memory."""

import gc
import os
import random
import signal
import subprocess
import sys
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
    Region,
    empty,
    empty_like,
    padded,
    release,
)

BIG = (MAX_UNPOOLED_BYTES // 4 + 1,)  # the smallest float32 shape that comes from the allocator


@pytest.fixture(autouse=True)
def used_bytes():
    """Empty the cache, and return the bytes in use by arrays of other tests."""
    gc.collect()
    release()
    return memory._region.used_bytes


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


def random_blocks(region, rng, steps=3000):
    """Allocate and free blocks at random; yield the list of live ones after each step."""
    living = []
    for _ in range(steps):
        if living and rng.random() < 0.5:
            region.freed.append(living.pop(rng.randrange(len(living))).block)
        else:
            living.append(types.SimpleNamespace())
            size = rng.choice([64, 128, 192, 640, 6400]) * rng.randrange(1, 9)
            assert region.allocate(living[-1], size)
        yield living


@pytest.mark.parametrize("seed", range(5))
def test_blocks_in_use_are_apart_and_free_ones_are_joined(seed):
    region = Region(10_000_000)
    for living in random_blocks(region, random.Random(seed)):
        with region.lock:
            region._count_freed()
        used = [owner.block for owner in living]
        ends = [0]
        for begin, size in sorted([*used, *region.free]):
            assert begin == ends[-1]
            ends.append(begin + size)
        assert ends[-1] == 10_000_000
        starts = {begin for begin, _ in region.free}
        assert starts.isdisjoint(begin + size for begin, size in region.free)
        assert region.used_bytes == sum(size for _, size in used)


def test_a_repeated_step_touches_no_new_memory():
    """Nor does it touch much more than its peak."""
    region = Region(10_000_000)
    for _ in range(3):
        *_, living = random_blocks(region, random.Random(0), 1000)
        region.freed += [owner.block for owner in living]
        assert region.touched_bytes < 1.3 * region.peak
        touched = region.touched_bytes
    assert touched == region.touched_bytes


def test_an_array_that_does_not_fit_is_left_to_numpy(monkeypatch):
    region = Region(4 * MAX_UNPOOLED_BYTES)
    monkeypatch.setattr(memory, "_region", region)
    arrays = [empty(BIG, np.float32) for _ in range(6)]
    for number, array in enumerate(arrays):
        array[...] = number
    assert region.used_bytes == 3 * padded(arrays[0].nbytes)
    assert [array[0] for array in arrays] == list(range(6))
    del arrays, array
    with region.lock:
        region._count_freed()
    assert region.used_bytes == 0


def test_without_a_region_all_arrays_are_numpys(monkeypatch):
    monkeypatch.setattr(memory, "_region", Region(0))
    assert (empty_like(np.zeros((300, 400))) + 1).shape == (300, 400)
    release()


@pytest.mark.skipif(sys.platform != "linux", reason="others do not enforce RLIMIT_AS")
def test_a_limit_of_the_address_space_gives_a_smaller_region():
    """As `ulimit -v` sets it; most of the limit remains for other memory."""
    program = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30));"
        "from minise.ops.jit.vector import memory; print(memory._pages.size)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert 0 < int(done.stdout) < 2 << 30, done.stderr


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
    assert memory._region.used_bytes == used_bytes


def counts():
    """Return the bytes in use; assert that they are those of no free block."""
    region = memory._region
    with region.lock:
        region._count_freed()
    assert region.used_bytes == memory._pages.size - sum(size for _, size in region.free)
    assert not region.lock.locked()
    return region.used_bytes


def test_a_failed_request_leaves_the_counters_unchanged(used_bytes):
    array = empty(BIG, np.float32)
    peak = memory._region.peak
    with pytest.raises(MemoryError):
        empty((1 << 60,), np.uint8)
    assert counts() == used_bytes + padded(array.nbytes)
    assert memory._region.peak == peak


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
    functions = {name: counted(getattr(np, name)) for name in ("empty", "asarray")}
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
    sizes = [padded(array.nbytes) for array in arrays]
    assert counts() == used_bytes + sum(sizes)
    del arrays
    release()
    assert counts() == used_bytes

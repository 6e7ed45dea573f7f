"""Pools reuse freed memory, and poison reveals reads of freed arrays."""

from functools import partial

import numpy as np

from tests.ops.cuda.device import device
from tests.ops.cuda.steps import bytes_of, step_of

cuda = device.cuda


def interleaved_step(pool, keep_pool=True):
    """Run the graphs of forward and backward, and write other arrays in between.

    Return (True if the gradients are correct, True if the other arrays are correct).
    """
    step = step_of("se_block_tail")
    step.fill(1)
    expected = bytes_of(step.run()[2])
    forward, (_, cache) = step.capture(step.forward, pool)
    backward, gradients = step.capture(partial(step.backward, cache), pool)
    del _, cache
    if not keep_pool:
        pool = None  # the last reference
    with step.stream:
        others = [device.empty(size, np.float32) for size in range(8, 2000, 40) for _ in range(4)]
        forward.launch()
        for other in others:
            other[...] = 1
        backward.launch()
    return bytes_of(gradients) == expected, all((other.get() == 1).all() for other in others)


def test_reused_memory_of_temporaries_gives_wrong_numbers():
    assert interleaved_step(None) == (False, False)


def test_a_private_pool_keeps_the_temporaries():
    assert interleaved_step(cuda.MemoryPool()) == (True, True)


def test_a_private_pool_must_live_as_long_as_the_graph():
    right = interleaved_step(cuda.MemoryPool(), keep_pool=False)  # assert would keep the pool
    assert right == (False, False)


def test_a_graph_keeps_no_array_in_use():
    temporary, stream = device.asarray(np.ones(3)), cuda.Stream(non_blocking=True)
    with stream:
        stream.begin_capture()
        out = temporary + 1
        graph = stream.end_capture()
        graph.launch()
        assert out.tolist() == [2] * 3
        del temporary
        graph.launch()
        assert np.isnan(out.get()).all()


def test_blocks_are_reused_by_size_and_stream():
    pool, stream = cuda.MemoryPool(), cuda.Stream(non_blocking=True)

    def address(size):
        return device.empty(size, np.uint8).data.ptr

    with cuda.using_allocator(pool.malloc):
        first = device.empty(1, np.uint8)
        view = first[:]
        in_use = first.data.ptr
        del first
        assert address(1) != in_use  # the view keeps it
        freed = address(512)
        assert (pool.used_bytes(), pool.total_bytes()) == (512, 1024)
        del view
        assert address(300) == in_use  # the last freed block
        assert address(513) not in (in_use, freed)
        with stream:
            assert address(300) not in (in_use, freed)
        pool.free_all_blocks()
        assert (pool.used_bytes(), pool.total_bytes()) == (0, 0)


def test_freed_memory_is_poison():
    with cuda.using_allocator(cuda.MemoryPool().malloc):
        x = device.asarray(np.ones(5, np.float32))
        pointer = x.data.ptr
        del x
        y = device.empty(5, np.float32)
        assert y.data.ptr == pointer
        assert np.isnan(y.get()).all()
        assert device.empty(3, np.int64).tolist() == [-1] * 3


def test_a_block_that_outlives_its_pool_belongs_to_any_pool():
    def empty(pool):
        with cuda.using_allocator(pool.malloc):
            return device.empty(12345, np.uint8)

    x = empty(cuda.MemoryPool())
    pointer = x.data.ptr
    x[...] = 1
    assert empty(cuda.MemoryPool()).data.ptr != pointer
    del x
    y = empty(cuda.MemoryPool())
    assert y.data.ptr == pointer
    assert (y.get() == 255).all()

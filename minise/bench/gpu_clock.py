"""Timing of calls on a GPU, on buffers that exceed its cache.

Kernels run asynchronously, so calls are timed with events recorded in their stream. A launch from
Python costs a few microseconds; a CUDA graph launches all its kernels at once, so that only the
time of the kernels remains. Consecutive calls use different sets of buffers, which together are
several times as large as the cache, so that every read comes from memory, as in training.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

Call = Callable[[], Any]
MAX_BUFFER_SETS = 16
CACHE_MULTIPLE = 4  # size of all buffers together / size of the cache, at least
MIN_CALLS = 20  # between two events
WARM_UP_CALLS = 3


def buffer_set_count(size: int, cache: int) -> int:
    """Return the number of sets of buffers to cycle through.

    Parameters
    ----------
    size, cache : int
        Bytes of one set of buffers, and of the cache.

    Examples
    --------
    >>> buffer_set_count(200 << 20, 60 << 20), buffer_set_count(16 << 20, 60 << 20)
    (2, 15)
    """
    return max(2, min(MAX_BUFFER_SETS, math.ceil(CACHE_MULTIPLE * cache / size)))


def calls_on_buffers(
    arrays: Mapping[str, Any],
    sets: int,
    forward: Callable[..., Any],
    forward_backward: Callable[[list[Any], Any], tuple[Any, Any]],
    prepare: Callable[[Any], Any] = lambda array: array,
) -> tuple[list[Call], list[Call]]:
    """Return calls of forward, and calls of forward and backward, each on its own set of buffers.

    Parameters
    ----------
    arrays : mapping
        The inputs by name, and dout. Each set holds a different multiple of the images.
    sets : int
        Number of sets of buffers, and of calls of each kind.
    forward : function
        Takes the inputs.
    forward_backward : function
        Takes the list of inputs, and dout; returns a result to keep alive, and the gradients.
    prepare : function, optional
        Converts an array to an input.
    """
    dout = arrays["dout"]
    inputs = [array for name, array in arrays.items() if name != "dout"]
    results: list[Any] = [None] * sets  # each stays allocated until the next call on its set

    def calls_of_set(k: int) -> tuple[Call, Call]:
        scale = 1 + k / sets
        scaled = [prepare(array * scale if array.ndim == 4 else array) for array in inputs]
        scaled_dout = dout * scale

        def run_forward() -> Any:
            results[k] = forward(*scaled)
            return results[k]

        def run_forward_backward() -> Any:
            results[k] = forward_backward(scaled, scaled_dout)
            return results[k][1]

        return run_forward, run_forward_backward

    pairs = [calls_of_set(k) for k in range(sets)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


class Clock:
    """Times calls that launch kernels through CuPy, in microseconds."""

    def __init__(self, cupy: Any, rounds: int) -> None:
        self.cupy, self.rounds = cupy, rounds

    def cache_bytes(self) -> int:
        """Return the size of the GPU's L2 cache in bytes."""
        return int(self.cupy.cuda.Device().attributes["L2CacheSize"])

    def time_launched(self, calls: Sequence[Call]) -> float:
        """Return the mean time of a call that is launched from Python, cycling through calls."""
        stream = self.cupy.cuda.get_current_stream()
        for call in calls:  # compiles kernels, and fills the memory pool
            call()
        stream.synchronize()
        count = max(MIN_CALLS, len(calls))

        def several() -> None:
            for k in range(count):
                calls[k % len(calls)]()

        return self._timed(several, stream) / count

    def time_in_graph(self, calls: Sequence[Call]) -> float:
        """Return the mean time of a call in a CUDA graph that cycles through calls."""
        stream = self.cupy.cuda.Stream(non_blocking=True)
        count = max(MIN_CALLS, len(calls))
        self.cupy.cuda.Device().synchronize()  # other streams may still be writing the inputs
        with stream:
            for call in calls:
                call()
            stream.synchronize()
            stream.begin_capture()
            try:
                for k in range(count):
                    calls[k % len(calls)]()
            finally:
                graph = stream.end_capture()
            return self._timed(lambda: graph.launch(stream), stream) / count

    def time_python_and_total(self, call: Call) -> tuple[float, float]:
        """Return the time in Python until a call has launched its kernels, and its total time."""
        wait = self.cupy.cuda.Device().synchronize
        for _ in range(WARM_UP_CALLS):
            call()
        wait()
        start = time.perf_counter()
        for _ in range(MIN_CALLS):
            call()
        launched = time.perf_counter()
        wait()
        ends = launched, time.perf_counter()
        python, wall = (1e6 * (end - start) / MIN_CALLS for end in ends)
        return python, wall

    def _timed(self, call: Call, stream: Any) -> float:
        """Return the median time of a call that enqueues kernels in a stream."""
        call()
        times = []
        for _ in range(self.rounds):
            start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record(stream)
            call()
            end.record(stream)
            end.synchronize()
            times.append(1000 * self.cupy.cuda.get_elapsed_time(start, end))
        return median(times)

    def copy_bandwidth(self) -> float:
        """Return the bandwidth of a copy in GB/s, reads and writes added."""
        size = 8 * self.cache_bytes()
        a, b = (self.cupy.ones(size // 4, "f") for _ in range(2))
        return 2 * a.nbytes / self.time_launched([lambda: self.cupy.copyto(b, a)]) / 1e3

    def launch_cost(self) -> tuple[float, float]:
        """Return the time of an empty kernel launched from Python, and in a graph."""
        source = 'extern "C" __global__ void empty() {}'
        empty = self.cupy.RawModule(code=source).get_function("empty")
        calls = [lambda: empty((1,), (32,), ())]
        calls[0]()
        self.cupy.cuda.get_current_stream().synchronize()
        start = time.perf_counter()
        for _ in range(2000):
            calls[0]()
        in_python = (time.perf_counter() - start) / 2000 * 1e6
        return in_python, self.time_in_graph(calls)

"""How a GPU is timed.

Kernels run on after a call has returned, so events are put into their stream and read afterwards.
What is launched from Python costs a few microseconds a launch; in a CUDA graph, which launches all
its kernels at once, what remains is the kernels' own time. Buffers take turns: a sum of their sizes
of several times the cache makes every read one from memory, as it is in training.
"""

import math
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

Call = Callable[[], Any]
SETS = 16  # of buffers, at most
TIMES_THE_CACHE = 4
LEAST_CALLS = 20  # between two events
WARM_UP = 3  # calls


def sets_of_buffers(size: int, cache: int) -> int:
    """Return how many sets of buffers of so many bytes take turns.

    Examples
    --------
    >>> sets_of_buffers(200 << 20, 60 << 20), sets_of_buffers(16 << 20, 60 << 20)
    (2, 15)
    """
    return max(2, min(SETS, math.ceil(TIMES_THE_CACHE * cache / size)))


class Clock:
    """Times calls that launch kernels through CuPy, in microseconds."""

    def __init__(self, cupy: Any, rounds: int) -> None:
        self.cupy, self.rounds = cupy, rounds

    def cache_bytes(self) -> int:
        """Return the size of the GPU's second-level cache."""
        return int(self.cupy.cuda.Device().attributes["L2CacheSize"])

    def launched(self, calls: Sequence[Call]) -> float:
        """Return how long one of calls takes, which take turns, as Python launches it."""
        stream = self.cupy.cuda.get_current_stream()
        for call in calls:  # compiles, and fills the memory pool
            call()
        stream.synchronize()
        count = max(LEAST_CALLS, len(calls))

        def several() -> None:
            for k in range(count):
                calls[k % len(calls)]()

        return self._timed(several, stream) / count

    def graphed(self, calls: Sequence[Call]) -> float:
        """Return how long one of calls takes in a CUDA graph of several."""
        stream = self.cupy.cuda.Stream(non_blocking=True)
        count = max(LEAST_CALLS, len(calls))
        self.cupy.cuda.Device().synchronize()  # inputs may still be written on another stream
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

    def issued(self, call: Call) -> tuple[float, float]:
        """Return how long Python takes to launch a call, and how long the call takes in all."""
        wait = self.cupy.cuda.Device().synchronize
        for _ in range(WARM_UP):
            call()
        wait()
        start = time.perf_counter()
        for _ in range(LEAST_CALLS):
            call()
        launched = time.perf_counter()
        wait()
        ends = launched, time.perf_counter()
        python, wall = (1e6 * (end - start) / LEAST_CALLS for end in ends)
        return python, wall

    def _timed(self, call: Call, stream: Any) -> float:
        """Return the median time of a call that puts work into a stream."""
        call()
        found = []
        for _ in range(self.rounds):
            start, end = self.cupy.cuda.Event(), self.cupy.cuda.Event()
            start.record(stream)
            call()
            end.record(stream)
            end.synchronize()
            found.append(1000 * self.cupy.cuda.get_elapsed_time(start, end))
        return median(found)

    def copy_bandwidth(self) -> float:
        """Return how many GB a second are read and written when memory is copied."""
        size = 8 * self.cache_bytes()
        a, b = (self.cupy.ones(size // 4, "f") for _ in range(2))
        return 2 * a.nbytes / self.launched([lambda: self.cupy.copyto(b, a)]) / 1e3

    def launch_cost(self) -> tuple[float, float]:
        """Return what launching an empty kernel costs Python, and what it costs in a graph."""
        source = 'extern "C" __global__ void empty() {}'
        empty = self.cupy.RawModule(code=source).get_function("empty")
        calls = [lambda: empty((1,), (32,), ())]
        calls[0]()
        self.cupy.cuda.get_current_stream().synchronize()
        start = time.perf_counter()
        for _ in range(2000):
            calls[0]()
        in_python = (time.perf_counter() - start) / 2000 * 1e6
        return in_python, self.graphed(calls)

"""A clock for a GPU, and buffers that no cache holds.

Kernels run on after a call has returned, so events are put into their stream and read afterwards. A
launch from Python costs a few microseconds; a CUDA graph launches all its kernels at once, so only
the kernels' own time remains. Buffers take turns: together they are several times as large as the
cache, so that every read comes from memory, as in training.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any

Call = Callable[[], Any]
MAX_SETS = 16  # of buffers
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
    return max(2, min(MAX_SETS, math.ceil(TIMES_THE_CACHE * cache / size)))


def calls_on_buffers(
    arrays: Mapping[str, Any],
    sets: int,
    forward: Callable[..., Any],
    both: Callable[[list[Any], Any], tuple[Any, Any]],
    prepare: Callable[[Any], Any] = lambda array: array,
) -> tuple[list[Call], list[Call]]:
    """Return calls of an op forward, and forward and backward, each on its own set of buffers.

    Parameters
    ----------
    arrays : mapping
        The inputs by name, and dout; each set holds other multiples of the images among them.
    sets : int
        Number of sets, and so of calls.
    forward : function
        Of the inputs.
    both : function
        Of the list of inputs and dout; returns what is to live, and the gradients.
    prepare : function, optional
        Makes an input of an array.
    """
    dout = arrays["dout"]
    inputs = [array for name, array in arrays.items() if name != "dout"]
    results: list[Any] = [None] * sets  # each lives until its turn comes again, as inputs do

    def calls_of_set(k: int) -> tuple[Call, Call]:
        scale = 1 + k / sets
        own = [prepare(array * scale if array.ndim == 4 else array) for array in inputs]
        own_dout = dout * scale

        def run_forward() -> Any:
            results[k] = forward(*own)
            return results[k]

        def run_both() -> Any:
            results[k] = both(own, own_dout)
            return results[k][1]

        return run_forward, run_both

    pairs = [calls_of_set(k) for k in range(sets)]
    return [pair[0] for pair in pairs], [pair[1] for pair in pairs]


class Clock:
    """Times calls that launch kernels through CuPy, in microseconds."""

    def __init__(self, cupy: Any, rounds: int) -> None:
        self.cupy, self.rounds = cupy, rounds

    def cache_bytes(self) -> int:
        """Return the size of the GPU's second-level cache."""
        return int(self.cupy.cuda.Device().attributes["L2CacheSize"])

    def launched(self, calls: Sequence[Call]) -> float:
        """Return the time of a call as Python launches it; the calls take turns."""
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
        """Return the time of a call in a CUDA graph of several."""
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
        """Return the time that Python takes to launch a call, and the time of the call in all."""
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

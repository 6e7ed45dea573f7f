"""What the machine can do, measured here: its matrix products and its memory.

An op cannot be done in less time than its multiply-accumulates take at the rate of a large matrix
product, nor than it takes to read its inputs and write its results once. The larger of the two is
its floor.

Both are rates that this machine reaches with what NumPy calls, not what its makers print. Two
things can get below the floor: arrays that still lie in a cache from the op before, and algorithms
that need fewer multiplications than the definition (Winograd's).

Source: Williams, Waterman and Patterson, "Roofline: An Insightful Visual Performance Model for
Multicore Architectures", Communications of the ACM 52 (2009).
"""

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from minise.ops.checks import Array

SIDE = 1536  # of the matrices: large enough for the full rate, 0.1 s on one core
COPIED = 128 * 2**20  # bytes, beyond any cache
RUNS = 5  # the best counts: others can only slow it down


class Rates(NamedTuple):
    """What the machine reaches."""

    macs: float  # multiply-accumulates a second, of a large matrix product
    bytes: float  # a second, read and written together, of a large copy

    def floor(self, macs: float, moved: float) -> float:
        """Return in how many seconds neither so many MACs nor so many bytes are possible.

        Examples
        --------
        >>> Rates(macs=100, bytes=10).floor(50, 20)
        2.0
        """
        return max(macs / self.macs, moved / self.bytes)


def measure(threads: int, dtype: str) -> Rates:
    """Measure both rates with so many threads."""
    with threadpool_limits(threads, "blas"):
        return Rates(_matrix_rate(dtype), _copy_rate(threads))


def _matrix_rate(dtype: str) -> float:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((2, SIDE, SIDE)).astype(dtype)
    out = np.empty_like(a)
    return SIDE**3 / _best(lambda: np.matmul(a, b, out=out))


def _copy_rate(threads: int) -> float:
    source, target = np.ones(COPIED, np.uint8), np.zeros(COPIED, np.uint8)
    pairs = list(zip(np.array_split(source, threads), np.array_split(target, threads), strict=True))

    def copy(pair: tuple[Array, Array]) -> None:
        np.copyto(pair[1], pair[0])  # without Python's lock, so threads copy at the same time

    with ThreadPoolExecutor(threads) as pool:
        return 2 * COPIED / _best(lambda: list(pool.map(copy, pairs)))


def _best(function: Callable[[], object]) -> float:
    function()  # wakes threads and touches memory
    seconds = []
    for _ in range(RUNS):
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds)

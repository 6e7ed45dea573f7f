"""Views of the compiled ops with a number of threads and a convolution algorithm (jit.using)."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numba

from minise.checks import check_choice, check_integer
from minise.ops.jit.convolution.algorithm import ALGORITHMS, current_algorithm
from minise.ops.protocol import Backend


class OpsView:
    """The compiled ops with settings that apply during each call and are restored after it.

    Attributes
    ----------
    algorithm : str or None
        Algorithm of convolutions; None is that of the thread, "auto" unless another view sets it.
    """

    def __init__(self, ops: Any, threads: int | None, algorithm: str | None) -> None:
        self._ops, self._threads, self.algorithm = ops, threads, algorithm

    def __getattr__(self, name: str) -> Any:
        """Return an attribute of the ops, a function with the settings applied around it."""
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._ops, name)
        if callable(value):
            value = self._bound(value)
            setattr(self, name, value)
        return value

    def using(self, *, threads: int | None = None, algorithm: str | None = None) -> Backend:
        """Return a view with the given settings, the others as in this view; see jit.using."""
        return configure(
            self._ops,
            self._threads if threads is None else threads,
            self.algorithm if algorithm is None else algorithm,
        )

    def _bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*arguments: Any, **settings: Any) -> Any:
            if _already_set(self._threads, self.algorithm):  # a check is cheaper than setting
                return function(*arguments, **settings)
            with _applied(self._threads, self.algorithm):
                return function(*arguments, **settings)

        return run


def _already_set(threads: int | None, algorithm: str | None) -> bool:
    """Return True if each setting that is not None is already in force."""
    same_threads = threads in (None, numba.get_num_threads())
    return same_threads and algorithm in (None, current_algorithm.get())


@contextmanager
def _applied(threads: int | None, algorithm: str | None) -> Iterator[None]:
    """Apply the settings that are not None, and restore the previous ones at the end."""
    before = numba.get_num_threads()
    token = current_algorithm.set(algorithm or current_algorithm.get())
    try:
        numba.set_num_threads(threads or before)
        yield
    finally:
        numba.set_num_threads(before)
        current_algorithm.reset(token)


def configure(ops: Any, threads: int | None, algorithm: str | None) -> Backend:
    """Return a view of the ops with these settings; see jit.using.

    Raises
    ------
    ValueError, TypeError
        If threads is not an integer from 1 to Numba's number of threads, or algorithm is unknown.
    """
    if algorithm is not None:
        check_choice("using", "algorithm", algorithm, ALGORITHMS)
    if threads is not None:
        check_integer("using", "threads", threads, 1)
        started = numba.config.NUMBA_NUM_THREADS
        if threads > started:
            raise ValueError(
                f"using: threads is {threads}, expected at most {started}, which Numba has started"
                f": set NUMBA_NUM_THREADS={threads} before the first import"
            )
    return cast(Backend, OpsView(ops, threads, algorithm))

"""How the compiled ops are run: on how many threads, and by which algorithm."""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numba

from minise.ops.checks import check_choice, check_integer
from minise.ops.jit.convolution.algorithm import ALGORITHMS, chosen
from minise.ops.protocol import Backend


class Using:
    """The compiled ops, run in a way that is set around every call and then put back."""

    def __init__(self, ops: Any, threads: int | None, algorithm: str | None) -> None:
        self._ops, self._threads, self._algorithm = ops, threads, algorithm

    def __getattr__(self, name: str) -> Any:
        """Return one of the ops."""
        if name.startswith("_"):
            raise AttributeError(name)
        value = getattr(self._ops, name)
        if callable(value):
            value = self._bound(value)
            setattr(self, name, value)
        return value

    def using(self, *, threads: int | None = None, algorithm: str | None = None) -> Backend:
        """Return the ops with what is given in place of what stands here; see jit.using."""
        return using(
            threads=self._threads if threads is None else threads,
            algorithm=self._algorithm if algorithm is None else algorithm,
        )

    def _bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*arguments: Any, **settings: Any) -> Any:
            if _stands(self._threads, self._algorithm):  # which takes less time to see than to set
                return function(*arguments, **settings)
            with _set(self._threads, self._algorithm):
                return function(*arguments, **settings)

        return run


def _stands(threads: int | None, algorithm: str | None) -> bool:
    """Tell whether all that is not None is set already."""
    return threads in (None, numba.get_num_threads()) and algorithm in (None, chosen.get())


@contextmanager
def _set(threads: int | None, algorithm: str | None) -> Iterator[None]:
    """Set what is not None, and put back what stood there."""
    before = numba.get_num_threads()
    token = chosen.set(algorithm or chosen.get())
    try:
        numba.set_num_threads(threads or before)
        yield
    finally:
        numba.set_num_threads(before)
        chosen.reset(token)


def using(*, threads: int | None = None, algorithm: str | None = None) -> Backend:
    """Return an object with the same functions that runs them as it is told here.

    Parameters
    ----------
    threads : int, optional
        From 1 to as many as Numba has started: the machine's cores, or the environment variable
        NUMBA_NUM_THREADS. The bits of a result do not depend on it.
    algorithm : {"auto", "direct", "winograd"}, optional
        By which convolutions are computed; convolution/algorithm.py states the rule of "auto". The
        bits of a result do depend on it.

    Raises
    ------
    ValueError, TypeError
        If there are not so many threads, or there is no such algorithm.
    """
    from minise.ops import jit

    if algorithm is not None:
        check_choice("using", "algorithm", algorithm, ALGORITHMS)
    if threads is not None:
        check_integer("using", "threads", threads, 1)
        most = numba.config.NUMBA_NUM_THREADS
        if threads > most:
            raise ValueError(
                f"using: threads is {threads}, expected at most {most}, which Numba has started: "
                f"set NUMBA_NUM_THREADS={threads} before the first import"
            )
    return cast(Backend, Using(jit, threads, algorithm))

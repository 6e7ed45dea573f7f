"""How the compiled ops are run: on how many threads."""

import functools
from collections.abc import Callable
from typing import Any

import numba


class Using:
    """The compiled ops, run on a number of threads that is set around every call."""

    def __init__(self, ops: Any, threads: int) -> None:
        self._ops, self._threads = ops, threads

    def __getattr__(self, name: str) -> Any:
        """Return one of the ops."""
        if name.startswith("_"):
            raise AttributeError(name)
        function = self._bound(getattr(self._ops, name))
        setattr(self, name, function)
        return function

    def _bound(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def run(*arguments: Any, **settings: Any) -> Any:
            before = numba.get_num_threads()
            numba.set_num_threads(self._threads)
            try:
                return function(*arguments, **settings)
            finally:
                numba.set_num_threads(before)

        return run


def using(*, threads: int) -> Using:
    """Return an object with the same functions that runs them on so many threads.

    Parameters
    ----------
    threads : int
        From 1 to as many as Numba has started: the machine's cores, or the environment variable
        NUMBA_NUM_THREADS. The bits of a result do not depend on it.

    Raises
    ------
    ValueError, TypeError
        If there are not so many.
    """
    from minise.ops import jit
    from minise.ops.checks import check_integer

    check_integer("using", "threads", threads, 1)
    most = numba.config.NUMBA_NUM_THREADS
    if threads > most:
        raise ValueError(
            f"using: threads is {threads}, expected at most {most}, which Numba has started: set "
            f"NUMBA_NUM_THREADS={threads} before the first import"
        )
    return Using(jit, threads)

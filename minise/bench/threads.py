"""How many threads a back end uses, and the libraries below it."""

from typing import Any

from minise.ops.backend import Algorithm, load_ops
from minise.train.run_folder import check_threads as check_threads
from minise.train.run_folder import cores

# Read when a library is loaded, so they are set before a process starts.
VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def default_threads() -> int:
    """Return two, or one where there is one core."""
    return min(2, cores())


def environment(threads: int) -> dict[str, str]:
    """Return the environment variables that give a process's libraries so many threads."""
    return dict.fromkeys(VARIABLES, str(threads))


def ops_with(name: str, threads: int, algorithm: Algorithm = "auto") -> Any:
    """Return a back end by name that uses so many threads, where it can be told how many.

    Raises
    ------
    ValueError
        If there is no such back end, or it has no choice of algorithm, but one is chosen; or if a
        clock on the processor cannot time it.
    """
    if name == "cuda":
        raise ValueError(
            "ops is 'cuda', whose kernels run on after a call has returned, expected a back end on "
            "the processor: minise bench cuda times a GPU"
        )
    return load_ops(name, threads, algorithm)

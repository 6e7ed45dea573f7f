"""How the ops are run: NumPy needs nothing else, compiles nothing, and has one way to do it.

A back end that needs a GPU, has threads of its own or compiles kernels has functions of these names
that say so; what stands here serves all others.
"""

from contextlib import AbstractContextManager, nullcontext

from minise.ops.checks import check_one_algorithm
from minise.ops.protocol import Backend, Listener


def require() -> None:
    """Do nothing: what the ops need is installed with minise.

    Where it is not, a back end raises ImportError and says what is missing.
    """


def using(*, threads: int | None = None, algorithm: str | None = None) -> Backend:
    """Return the ops as they are.

    Parameters
    ----------
    threads : int, optional
        Of no effect: the ops have no threads, and those of BLAS are its own.
    algorithm : {"auto"}, optional
        By which convolutions are computed.

    Raises
    ------
    ValueError
        If another algorithm is chosen.
    """
    from minise.ops import reference

    check_one_algorithm("reference", algorithm)
    return reference


def on_compile(listener: Listener) -> AbstractContextManager[None]:
    """Return a context in which the listener is never called: there is no kernel to compile."""
    return nullcontext()

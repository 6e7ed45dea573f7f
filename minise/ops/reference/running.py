"""How the ops are run: NumPy needs nothing else, and compiles nothing.

A back end that needs a GPU or compiles kernels has functions of these names that say so; these
serve all others.
"""

from contextlib import AbstractContextManager, nullcontext

from minise.ops.protocol import Listener


def require() -> None:
    """Do nothing: what the ops need is installed with minise.

    Where it is not, a back end raises ImportError and says what is missing.
    """


def on_compile(listener: Listener) -> AbstractContextManager[None]:
    """Return a context in which the listener is never called: there is no kernel to compile."""
    return nullcontext()

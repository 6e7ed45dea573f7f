"""The functions `require` and `on_compile` for back ends that need no GPU and compile no kernels.

Other back ends define their own.
"""

from contextlib import AbstractContextManager, nullcontext

from minise.ops.protocol import Listener


def require() -> None:
    """Do nothing: the ops need nothing that is not installed with minise.

    A back end with other requirements raises ImportError and names the missing part.
    """


def on_compile(listener: Listener) -> AbstractContextManager[None]:
    """Return a context in which listener is never called: there is no kernel to compile."""
    return nullcontext()

"""Optimise a kernel and all that it calls once, as a whole.

Numba optimises each function, and translates it to machine code, before it links it into the
functions that call it. The body of a parallel loop, its wrapper and the function around the loop
follow, each with all that it calls. So LLVM processes a statement of a device function four times
or more, of which only the last counts: Python calls kernels, and only kernels call the rest. Here,
what Numba compiles for a kernel is linked without being optimised, apart from passes over single
functions. Measured on all kernels of convolutions: 42 s of compilation instead of 105 s.
"""

from collections.abc import Callable
from typing import Any

from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler


class _WithoutEnvironments:
    """Numba's code generator, for a library whose functions Python does not call."""

    def __init__(self, codegen: Any) -> None:
        self._codegen = codegen

    def __getattr__(self, name: str) -> Any:
        return getattr(self._codegen, name)

    def set_env(self, name: str, env: Any) -> None:
        """Do nothing: an environment has the Python objects that a function uses."""


class LinkedLibrary(JITCodeLibrary):  # type: ignore[misc]
    """Code that is linked into the library of a kernel, and has no machine code of its own."""

    @property
    def codegen(self) -> Any:
        """The code generator."""
        return _WithoutEnvironments(self._codegen)

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: there is no machine code."""
        self._ensure_finalized()
        return 0

    def _optimize_final_module(self) -> None:
        """Do nothing: the kernel is optimised as a whole."""

    def _finalize_final_module(self) -> None:
        """Make the code ready to be linked."""
        self._finalize_dynamic_globals()
        self._finalized = True


class KernelCompiler(Compiler):  # type: ignore[misc]
    """Numba's compiler for kernels: only their own library is optimised."""

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile a kernel."""
        codegen = self.state.targetctx.codegen()
        self.state.library = JITCodeLibrary(codegen, func.__qualname__)
        self.state.library.enable_object_caching()
        library_class, codegen._library_class = codegen._library_class, LinkedLibrary
        try:
            return super().compile_extra(func)
        finally:
            codegen._library_class = library_class

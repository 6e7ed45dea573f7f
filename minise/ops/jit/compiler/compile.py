"""Compile kernels once per machine, with a cache on disk that tolerates damaged files.

Numba's own cache loads every file without checking it: a truncated file stops the program, a
flipped bit may do anything, and a change in a function that a kernel calls goes unnoticed. Here
files carry digests (cache_folder.py), and a file's name has a hash of its types and of the
processor. If several processes need the same kernel, one compiles it and the others wait
(file_lock.py). Kernels start Numba's threads at their first call (threads.py).
"""

import atexit
import gc
import hashlib
import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import local
from typing import Any

import numba
from numba.core import serialize
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.registry import CPUDispatcher

from minise.ops.jit.compiler import threads
from minise.ops.jit.compiler.cache_folder import folder, read_checked, warn_once, write_checked
from minise.ops.jit.compiler.file_lock import FileLock
from minise.ops.jit.compiler.linking import KernelCompiler
from minise.ops.protocol import Listener

# Waiting OpenMP threads spin. With the default spin count, a training step on two cores takes ten
# times as long when another process needs one of them. With this lower count the threads sleep
# before the next kernel starts, at no cost, and idle cores become free. It has an effect only if
# set before the first kernel runs; a value that the user has set is kept.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # about a tenth of a millisecond

FIRST_TRAINING_KERNEL = "norm.forward"  # of the kernels that only training needs
LAST_TRAINING_KERNEL = "norm.backward"
KERNELS: list[Any] = []  # all kernels of the package
OPTIONS = dict(error_model="numpy", nogil=True)  # division by zero gives infinity, as in NumPy
WITHOUT_WRAPPERS = dict(no_cpython_wrapper=True, no_cfunc_wrapper=True)  # for calls from Python

ONLY_PRANGE = dict.fromkeys(  # only prange is parallel: a search for other loops takes time
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
) | {"prange": True}


class _Thread(local):
    """Compilation in one Python thread."""

    compile_seconds = 0.0
    compiles = False  # a kernel, or waits for another process that does


_thread = _Thread()
_listeners: list[Listener] = []
_compiled: list[str] = []  # names of the kernels compiled in this process


def kernel(function: Callable[..., Any]) -> Any:
    """Decorate a kernel: compile a function whose prange loops run in parallel, and cache it."""
    dispatcher = numba.njit(parallel=ONLY_PRANGE, pipeline_class=KernelCompiler, **OPTIONS)(
        function
    )
    if not numba.config.DISABLE_JIT:
        dispatcher._cache = DiskCache(function)
        dispatcher.__class__ = _UnstartedKernel
        KERNELS.append(dispatcher)
    return dispatcher


def device_function(function: Callable[..., Any], **options: Any) -> Any:
    """Decorate a function that kernels call: its code becomes part of theirs."""
    dispatcher = numba.njit(**OPTIONS, **WITHOUT_WRAPPERS, **options)(function)
    if not numba.config.DISABLE_JIT:
        dispatcher.__class__ = _DeviceFunction
    return dispatcher


def force_inlined(function: Callable[..., Any]) -> Any:
    """Decorate a short device function: LLVM inlines it, as a call costs more than its body."""
    return device_function(function, forceinline=True)


def inlined(function: Callable[..., Any]) -> Any:
    """Decorate a long function with one caller: Numba inlines it and never compiles it alone."""
    return device_function(function, inline="always")


@contextmanager
def on_compile(listener: Listener) -> Iterator[None]:
    """Call the listener before each compilation, with (name, compiled so far, all kernels)."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


def compile_seconds() -> float:
    """Return the seconds that this Python thread has spent on loading and compiling kernels."""
    return _thread.compile_seconds


def is_compiling() -> bool:
    """Return True if this Python thread compiles a kernel, or waits for another process to."""
    return _thread.compiles


def compile_ahead() -> None:
    """Start a second process that compiles the kernels of the backward pass (../ahead).

    Numba compiles on one core. While the first training step compiles its forward pass in this
    process, the second process compiles the backward pass, which this one then loads from the
    cache. The second process ends with this one, even if this one is killed: then its standard
    input ends. MINISE_AHEAD=0 disables it.
    """
    if os.environ.get("MINISE_AHEAD") == "0" or os.cpu_count() == 1:
        return
    command = [sys.executable, "-P", "-m", "minise.ops.jit.ahead", "--until-stdin-ends"]
    devnull = subprocess.DEVNULL
    environment = {**os.environ, "MINISE_AHEAD": "0"}
    with suppress(OSError):  # if no process can be started, this one compiles everything
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=devnull, stderr=devnull
        )
        atexit.register(process.kill)


class _DeviceFunction(CPUDispatcher):  # type: ignore[misc]
    """A compiled device function."""

    def __call__(self, *arguments: Any) -> Any:
        raise TypeError(
            f"expected a kernel, got {self.__name__}, which only kernels can call; decorate a "
            "function that calls it by @kernel, or set NUMBA_DISABLE_JIT=1"
        )


class _Kernel(CPUDispatcher):  # type: ignore[misc]
    """A compiled kernel: calls are Numba's, without overhead."""

    def compile(self, sig: Any) -> Any:
        """Load or compile the kernel, and release its file lock, also after an exception."""
        with global_compiler_lock:
            start, compiles = time.perf_counter(), _thread.compiles
            collects = gc.isenabled()
            gc.disable()  # a sixth of the time of a compilation: what it creates, it needs
            try:
                return super().compile(sig)
            finally:
                if collects:
                    gc.enable()
                _thread.compiles = compiles
                self._cache.lock.release()
                _thread.compile_seconds += time.perf_counter() - start


class _UnstartedKernel(_Kernel):
    """A kernel before Numba's threads have started."""

    def __call__(self, *arguments: Any) -> Any:
        kind = _Kernel if threads.start() else _SerialKernel
        for kernel in KERNELS:
            kernel.__class__ = kind
        return self(*arguments)


class _SerialKernel(_Kernel):
    """A kernel that waits for the kernels of other Python threads."""

    def __call__(self, *arguments: Any) -> Any:
        with threads.one_kernel_lock:
            return super().__call__(*arguments)


class DiskCache(_Cache):  # type: ignore[misc]
    """The cache files of one kernel: each has a digest and the machine code for one signature."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__.strip('_')}"
        self.lock = FileLock()

    @property
    def cache_path(self) -> str:
        """The folder of the files."""
        return str(folder())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the kernel for a signature, or None if it has to be compiled."""
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        result = _load(path, target_context)
        if result is None:
            _thread.compiles = True
            self.lock.acquire(path)
            result = _load(path, target_context)  # another process may have compiled it meanwhile
        if result is not None:
            return result
        if self._name == FIRST_TRAINING_KERNEL and not any(
            folder().glob(f"{LAST_TRAINING_KERNEL}-*")
        ):
            compile_ahead()
        _compiled.append(self._name)
        for listener in _listeners:
            listener(self._name, len(_compiled), len(KERNELS))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Write the kernel for a signature to the cache."""
        try:
            write_checked(self._path(sig, data.codegen), serialize.dumps(data._reduce()))
        except OSError as error:  # a full or read-only disk
            warn_once(error)

    def _path(self, sig: Any, codegen: Any) -> Path:
        target = repr((sig, codegen.magic_tuple()))  # types, processor and its features
        return folder() / f"{self._name}-{hashlib.sha256(target.encode()).hexdigest()[:16]}"

    def enable(self) -> None:
        """Do nothing: the cache is always enabled."""

    def disable(self) -> None:
        """Do nothing: the cache is always enabled."""

    def flush(self) -> None:
        """Delete the kernel's files."""
        for path in folder().glob(f"{self._name}-*"):
            path.unlink(missing_ok=True)


def _load(path: Path, target_context: Any) -> Any:
    """Return the kernel in a cache file, or None if there is none or it is damaged."""
    payload = read_checked(path)
    if payload is not None:
        with suppress(Exception):  # undamaged, but no kernel for this target: compile it again
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
    return None

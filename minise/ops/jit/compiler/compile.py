"""Compile kernels once per machine, with a cache on disk that tolerates damaged files.

Numba's own cache loads every file without checking it: a truncated file stops the program, a
flipped bit may do anything, and a change in a function that a kernel calls goes unnoticed. Here
each file starts with the digest of its contents, its name has a hash of its types and of the
processor, and its folder a hash of the sources of this package and of the versions of Python,
NumPy and Numba. A file that does not match is compiled again and replaced. Files are written under
a temporary name and then renamed, so that a killed process leaves a complete file or none. If
several processes need the same kernel, one compiles it and the others wait (file_lock.py).

The cache folder is the user's cache folder, or the one in the environment variable MINISE_CACHE.
"""

import atexit
import hashlib
import os
import pickle
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import numba
import numpy as np
from numba.core import serialize
from numba.core.caching import _Cache
from numba.core.compiler import CompileResult
from platformdirs import user_cache_dir

from minise.ops.jit.compiler.file_lock import FileLock
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

ONLY_PRANGE = dict.fromkeys(  # only prange is parallel: a search for other loops takes time
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
) | {"prange": True}

_listeners: list[Listener] = []
_compiled: list[str] = []  # names of the kernels compiled in this process


def kernel(function: Callable[..., Any]) -> Any:
    """Decorate a kernel: compile a function whose prange loops run in parallel, and cache it."""
    dispatcher = numba.njit(parallel=ONLY_PRANGE, **OPTIONS)(function)
    if not numba.config.DISABLE_JIT:
        dispatcher._cache = DiskCache(function)
        KERNELS.append(dispatcher)
    return dispatcher


def device_function(function: Callable[..., Any]) -> Any:
    """Decorate a function that kernels call: its code becomes part of theirs."""
    return numba.njit(**OPTIONS)(function)


def force_inlined(function: Callable[..., Any]) -> Any:
    """Decorate a short device function: LLVM inlines it, as a call costs more than its body."""
    return numba.njit(forceinline=True, **OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Decorate a long function with one caller: Numba inlines it and never compiles it alone."""
    return numba.njit(inline="always", **OPTIONS)(function)


@contextmanager
def on_compile(listener: Listener) -> Iterator[None]:
    """Call the listener before each compilation, with (name, compiled so far, all kernels)."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@cache
def folder() -> Path:
    """Return the folder of compiled kernels for these sources and versions, on this platform."""
    root = os.environ.get("MINISE_CACHE") or user_cache_dir("minise", appauthor=False)
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):  # of ops/jit
        digest.update(source.read_bytes())
    for version in (sys.version, np.__version__, numba.__version__, llvmlite.__version__):
        digest.update(version.encode())
    digest.update(platform.platform().encode())
    return Path(root) / "kernels" / digest.hexdigest()[:16]


def compile_ahead() -> None:
    """Start a second process that compiles the kernels of the backward pass (../ahead).

    Numba compiles on one core. While the first training step compiles its forward pass in this
    process, the second process compiles the backward pass, which this one then loads from the
    cache. The second process ends with this one. MINISE_AHEAD=0 disables it.
    """
    if os.environ.get("MINISE_AHEAD") == "0" or os.cpu_count() == 1:
        return
    command = [sys.executable, "-P", "-m", "minise.ops.jit.ahead"]
    devnull = subprocess.DEVNULL
    environment = {**os.environ, "MINISE_AHEAD": "0"}
    with suppress(OSError):  # if no process can be started, this one compiles everything
        process = subprocess.Popen(
            command, env=environment, stdin=devnull, stdout=devnull, stderr=devnull
        )
        atexit.register(process.kill)


class DiskCache(_Cache):  # type: ignore[misc]
    """The cache files of one kernel: each has a digest and the machine code for one signature."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__.strip('_')}"
        self._lock = FileLock()

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
            self._lock.acquire(path)
            result = _load(path, target_context)  # another process may have compiled it meanwhile
        if result is not None:
            self._lock.release()
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
        with suppress(OSError):  # a full or read-only disk: every start then compiles again
            write_checked(self._path(sig, data.codegen), serialize.dumps(data._reduce()))
        self._lock.release()

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


def read_checked(path: Path) -> bytes | None:
    """Return the payload that write_checked wrote, or None if the file is missing or damaged."""
    try:
        digest, payload = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return payload if digest == hashlib.sha256(payload).hexdigest().encode() else None


def write_checked(path: Path, payload: bytes) -> None:
    """Write a digest and the payload atomically: a reader sees the complete file or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

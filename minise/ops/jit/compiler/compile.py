"""Compiles kernels once per machine: a cache on disk that survives whatever happens to its files.

Numba's own cache loads what it finds: a file that was cut short stops the program, one with a
flipped bit may do anything, and it does not notice a change in a function that a kernel calls.
Here a file carries the digest of its contents, its name says all that it depends on, and its
folder is named after the sources of this package and the versions of Python, NumPy and Numba.
What does not fit is compiled again and replaced. A file is written under another name and then
renamed, so processes that are killed leave whole files or none. Of processes that want the same
kernel at once one compiles it, and the others wait for its file (claims.py).

The folder is that of the user's caches, or the environment variable MINISE_CACHE names it.
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

from minise.ops.jit.compiler.claims import Claim
from minise.ops.protocol import Listener

# Threads that wait for others spin. By default they spin so long that, where a third process wants
# one of two cores, a step takes ten times as long; so briefly that is over before the next kernel,
# it costs nothing, and a core that is not needed is soon free. It counts if set before the first
# kernel runs, and a user's own choice stays.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")  # about a tenth of a millisecond

FIRST, LAST = "norm.forward", "norm.backward"  # of the kernels that only training meets
KERNELS: list[Any] = []  # all that may be compiled
OPTIONS = dict(error_model="numpy", nogil=True)  # dividing by zero gives infinity, as in NumPy

ONLY_PRANGE = dict.fromkeys(  # what is parallel is written so; to look for more takes time
    ("comprehension", "reduction", "inplace_binop", "setitem", "numpy", "stencil", "fusion"), False
) | {"prange": True}

_listeners: list[Listener] = []
_compiled: list[str] = []  # in this process


def kernel(function: Callable[..., Any]) -> Any:
    """Compile a function whose outer loop runs in parallel, and keep it on disk."""
    dispatcher = numba.njit(parallel=ONLY_PRANGE, **OPTIONS)(function)
    if not numba.config.DISABLE_JIT:
        dispatcher._cache = DiskCache(function)
        KERNELS.append(dispatcher)
    return dispatcher


def part(function: Callable[..., Any]) -> Any:
    """Compile a function that kernels call; it becomes a part of theirs."""
    return numba.njit(**OPTIONS)(function)


def inlined(function: Callable[..., Any]) -> Any:
    """Compile a part so short that a call, which hands over whole arrays, would cost more."""
    return numba.njit(forceinline=True, **OPTIONS)(function)


def spliced(function: Callable[..., Any]) -> Any:
    """Put a long function into the one place where it is called: it is not compiled by itself."""
    return numba.njit(inline="always", **OPTIONS)(function)


@contextmanager
def on_compile(listener: Listener) -> Iterator[None]:
    """Call a listener for every kernel that is about to be compiled."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@cache
def folder() -> Path:
    """Return where compiled kernels lie, for this version of everything that they depend on."""
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

    Numba compiles on one core. While a first training step compiles its forward pass here, the
    backward pass is compiled there, and later it is found in the folder. The process ends with this
    one. MINISE_AHEAD=0 keeps it away.
    """
    if os.environ.get("MINISE_AHEAD") == "0" or os.cpu_count() == 1:
        return
    command = [sys.executable, "-P", "-m", "minise.ops.jit.ahead"]
    nowhere = subprocess.DEVNULL
    settings = {**os.environ, "MINISE_AHEAD": "0"}
    with suppress(OSError):  # if no process can be started, all is compiled here
        other = subprocess.Popen(
            command, env=settings, stdin=nowhere, stdout=nowhere, stderr=nowhere
        )
        atexit.register(other.kill)


class DiskCache(_Cache):  # type: ignore[misc]
    """One kernel's files: each holds a digest, and the machine code for one set of types."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self._name = f"{function.__module__.rpartition('.')[2]}.{function.__name__.strip('_')}"
        self._claim = Claim()

    @property
    def cache_path(self) -> str:
        """Where the files lie."""
        return str(folder())

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Return the kernel for a signature, or None where it has to be compiled."""
        target_context.refresh()
        path = self._path(sig, target_context.codegen())
        found = _rebuilt(path, target_context)
        if found is None:
            self._claim.take(path)
            found = _rebuilt(path, target_context)  # meanwhile another process may have made it
        if found is not None:
            self._claim.release()
            return found
        if self._name == FIRST and not any(folder().glob(f"{LAST}-*")):
            compile_ahead()
        _compiled.append(self._name)
        for listener in _listeners:
            listener(self._name, len(_compiled), len(KERNELS))
        return None

    def save_overload(self, sig: Any, data: Any) -> None:
        """Keep the kernel for a signature."""
        with suppress(OSError):  # a full or read-only disk: it works without, and is slow to start
            write_checked(self._path(sig, data.codegen), serialize.dumps(data._reduce()))
        self._claim.release()

    def _path(self, sig: Any, codegen: Any) -> Path:
        makes = repr((sig, codegen.magic_tuple()))  # types, processor and its features
        return folder() / f"{self._name}-{hashlib.sha256(makes.encode()).hexdigest()[:16]}"

    def enable(self) -> None:
        """Do nothing: it is always on."""

    def disable(self) -> None:
        """Do nothing: it is always on."""

    def flush(self) -> None:
        """Delete the kernel's files."""
        for path in folder().glob(f"{self._name}-*"):
            path.unlink(missing_ok=True)


def _rebuilt(path: Path, target_context: Any) -> Any:
    """Return a kernel that was kept, or None."""
    payload = read_checked(path)
    if payload is not None:
        with suppress(Exception):  # whole, but of another make: then it is compiled
            return CompileResult._rebuild(target_context, *pickle.loads(payload))
    return None


def read_checked(path: Path) -> bytes | None:
    """Return what write_checked wrote, or None where it is not there, not whole or not the same."""
    try:
        digest, payload = path.read_bytes().split(b"\n", 1)
    except (OSError, ValueError):
        return None
    return payload if digest == hashlib.sha256(payload).hexdigest().encode() else None


def write_checked(path: Path, payload: bytes) -> None:
    """Write a digest and a payload so that a reader sees all of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise

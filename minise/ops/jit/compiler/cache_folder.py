"""The folder of compiled kernels: its name, its files, and what happens if it cannot be written.

Each file starts with the digest of its contents, and the folder is named after a hash of the
sources of this package and of the versions of Python, NumPy and Numba. A file that does not match
its digest is compiled again and replaced. Files are written under a temporary name and then
renamed, so that a killed process leaves a complete file or none.

The folder is in the user's cache folder, or in that of the environment variable MINISE_CACHE. Where
it cannot be written, each process compiles its kernels in memory, and only the first failure gives
a KernelCacheWarning.
"""

import hashlib
import os
import platform
import sys
import tempfile
import warnings
from functools import cache
from pathlib import Path

import llvmlite
import numba
import numpy as np
from platformdirs import user_cache_dir

PROBE_BYTES = 2**20  # more than most kernels have

_warned = False


class KernelCacheWarning(UserWarning):
    """Compiled kernels cannot be written to the cache: each process compiles them again."""


@cache
def folder() -> Path:
    """Return the folder of compiled kernels for these sources and versions, on this platform.

    The folder need not exist. Without MINISE_CACHE and a home folder, it cannot exist.
    """
    digest = hashlib.sha256()
    for source in sorted(Path(__file__).parents[1].rglob("*.py")):  # of ops/jit
        digest.update(source.read_bytes())
    for version in (sys.version, np.__version__, numba.__version__, llvmlite.__version__):
        digest.update(version.encode())
    digest.update(platform.platform().encode())
    return _root() / "kernels" / digest.hexdigest()[:16]


def _root() -> Path:
    if root := os.environ.get("MINISE_CACHE"):
        return Path(root).absolute()
    try:
        path = Path(user_cache_dir("minise", appauthor=False))
    except RuntimeError:  # the user has no home folder
        return Path(os.devnull)
    return path if path.is_absolute() else Path(os.devnull)  # "~" in old platformdirs


def problem(error: OSError) -> str:
    """Return a message about a kernel that could not be written, with the fix."""
    where = f"the kernel cache {folder()} cannot be written ({error.strerror or error})"
    if folder().is_relative_to(os.devnull):
        where = "there is no folder for the kernel cache, because this user has no home folder"
    return (
        f"jit: {where}, so each process compiles its kernels again: set MINISE_CACHE to a folder "
        "that can be written"
    )


def probe() -> str:
    """Return "" if kernels can be written to the cache, or the message of `problem`."""
    path = folder() / f"probe-{os.getpid()}"
    try:
        write_checked(path, bytes(PROBE_BYTES))
        path.unlink(missing_ok=True)
    except OSError as error:
        return problem(error)
    return ""


def warn_once(error: OSError) -> None:
    """Warn that kernels are not cached, at the first call in a process only."""
    global _warned
    if not _warned:
        _warned = True
        warnings.warn(problem(error), KernelCacheWarning, stacklevel=2)


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

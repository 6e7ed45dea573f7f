"""What the bits of a back end's results depend on: processor, libraries, settings.

A text states an effect, such as the kernel that OpenBLAS has chosen, not its cause, such as the
processor or an environment variable.
"""

import hashlib
import platform
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from minise.ops.backend import name_of
from minise.ops.protocol import Backend
from minise.ops.wrap import unwrapped

UNKNOWN = "unknown"  # a text that equals every other
SEPARATOR = "; "  # between the parts of a text
DIGITS = 16  # hexadecimal, of the SHA-256 of a file


def dependencies(ops: Sequence[Backend], threads: int) -> dict[str, str]:
    """Return a text for everything on which the results of back ends depend, by its title.

    Parameters
    ----------
    ops : sequence of back ends
        For example those of the layers of a net. Wrappers do not count. A user's file counts by its
        content, without the files that it imports.
    threads : int
        Number of BLAS threads; 0 means one. The results of jit and cuda do not depend on it.
    """
    by_name = {_name(inner): inner for inner in map(unwrapped, ops)}
    system = platform.system(), platform.machine(), "".join(platform.libc_ver())
    entries = {"back end": SEPARATOR.join(sorted(by_name))}
    entries["system"] = SEPARATOR.join(filter(None, system))
    if by_name.keys() - {"cuda"}:
        entries |= _host_entries()
    if "jit" in by_name:
        entries |= _jit_entries(by_name["jit"])
    if "cuda" in by_name:
        entries |= _cuda_entries(by_name["cuda"])
    if by_name.keys() - {"jit", "cuda"}:
        entries["BLAS threads"] = str(threads or 1)
    return entries


def _name(ops: Backend) -> str:
    """Return the name of a back end of minise, or the SHA-256 of a user's file."""
    file = getattr(ops, "file", None)  # of a user's back end
    if isinstance(file, Path):
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            return f"a file of ops with SHA-256 {digest[:DIGITS]}…"
        except OSError:
            return f"{file.name}, which cannot be read"
    if isinstance(ops, ModuleType):
        return name_of(ops) or ops.__name__
    return name_of(ops) or f"{type(ops).__module__}.{type(ops).__qualname__}"


def _host_entries() -> dict[str, str]:
    """Return the entries of NumPy's kernels and of the BLAS library that it uses."""
    from threadpoolctl import threadpool_info

    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    # another package may have loaded its own library
    pools.sort(key=lambda pool: "numpy" not in "".join(Path(pool["filepath"]).parts[-3:]))
    pool: dict[str, Any] = pools[0] if pools else {"internal_api": "not recognised"}
    return {
        "BLAS library": " ".join(filter(None, (pool["internal_api"], pool.get("version")))),
        "BLAS kernel": str(pool.get("architecture", UNKNOWN)),
        "NumPy instruction sets": SEPARATOR.join(_instruction_sets()),
    }


def _instruction_sets() -> list[str]:
    """Return the instruction sets for which NumPy has kernels and that it uses."""
    module = getattr(getattr(np, "_core", None), "_multiarray_umath", None)
    features = getattr(module, "__cpu_features__", {})
    baseline = getattr(module, "__cpu_baseline__", [])
    optional = getattr(module, "__cpu_dispatch__", [])
    return [*baseline, *(name for name in optional if features.get(name))] or [UNKNOWN]


def _jit_entries(ops: Backend) -> dict[str, str]:
    """Return the entries of the processor for which jit compiles, and of its compiler."""
    import llvmlite
    import numba
    from numba.core.registry import cpu_target

    from minise.ops.jit.vector import simd

    system, processor, features = cpu_target.target_context.codegen().magic_tuple()
    return {
        "jit processor": SEPARATOR.join((processor, system)),
        "jit instruction sets": SEPARATOR.join(
            feature[1:] for feature in features.split(",") if feature.startswith("+")
        ),
        "jit vector width": "none" if simd.AS_LOOPS else f"{8 * simd.VECTOR_BYTES} bits",
        "jit algorithm": getattr(ops, "algorithm", None) or "auto",
        "numba version": numba.__version__,
        "llvmlite version": llvmlite.__version__,
    }


def _cuda_entries(ops: Any) -> dict[str, str]:
    """Return the entries of the GPU, of CUDA's libraries, and of the settings of the kernels."""
    launcher = ops.using().launcher  # the module minise.ops.cuda has a file of this name
    settings = {"cuda squeeze_excite": launcher.squeeze_excite, "cuda TF32": str(launcher.tf32)}
    return {**launcher.dependencies(), **settings}

"""What the bits of a run depend on, besides its settings: data, back end, libraries, processor.

A checkpoint stores `environment`; a run that is resumed compares it with its own by `differences`.
An entry states an effect, such as the kernel that OpenBLAS has chosen, not its cause, such as the
processor or an environment variable.
"""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minise.checks import escaped
from minise.data import Batches, LazyImages
from minise.nn import Layer
from minise.ops.backend import BACKENDS
from minise.ops.wrap import unwrapped
from minise.train.batches import UNKNOWN, BatchSource, batches_fingerprint
from minise.train.run_folder import versions

NOT_RECORDED = "not recorded"
DIGITS = 16  # hexadecimal, of the SHA-256 of a file
SEPARATOR = "; "  # of the parts of a value, of which a message shows those that differ


def environment(
    net: Layer, sources: Mapping[str, BatchSource | None], threads: int
) -> dict[str, str]:
    """Return a text for everything on which the bits of a run depend, by its title.

    Parameters
    ----------
    net : Layer
        The net.
    sources : dict of str to batches or None
        Batches by name, such as "training"; None where the run has none.
    threads : int
        Number of BLAS threads of the run; 0 means one. It is an entry only if the bits depend on
        it: those of jit and cuda do not.

    Returns
    -------
    dict of str to str
        Two runs with equal settings and equal entries have equal bits, unless a net, an objective
        or batches of the user's own use something else, such as a library or a global random
        generator. A file of ops counts by its content, without the files that it imports. An entry
        of data is "unknown" if they cannot be compared (see batches_fingerprint).
    """
    entries: dict[str, str] = {}
    for name, source in sources.items():
        entries |= _data_entries(name, source)
    back_ends = [unwrapped(layer.ops) for _, layer in net.layers()]
    ops = {_back_end(ops): ops for ops in back_ends}
    entries["back end"] = SEPARATOR.join(sorted(ops))
    entries["system"] = SEPARATOR.join(
        filter(None, (platform.system(), platform.machine(), "".join(platform.libc_ver())))
    )
    packages = versions(("minise", "numpy"))
    entries |= {f"{name} version": packages[name] for name in ("minise", "numpy")}
    if ops.keys() - {"cuda"}:
        entries |= _host_entries()
    if "jit" in ops:
        entries |= _jit_entries(ops["jit"])
    if "cuda" in ops:
        entries |= _cuda_entries(ops["cuda"])
    if ops.keys() - {"jit", "cuda"}:
        entries["BLAS threads"] = str(threads or 1)
    return entries


def differences(saved: Mapping[str, Any], now: Mapping[str, str]) -> list[str]:
    """Return a line for each entry that differs, such as "BLAS kernel: SkylakeX …, Haswell now".

    Parameters
    ----------
    saved, now : dict of str to str
        What `environment` returned when a checkpoint was saved, by this or by another version of
        minise, and what it returns now. "unknown" equals everything; an entry that one of the two
        lacks, which another version does not record, differs.
    """
    lines = []
    for title in dict.fromkeys((*now, *saved)):
        old, new = (str(entries.get(title, NOT_RECORDED)) for entries in (saved, now))
        if old != new and UNKNOWN not in (old, new):
            lines.append(escaped(f"{title}: {_difference(old, new)}"))
    return lines


def _difference(old: str, new: str) -> str:
    """Return the parts that only one of two values has, or both values."""
    before, after = old.split(SEPARATOR), new.split(SEPARATOR)
    gone = ", ".join(part for part in before if part not in after)
    added = ", ".join(part for part in after if part not in before)
    if not gone and not added:  # another order
        gone, added = old, new
    if not added:
        return f"{gone} when it was saved, but not now"
    if not gone:
        return f"{added} now, but not when it was saved"
    return f"{gone} when it was saved, {added} now"


def _data_entries(name: str, source: BatchSource | None) -> dict[str, str]:
    """Return the entries of a source of batches: its data, their order, and what decodes them."""
    if source is None:
        return {f"{name} data": "none"}
    entries = {f"{name} data": batches_fingerprint(source)}
    if isinstance(source, Batches):
        augment, settings = source.augment, ("batch_size", "seed", "shuffle", "drop_last")
        described = augment is None or is_dataclass(augment)
        texts = {key: str(getattr(source, key)) for key in (*settings, "mean", "std", "dtype")}
        texts["augment"] = repr(augment) if described else type(augment).__name__
        parts = (f"{key}={text}" for key, text in texts.items())
        entries[f"{name} batches"] = SEPARATOR.join(parts)
    if isinstance(getattr(getattr(source, "dataset", None), "images", None), LazyImages):
        entries["Pillow version"] = versions(("pillow",))["pillow"]
    return entries


def _back_end(ops: Any) -> str:
    """Return the name of a back end of minise, or the name of a user's file and its SHA-256."""
    file = getattr(ops, "file", None)  # of a user's back end
    if isinstance(file, Path):
        try:
            digest = hashlib.sha256(file.read_bytes()).hexdigest()
            return f"{file.name} with SHA-256 {digest[:DIGITS]}…"
        except OSError:
            return f"{file.name}, which cannot be read"
    module = getattr(getattr(ops, "conv2d_forward", None), "__module__", "")
    for name, path in BACKENDS.items():
        if f"{module}.".startswith(f"{path}."):
            return name
    return f"{type(ops).__module__}.{type(ops).__name__}"


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


def _jit_entries(ops: Any) -> dict[str, str]:
    """Return the entries of the processor for which jit compiles, and of its compiler."""
    from numba.core.registry import cpu_target

    from minise.ops.jit.vector import simd

    system, processor, features = cpu_target.target_context.codegen().magic_tuple()
    packages = versions(("numba", "llvmlite"))
    return {
        "jit processor": SEPARATOR.join((processor, system)),
        "jit instruction sets": SEPARATOR.join(
            feature[1:] for feature in features.split(",") if feature.startswith("+")
        ),
        "jit vector width": "none" if simd.AS_LOOPS else f"{8 * simd.VECTOR_BYTES} bits",
        "jit algorithm": getattr(ops, "algorithm", None) or "auto",
        "numba version": packages["numba"],
        "llvmlite version": packages["llvmlite"],
    }


def _cuda_entries(ops: Any) -> dict[str, str]:
    """Return the entries of the GPU, of CUDA's libraries, and of the settings of the kernels."""
    launcher = ops.launcher
    settings = {"cuda squeeze_excite": launcher.squeeze_excite, "cuda TF32": str(launcher.tf32)}
    return {**launcher.dependencies(), **settings}

"""The verb that shows the installation: the first thing to look at when something fails."""

import importlib.util
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from minise.cli.words import misuse
from minise.train.run_folder import machine, versions


def doctor(root: Path | None = None) -> int:
    """Show versions, processor, GPU and data sets of this machine.

    Example: minise doctor

    Args:
        root: Folder of the data sets; by default the environment variable MINISE_DATA.
    """
    from minise.data import availability
    from minise.ops.cuda import describe
    from minise.ops.jit.convolution.algorithm import rule_of_auto

    with misuse():
        data = availability(root)
    table = Table("what", "found", show_lines=False)
    rows = [
        *versions().items(),
        *((name, str(value)) for name, value in machine().items()),
        *_blas(),
        ("jit", _kernels()),
        *_kernel_cache(),
        ("jit convolutions", rule_of_auto()),
        ("GPU, for cuda", describe()),
        ("Matplotlib", _optional("matplotlib", "the figure of bench scaling", "plot")),
        ("Pillow", _optional("PIL", "image files and contact sheets", "image")),
        *((f"data: {name}", text) for name, text in data),
    ]
    for name, text in rows:
        table.add_row(name, escape(text))  # rich would read [cuda] as a style
    Console().print(table)
    return 0


def _blas() -> list[tuple[str, str]]:
    """Return the BLAS library that computes NumPy's matrix products."""
    import numpy as np
    from threadpoolctl import threadpool_info

    np.ones((2, 2)) @ np.ones((2, 2))  # loads the library
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    if not pools:
        return [("BLAS", "not recognised: matrix products may be slow")]
    return [
        (
            "BLAS",
            f"{pool['internal_api']} {pool.get('version')}, {pool['num_threads']} threads, for "
            f"{pool.get('architecture', 'an unknown processor')}",
        )
        for pool in pools
    ]


def _kernels() -> str:
    """Return vector width and threads of the compiled kernels, and their cache folder."""
    import numba

    from minise.ops.jit.compiler.cache_folder import folder
    from minise.ops.jit.vector import simd

    count = len(list(folder().glob("*-*")))
    return (
        f"{8 * simd.VECTOR_BYTES}-bit vectors, {numba.config.NUMBA_NUM_THREADS} threads, "
        f"{count} compiled kernels in {folder()}"
    )


def _kernel_cache() -> list[tuple[str, str]]:
    """Return a row with the reason and the fix if kernels cannot be cached, otherwise no row."""
    from minise.ops.jit.compiler.cache_folder import probe

    text = probe()
    return [("jit cache", text)] if text else []


def _optional(module: str, purpose: str, extra: str) -> str:
    if importlib.util.find_spec(module):
        return f"found, for {purpose}"
    return f"not installed, for {purpose}: pip install -e '.[{extra}]'"

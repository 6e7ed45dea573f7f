"""The loops of ladder.py's first rungs: plain Python, which Numba compiles when it is asked to."""

import functools
from collections.abc import Callable
from typing import Any


def seven_loops(padded: Any, weight: Any, out: Any, rows: int, columns: int) -> None:
    """Fill out (N, K, OH, OW); rows and columns are the stride."""
    N, K, OH, OW = out.shape
    _, C, KH, KW = weight.shape
    for n in range(N):
        for k in range(K):
            for p in range(OH):
                for q in range(OW):
                    total = out.dtype.type(0)
                    for c in range(C):
                        for i in range(KH):
                            for j in range(KW):
                                pixel = padded[n, c, p * rows + i, q * columns + j]
                                total += pixel * weight[k, c, i, j]
                    out[n, k, p, q] = total


def rows_innermost(columns_sorted: Any, weight: Any, out: Any, rows: int, columns: int) -> None:
    """Fill out (N, K, OH, OW) from (N, C, H, columns, W); q's loop is the one of vectors."""
    N, K, OH, OW = out.shape
    _, C, KH, KW = weight.shape
    for n in range(N):
        for k in range(K):
            for p in range(OH):
                sums = out[n, k, p]
                sums[:] = 0
                for c in range(C):
                    for i in range(KH):
                        for j in range(KW):
                            row = columns_sorted[n, c, p * rows + i, j % columns]
                            pixels = row[j // columns :]
                            w = weight[k, c, i, j]
                            for q in range(OW):
                                sums[q] += w * pixels[q]


def filters_innermost(padded: Any, weight: Any, out: Any, rows: int, columns: int) -> None:
    """Fill out (N, OH, OW, K) from padded (N, H, W, C) and weight (KH, KW, C, K)."""
    N, OH, OW, K = out.shape
    KH, KW, C, _ = weight.shape
    for n in range(N):
        for p in range(OH):
            for q in range(OW):
                sums = out[n, p, q]
                sums[:] = 0
                for i in range(KH):
                    for j in range(KW):
                        for c in range(C):
                            pixel = padded[n, p * rows + i, q * columns + j, c]
                            for k in range(K):
                                sums[k] += pixel * weight[i, j, c, k]


@functools.cache
def compiled(function: Callable[..., None]) -> Any:
    """Return a function compiled by Numba, which is loaded only here."""
    try:
        from numba import njit
    except ImportError:
        raise ImportError("the ladder compiles its loops: pip install 'numba>=0.61'") from None
    return njit(nogil=True)(function)

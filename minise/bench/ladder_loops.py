"""The loops of ladder.py: plain Python functions; `compiled` compiles them with Numba."""

import functools
from collections.abc import Callable
from typing import Any


def seven_loops(padded: Any, weight: Any, out: Any, rows: int, columns: int) -> None:
    """Fill out (N, K, OH, OW); (rows, columns) is the stride."""
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
    """Fill out (N, K, OH, OW) from columns_sorted (N, C, H, columns, W); vectorised over q."""
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
def vectors_of_filters() -> Callable[..., None]:
    """Return a convolution with explicit vectors of filters; imports Numba when first called."""
    from minise.ops.jit.vector.simd import filled, fma, lanes_of, load, store

    def loop(padded: Any, weight: Any, out: Any, rows: int, columns: int) -> None:
        """Fill out (N, OH, OW, K) from padded (N, H, W, C) and weight (KH, KW, C, K).

        K is a multiple of the vector length. The sums of a vector of filters stay in one register
        from the first product to the last.
        """
        N, OH, OW, K = out.shape
        KH, KW, C, _ = weight.shape
        H, W = padded.shape[1:3]
        pixels, weights, results = padded.reshape(-1), weight.reshape(-1), out.reshape(-1)
        for n in range(N):
            for p in range(OH):
                for q in range(OW):
                    for k in range(0, K, lanes_of(out.dtype)):
                        sums = filled(0.0, out)
                        for i in range(KH):
                            for j in range(KW):
                                first_pixel = ((n * H + p * rows + i) * W + q * columns + j) * C
                                first_weight = (i * KW + j) * C * K + k
                                for c in range(C):
                                    vector = load(weights, first_weight + c * K)
                                    sums = fma(pixels[first_pixel + c], vector, sums)
                        store(sums, results, ((n * OH + p) * OW + q) * K + k)

    return loop


@functools.cache
def compiled(function: Callable[..., None]) -> Any:
    """Return a function compiled by Numba; imports Numba when first called."""
    try:
        from numba import njit
    except ImportError:
        raise ImportError(
            "bench conv-ladder: Numba is not installed: pip install 'numba>=0.61'"
        ) from None
    return njit(nogil=True)(function)

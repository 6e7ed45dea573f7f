"""The loops of ladder.py's rung `vectors`; imported when it runs, as Numba is loaded here."""

from typing import Any

from minise.ops.jit.vector.simd import filled, fma, lanes_of, load, store


def one_pixel(padded: Any, weight: Any, out: Any, rows: int, columns: int) -> None:
    """Fill out (N, OH, OW, K) from padded (N, H, W, C) and weight (KH, KW, C, K), whole vectors.

    rows and columns are the stride. A vector of filters has its sums in one register, from the
    first product to the last.
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
                            at = ((n * H + p * rows + i) * W + q * columns + j) * C
                            to = (i * KW + j) * C * K + k
                            for c in range(C):
                                sums = fma(pixels[at + c], load(weights, to + c * K), sums)
                    store(sums, results, ((n * OH + p) * OW + q) * K + k)

"""The two dense layers of an SE block, for (N, C) numbers: squeeze_excite.cu's small kernels."""

from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.ops.cuda.launcher import WARP, Launcher
from minise.ops.reference.gates import GATES

FILE = "squeeze_excite.cu"
ROWS = 4  # of a weight gradient, that a block owns


def check_fits(gpu: Launcher, op: str, x: Array, R: int) -> None:
    """Check that the vectors of one image's gates fit into a block's shared memory."""
    C, most = x.shape[1], gpu.shared_limit()
    needed = _shared(C, R, x.dtype)
    if needed > most:
        raise ValueError(
            f"{op}: the gates of C = {C} and R = {R} take {needed} bytes of shared memory, "
            f"expected at most {most}, which this GPU has: use fewer channels, or ops.reference"
        )


def _shared(C: int, R: int, dtype: Any) -> int:
    """Return how many bytes z, s and h take."""
    return (2 * C + R) * np.dtype(dtype).itemsize


class Gradients(NamedTuple):
    """What comes back through both layers."""

    dz: Array  # (N, C)
    dw1: Array  # (R, C)
    db1: Array  # (R,)
    dw2: Array  # (C, R)
    db2: Array  # (C,)


def excite(
    gpu: Launcher, z: Array, w1: Array, b1: Array | None, w2: Array, b2: Array | None, gate: str
) -> tuple[Array, Array]:
    """Return hidden units (N, R) and gates (N, C) of z (N, C)."""
    (N, C), R = z.shape, len(w1)
    h, s = gpu.xp.empty((N, R), z.dtype), gpu.xp.empty((N, C), z.dtype)
    weights = [None if a is None else gpu.contiguous(a) for a in (w1, b1, w2, b2)]
    shared = _shared(C, R, z.dtype)
    code = GATES.index(gate)
    gpu.launch(FILE, "excite", N, z, *weights, h, s, code, C, R, dtype=z.dtype, shared=shared)
    return h, s


def excite_backward(
    gpu: Launcher, dv: Array, z: Array, h: Array, w1: Array, w2: Array
) -> Gradients:
    """Return what dv (N, C) in front of the gates makes of all that is behind them."""
    (N, C), R, dtype = z.shape, len(w1), z.dtype
    du, dz = gpu.xp.empty((N, R), dtype), gpu.xp.empty((N, C), dtype)
    weights = gpu.contiguous(w1), gpu.contiguous(w2)
    shared = (C + R) * dtype.itemsize
    gpu.launch(
        FILE, "excite_backward", N, dv, h, *weights, du, dz, C, R, dtype=dtype, shared=shared
    )
    return Gradients(dz, *weight_gradient(gpu, du, z), *weight_gradient(gpu, dv, h))


def weight_gradient(gpu: Launcher, dout: Array, x: Array) -> tuple[Array, Array]:
    """Return dweight (K, C) and dbias (K,) of a dense layer, of dout (N, K) and x (N, C)."""
    (N, K), C, dtype = dout.shape, x.shape[1], x.dtype
    dweight, dbias = gpu.xp.empty((K, C), dtype), gpu.xp.empty(K, dtype)
    blocks = -(-C // WARP), -(-K // ROWS)
    gpu.launch(FILE, "weight_gradient", blocks, dout, x, dweight, dbias, N, K, C, dtype=dtype)
    return dweight, dbias

"""Launch the kernels of an SE block's two dense layers (squeeze_excite.cu), on (N, C) arrays."""

from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.ops.cuda.launcher import WARP, Launcher
from minise.ops.reference.gates import GATES

FILE = "squeeze_excite.cu"
ROWS_PER_BLOCK = 4  # of a weight gradient


def check_fits(gpu: Launcher, op: str, x: Array, R: int) -> None:
    """Check that the vectors of one image's gates fit into a block's shared memory."""
    C, limit_bytes = x.shape[1], gpu.shared_limit()
    needed = _shared(C, R, x.dtype)
    if needed > limit_bytes:
        raise ValueError(
            f"{op}: the gates of C = {C} and R = {R} take {needed} bytes of shared memory, "
            f"expected at most {limit_bytes} on this GPU: use fewer channels, or ops.reference"
        )


def _shared(C: int, R: int, dtype: Any) -> int:
    """Return the size of z, s and h in bytes."""
    return (2 * C + R) * np.dtype(dtype).itemsize


class Gradients(NamedTuple):
    """Gradients of the input and parameters of both layers."""

    dz: Array  # (N, C)
    dw1: Array  # (R, C)
    db1: Array  # (R,)
    dw2: Array  # (C, R)
    db2: Array  # (C,)


def excite(
    gpu: Launcher, z: Array, w1: Array, b1: Array | None, w2: Array, b2: Array | None, gate: str
) -> tuple[Array, Array]:
    """Return hidden units h (N, R) and gates s (N, C) for z (N, C)."""
    (N, C), R = z.shape, len(w1)
    h, s = gpu.xp.empty((N, R), z.dtype), gpu.xp.empty((N, C), z.dtype)
    arrays, scalars = (z, w1, b1, w2, b2, h, s), (GATES.index(gate), C, R)
    shared = _shared(C, R, z.dtype)
    gpu.launch(FILE, "excite", N, arrays, scalars, dtype=z.dtype, shared=shared)
    return h, s


def excite_backward(
    gpu: Launcher, dv: Array, z: Array, h: Array, w1: Array, w2: Array
) -> Gradients:
    """Return the gradients of z and the parameters, from dv (N, C) of the gates' pre-activation."""
    (N, C), R, dtype = z.shape, len(w1), z.dtype
    du, dz = gpu.xp.empty((N, R), dtype), gpu.xp.empty((N, C), dtype)
    arrays, shared = (dv, h, w1, w2, du, dz), (C + R) * dtype.itemsize
    gpu.launch(FILE, "excite_backward", N, arrays, (C, R), dtype=dtype, shared=shared)
    return Gradients(dz, *weight_gradient(gpu, du, z), *weight_gradient(gpu, dv, h))


def weight_gradient(gpu: Launcher, dout: Array, x: Array) -> tuple[Array, Array]:
    """Return dweight (K, C) and dbias (K,) of a dense layer, from dout (N, K) and x (N, C)."""
    (N, K), C, dtype = dout.shape, x.shape[1], x.dtype
    dweight, dbias = gpu.xp.empty((K, C), dtype), gpu.xp.empty(K, dtype)
    blocks = -(-C // WARP), -(-K // ROWS_PER_BLOCK)
    arrays = dout, x, dweight, dbias
    gpu.launch(FILE, "weight_gradient", blocks, arrays, (N, K, C), dtype=dtype)
    return dweight, dbias

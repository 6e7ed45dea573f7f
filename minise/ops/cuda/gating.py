"""Launch the kernels of an SE block's two dense layers (squeeze_excite.cu), on (N, C) arrays."""

from typing import Any, NamedTuple

import numpy as np

from minise.checks import Array
from minise.ops.cuda.launcher import STATIC_SHARED_BYTES, THREADS, WARP, Launcher
from minise.ops.reference.gates import GATES

FILE = "squeeze_excite.cu"
RELU = GATES.index("relu")
ROWS_PER_BLOCK = 4  # of a weight gradient
IMAGES_PER_BLOCK = 8  # of a large layer
MAX_WEIGHTS = 8192  # of a layer whose weights every block reads


class Gradients(NamedTuple):
    """Gradients of the input and parameters of both layers."""

    dz: Array  # (N, C)
    dw1: Array  # (R, C)
    db1: Array  # (R,)
    dw2: Array  # (C, R)
    db2: Array  # (C,)


def fits_a_block(gpu: Launcher, C: int, R: int, dtype: Any) -> bool:
    """Return True if one block computes both layers of an image: see squeeze_excite.cu."""
    shared = max(_shared(C, R, dtype), _shared_backward(C, R, dtype))
    return C * R <= MAX_WEIGHTS and shared <= min(STATIC_SHARED_BYTES, gpu.shared_limit())


def _shared(C: int, R: int, dtype: Any) -> int:
    """Return the size of z, s and h in bytes."""
    return (2 * C + R) * np.dtype(dtype).itemsize


def _shared_backward(C: int, R: int, dtype: Any) -> int:
    """Return the size of dv, du and the partial sums of each warp in bytes."""
    return (C + R + R * (THREADS // WARP)) * np.dtype(dtype).itemsize


def excite(
    gpu: Launcher, z: Array, w1: Array, b1: Array | None, w2: Array, b2: Array | None, gate: str
) -> tuple[Array, Array]:
    """Return hidden units h (N, R) and gates s (N, C) for z (N, C)."""
    (N, C), R, dtype, code = z.shape, len(w1), z.dtype, GATES.index(gate)
    h, s = gpu.xp.empty((N, R), dtype), gpu.xp.empty((N, C), dtype)
    if fits_a_block(gpu, C, R, dtype):
        arrays, shared = (z, w1, b1, w2, b2, h, s), _shared(C, R, dtype)
        gpu.launch(FILE, "excite", N, arrays, (code, C, R), dtype=dtype, shared=shared)
    else:
        warps = THREADS // WARP
        blocks = -(-R // warps), -(-N // IMAGES_PER_BLOCK)
        gpu.launch(FILE, "dense_layer", blocks, (z, w1, b1, h), (RELU, N, R, C), dtype=dtype)
        blocks = -(-C // warps), -(-N // IMAGES_PER_BLOCK)
        gpu.launch(FILE, "dense_layer", blocks, (h, w2, b2, s), (code, N, C, R), dtype=dtype)
    return h, s


def excite_backward(
    gpu: Launcher, dv: Array, z: Array, h: Array, w1: Array, w2: Array
) -> Gradients:
    """Return the gradients of z and the parameters, from dv (N, C) of the gates' pre-activation."""
    (N, C), R, dtype = z.shape, len(w1), z.dtype
    du, dz = gpu.xp.empty((N, R), dtype), gpu.xp.empty((N, C), dtype)
    if fits_a_block(gpu, C, R, dtype):
        arrays, shared = (dv, h, w1, w2, du, dz), _shared_backward(C, R, dtype)
        gpu.launch(FILE, "excite_backward", N, arrays, (C, R), dtype=dtype, shared=shared)
    else:
        name, images = "dense_layer_backward", -(-N // IMAGES_PER_BLOCK)
        blocks = -(-R // WARP), images
        gpu.launch(FILE, name, blocks, (dv, w2, h, du), (N, C, R), dtype=dtype)
        blocks = -(-C // WARP), images
        gpu.launch(FILE, name, blocks, (du, w1, None, dz), (N, R, C), dtype=dtype)
    return Gradients(dz, *weight_gradients(gpu, du, z, dv, h))


def weight_gradients(
    gpu: Launcher, du: Array, z: Array, dv: Array, h: Array
) -> tuple[Array, Array, Array, Array]:
    """Return dw1, db1, dw2 and db2, from du, h (N, R) and dv, z (N, C)."""
    (N, R), C, dtype = du.shape, z.shape[1], z.dtype
    results = tuple(gpu.xp.empty(shape, dtype) for shape in ((R, C), R, (C, R), C))
    blocks = sum(-(-a // WARP) * -(-b // ROWS_PER_BLOCK) for a, b in ((C, R), (R, C)))
    arrays = du, z, dv, h, *results
    gpu.launch(FILE, "weight_gradients", blocks, arrays, (N, C, R), dtype=dtype)
    dw1, db1, dw2, db2 = results
    return dw1, db1, dw2, db2

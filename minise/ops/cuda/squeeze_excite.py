"""Squeeze-and-excitation on the GPU, by squeeze_excite.cu or squeeze_excite_tile.cu.

The settings and the shape of x select the implementation:

    tile      squeeze="avg", and one image with its vectors fits into a block's shared memory: each
              pixel is read from memory once, the minimum
    simple    squeeze="avg" and larger images: one warp per row, x and dout are read twice
    arrays    squeeze="max" or "none": the reference's code, whose whole-array calls CuPy runs

`cuda.using(squeeze_excite="simple")` disables the tile kernels.
"""

from typing import Any

from minise.checks import Array, check_choice
from minise.ops import reference
from minise.ops.cuda.gating import excite, excite_backward, weight_gradients
from minise.ops.cuda.launcher import THREADS, WARP, Launcher, warps
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeeze_excite import SHAPES, Gates, SqueezeExciteCache
from minise.ops.reference.squeezes import SQUEEZES
from minise.ops.shapes import check_arrays, check_gradient

SIMPLE, TILE = "squeeze_excite.cu", "squeeze_excite_tile.cu"
KERNELS = ("auto", "simple", "tile")
MAX_THREADS = 512  # per block
SMALL_TILE_BYTES = 32 << 10  # up to this size, blocks of fewer threads share a multiprocessor


def select_kernels(gpu: Launcher, x: Array, R: int) -> str:
    """Return "tile" or "simple": the kernels for images of this shape, with squeeze="avg"."""
    size, limit_bytes, setting = tile_bytes(x, R), gpu.shared_limit(), gpu.squeeze_excite
    if setting == "tile" and size > limit_bytes:
        raise ValueError(
            f"squeeze_excite: a tile of x with shape {x.shape} takes {size} bytes of shared "
            f"memory, expected at most {limit_bytes} on this GPU: use squeeze_excite='auto'"
        )
    if setting != "auto":
        return setting
    return "tile" if size <= limit_bytes else "simple"


def tile_bytes(x: Array, R: int) -> int:
    """Return the shared memory for one image and its vectors in backward, in bytes."""
    _, C, H, W = x.shape
    return (C * H * W + 2 * C + R + R * (MAX_THREADS // WARP)) * x.dtype.itemsize


def tile_threads(size: int) -> int:
    """Return the number of threads of a block, from the size of its tile in bytes."""
    return THREADS if size <= SMALL_TILE_BYTES else MAX_THREADS


def squeeze_excite_forward(
    gpu: Launcher,
    x: Array,
    w1: Array,
    b1: Array | None,
    w2: Array,
    b2: Array | None,
    *,
    squeeze: str = "avg",
    gate: str = "sigmoid",
) -> tuple[Array, SqueezeExciteCache]:
    """See minise.ops.reference.squeeze_excite_forward."""
    check_arrays("squeeze_excite", SHAPES["squeeze_excite"], x, w1, b1, w2, b2)
    check_choice("squeeze_excite", "squeeze", squeeze, SQUEEZES)
    check_choice("squeeze_excite", "gate", gate, GATES)
    if squeeze != "avg":
        return reference.squeeze_excite_forward(x, w1, b1, w2, b2, squeeze=squeeze, gate=gate)
    run = _tile_forward if select_kernels(gpu, x, len(w1)) == "tile" else _simple_forward
    out, *per_channel = run(gpu, gpu.contiguous(x), w1, b1, w2, b2, gate)
    z, h, s = (a.reshape(*a.shape, 1, 1) for a in per_channel)
    return out, SqueezeExciteCache(x, None, Gates(w1, b1, w2, b2, z, h, s, squeeze, gate))


def squeeze_excite_backward(
    gpu: Launcher, dout: Array, cache: SqueezeExciteCache
) -> tuple[Array | None, ...]:
    """See minise.ops.reference.squeeze_excite_backward."""
    check_gradient("squeeze_excite", dout, cache.x)
    x, _, gates = cache
    if gates.squeeze != "avg":
        return reference.squeeze_excite_backward(dout, cache)
    run = _tile_backward if select_kernels(gpu, x, len(gates.w1)) == "tile" else _simple_backward
    dx, dw1, db1, dw2, db2 = run(gpu, gpu.contiguous(dout), gpu.contiguous(x), gates)
    return dx, dw1, None if gates.b1 is None else db1, dw2, None if gates.b2 is None else db2


def _simple_forward(
    gpu: Launcher,
    x: Array,
    w1: Array,
    b1: Array | None,
    w2: Array,
    b2: Array | None,
    gate: str,
) -> tuple[Array, ...]:
    """Return out, z, h, s: three kernels, or four for large dense layers."""
    N, C, H, W = x.shape
    rows, hw = N * C, H * W
    z, out = gpu.xp.empty((N, C), x.dtype), gpu.xp.empty(x.shape, x.dtype)
    gpu.launch(SIMPLE, "squeeze", warps(rows), (x, z), (rows, hw), dtype=x.dtype)
    h, s = excite(gpu, z, w1, b1, w2, b2, gate)
    gpu.launch(SIMPLE, "scale", warps(rows), (x, s, out), (rows, hw), dtype=x.dtype)
    return out, z, h, s


def _simple_backward(gpu: Launcher, dout: Array, x: Array, gates: Gates) -> tuple[Array, ...]:
    """Return dx, dw1, db1, dw2, db2: four kernels, or five for large dense layers."""
    N, C, H, W = x.shape
    rows, hw, code = N * C, H * W, GATES.index(gates.gate)
    z, h, s = _flat_gates(gates)
    dv, dx = gpu.xp.empty((N, C), x.dtype), gpu.xp.empty(x.shape, x.dtype)
    arrays, scalars = (dout, x, s, dv), (code, rows, hw)
    gpu.launch(SIMPLE, "gate_gradient", warps(rows), arrays, scalars, dtype=x.dtype)
    dz, *dense = excite_backward(gpu, dv, z, h, gates.w1, gates.w2)
    arrays = dout, s, dz, dx
    gpu.launch(SIMPLE, "input_gradient", warps(rows), arrays, (rows, hw), dtype=x.dtype)
    return dx, *dense


def _tile_forward(
    gpu: Launcher,
    x: Array,
    w1: Array,
    b1: Array | None,
    w2: Array,
    b2: Array | None,
    gate: str,
) -> tuple[Array, ...]:
    """Return out, z, h, s: one kernel, one block per image."""
    (N, C, H, W), R, dtype = x.shape, len(w1), x.dtype
    out, z, s = (gpu.xp.empty(shape, dtype) for shape in (x.shape, (N, C), (N, C)))
    h = gpu.xp.empty((N, R), dtype)
    arrays, scalars = (x, w1, b1, w2, b2, out, z, h, s), (GATES.index(gate), C, R, H * W)
    _launch_tile(gpu, "tile_forward", x, R, arrays, scalars)
    return out, z, h, s


def _tile_backward(gpu: Launcher, dout: Array, x: Array, gates: Gates) -> tuple[Array, ...]:
    """Return dx, dw1, db1, dw2, db2: two kernels, one with one block per image."""
    (N, C, H, W), R, dtype = x.shape, len(gates.w1), x.dtype
    z, h, s = _flat_gates(gates)
    dx, dv, du = (gpu.xp.empty(shape, dtype) for shape in (x.shape, (N, C), (N, R)))
    arrays = dout, x, h, s, gates.w1, gates.w2, dx, dv, du
    scalars = GATES.index(gates.gate), C, R, H * W
    _launch_tile(gpu, "tile_backward", x, R, arrays, scalars)
    return dx, *weight_gradients(gpu, du, z, dv, h)


def _launch_tile(
    gpu: Launcher,
    kernel: str,
    x: Array,
    R: int,
    arrays: tuple[Array | None, ...],
    scalars: tuple[int, ...],
) -> None:
    """Launch a kernel that keeps an image in shared memory."""
    size = tile_bytes(x, R)
    threads = tile_threads(size)
    settings: Any = dict(dtype=x.dtype, threads=threads, shared=size)
    gpu.launch(TILE, kernel, len(x), arrays, scalars, **settings)


def _flat_gates(gates: Gates) -> tuple[Array, ...]:
    """Return z, h, s as (N, C) or (N, R)."""
    return tuple(a.reshape(a.shape[:2]) for a in (gates.z, gates.h, gates.s))

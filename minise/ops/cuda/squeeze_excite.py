"""Squeeze-and-excitation on the GPU; the kernels stand in squeeze_excite.cu and its _tile.cu.

Which of them runs follows from the shape alone:

    tile      squeeze="avg" and one image with its sums fits into a block's shared memory: each
              pixel is read from memory once, which is all a kernel can do with
    simple    squeeze="avg" and it does not fit: a warp a row, x and dout are read twice
    arrays    squeeze="max" or "none": the reference's own lines, whose whole-array calls CuPy runs

`cuda.using(squeeze_excite="simple")` leaves the tile out.
"""

from typing import Any

from minise.checks import Array, check_choice
from minise.ops import reference
from minise.ops.cuda.gating import check_fits, excite, excite_backward, weight_gradient
from minise.ops.cuda.launcher import Launcher, warps
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeeze_excite import SHAPES, Gates, SqueezeExciteCache
from minise.ops.reference.squeezes import SQUEEZES
from minise.ops.shapes import check_arrays, check_gradient

SIMPLE, TILE = "squeeze_excite.cu", "squeeze_excite_tile.cu"
WAYS = ("auto", "simple", "tile")
SMALL = 32 << 10  # bytes: smaller tiles do with fewer threads, of which several blocks share a chip


def way(gpu: Launcher, x: Array, R: int) -> str:
    """Return "tile" or "simple": how images of this shape are gated by their means."""
    size, most, asked = tile_bytes(x, R), gpu.shared_limit(), gpu.squeeze_excite
    if asked == "tile" and size > most:
        raise ValueError(
            f"squeeze_excite: a tile of x with shape {x.shape} takes {size} bytes of shared "
            f"memory, expected at most {most}, which this GPU has: do without "
            "using(squeeze_excite='tile')"
        )
    if asked != "auto":
        return asked
    return "tile" if size <= most else "simple"


def tile_bytes(x: Array, R: int) -> int:
    """Return how much shared memory one image takes, with z, s and h beside it."""
    _, C, H, W = x.shape
    return (C * H * W + 2 * C + R) * x.dtype.itemsize


def tile_threads(size: int) -> int:
    """Return how many threads a block has whose tile takes so many bytes."""
    return 256 if size <= SMALL else 512


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
    check_fits(gpu, "squeeze_excite", x, len(w1))
    run = _tile_forward if way(gpu, x, len(w1)) == "tile" else _simple_forward
    out, *few = run(gpu, gpu.contiguous(x), w1, b1, w2, b2, gate)
    z, h, s = (one[:, :, None, None] for one in few)
    return out, SqueezeExciteCache(x, None, Gates(w1, b1, w2, b2, z, h, s, squeeze, gate))


def squeeze_excite_backward(
    gpu: Launcher, dout: Array, cache: SqueezeExciteCache
) -> tuple[Array | None, ...]:
    """See minise.ops.reference.squeeze_excite_backward."""
    check_gradient("squeeze_excite", dout, cache.x)
    x, _, gates = cache
    if gates.squeeze != "avg":
        return reference.squeeze_excite_backward(dout, cache)
    run = _tile_backward if way(gpu, x, len(gates.w1)) == "tile" else _simple_backward
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
    """Return out, z, h, s: three kernels."""
    N, C, H, W = x.shape
    rows, hw = N * C, H * W
    z, out = gpu.xp.empty((N, C), x.dtype), gpu.xp.empty(x.shape, x.dtype)
    gpu.launch(SIMPLE, "squeeze", warps(rows), x, z, rows, hw, dtype=x.dtype)
    h, s = excite(gpu, z, w1, b1, w2, b2, gate)
    gpu.launch(SIMPLE, "scale", warps(rows), x, s, out, rows, hw, dtype=x.dtype)
    return out, z, h, s


def _simple_backward(gpu: Launcher, dout: Array, x: Array, gates: Gates) -> tuple[Array, ...]:
    """Return dx, dw1, db1, dw2, db2: five kernels."""
    N, C, H, W = x.shape
    rows, hw, code = N * C, H * W, GATES.index(gates.gate)
    z, h, s = _few(gpu, gates)
    dv, dx = gpu.xp.empty((N, C), x.dtype), gpu.xp.empty(x.shape, x.dtype)
    gpu.launch(SIMPLE, "gate_gradient", warps(rows), dout, x, s, dv, code, rows, hw, dtype=x.dtype)
    dz, *dense = excite_backward(gpu, dv, z, h, gates.w1, gates.w2)
    gpu.launch(SIMPLE, "input_gradient", warps(rows), dout, s, dz, dx, rows, hw, dtype=x.dtype)
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
    """Return out, z, h, s: one kernel, a block an image."""
    (N, C, H, W), R, dtype = x.shape, len(w1), x.dtype
    out, z, s = (gpu.xp.empty(shape, dtype) for shape in (x.shape, (N, C), (N, C)))
    h = gpu.xp.empty((N, R), dtype)
    weights = [None if a is None else gpu.contiguous(a) for a in (w1, b1, w2, b2)]
    given = x, *weights, out, z, h, s, GATES.index(gate), C, R, H * W
    _launch_tile(gpu, "tile_forward", x, R, given)
    return out, z, h, s


def _tile_backward(gpu: Launcher, dout: Array, x: Array, gates: Gates) -> tuple[Array, ...]:
    """Return dx, dw1, db1, dw2, db2: one kernel, and one for each dense layer's gradient."""
    (N, C, H, W), R, dtype = x.shape, len(gates.w1), x.dtype
    z, h, s = _few(gpu, gates)
    dx, dv, du = (gpu.xp.empty(shape, dtype) for shape in (x.shape, (N, C), (N, R)))
    weights = gpu.contiguous(gates.w1), gpu.contiguous(gates.w2)
    given = dout, x, h, s, *weights, dx, dv, du, GATES.index(gates.gate), C, R, H * W
    _launch_tile(gpu, "tile_backward", x, R, given)
    return dx, *weight_gradient(gpu, du, z), *weight_gradient(gpu, dv, h)


def _launch_tile(gpu: Launcher, kernel: str, x: Array, R: int, given: tuple[Any, ...]) -> None:
    """Start a kernel that keeps an image in shared memory."""
    size = tile_bytes(x, R)
    threads = tile_threads(size)
    gpu.launch(TILE, kernel, len(x), *given, dtype=x.dtype, threads=threads, shared=size)


def _few(gpu: Launcher, gates: Gates) -> tuple[Array, ...]:
    """Return z, h, s as (N, C) or (N, R)."""
    return tuple(gpu.contiguous(a[:, :, 0, 0]) for a in (gates.z, gates.h, gates.s))

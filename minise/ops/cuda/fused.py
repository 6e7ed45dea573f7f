"""The ends of residual units on the GPU: block_tail.cu passes over images twice, twice back.

The closed forms are in minise/ops/reference/fused.py, the passes in norm.py beside this file.
"""

from minise.ops.checks import (
    Array,
    check_arrays,
    check_batch_norm,
    check_choice,
    check_gradient,
)
from minise.ops.cuda.gating import check_fits, excite, excite_backward
from minise.ops.cuda.launcher import Launcher, blocks_of
from minise.ops.cuda.norm import (
    FILE,
    Moments,
    channel_gradients,
    gradient_sums,
    input_gradient,
    moments,
    normalised,
    row_moments,
)
from minise.ops.reference.fused import (
    SHAPES,
    BatchNorm2dAddReluCache,
    BatchNorm2dReluCache,
    SeBlockTailCache,
    norm_cache,
)
from minise.ops.reference.gates import GATES


def batch_norm2d_relu_forward(
    gpu: Launcher,
    x: Array,
    gamma: Array,
    beta: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNorm2dReluCache]:
    """See minise.ops.reference.batch_norm2d_relu_forward."""
    op = "batch_norm2d_relu"
    check_arrays(op, SHAPES[op], x, gamma, beta, running_mean, running_var)
    check_batch_norm(op, x, training, momentum, eps)
    rows = row_moments(gpu, x) if training else None
    found = moments(gpu, rows, x, running_mean, running_var, momentum, eps)
    out = normalised(gpu, x, found, gamma, beta, clip=True)
    few = found.mean, found.rstd, out, found.running_mean, found.running_var
    settings = training, float(momentum), float(eps)
    return out, BatchNorm2dReluCache(x, gamma, beta, *few, *settings)


def batch_norm2d_relu_backward(
    gpu: Launcher, dout: Array, cache: BatchNorm2dReluCache
) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_relu_backward."""
    check_gradient("batch_norm2d_relu", dout, cache.out)
    norm = norm_cache(cache)
    sums, _ = gradient_sums(gpu, dout, cache.out, norm, keep_g=False)
    dgamma, dbeta = channel_gradients(gpu, sums, norm)
    dx = input_gradient(gpu, dout, cache.out, norm, dgamma, dbeta)
    return dx, dgamma, dbeta


def batch_norm2d_add_relu_forward(
    gpu: Launcher,
    x: Array,
    gamma: Array,
    beta: Array,
    shortcut: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, BatchNorm2dAddReluCache]:
    """See minise.ops.reference.batch_norm2d_add_relu_forward."""
    op = "batch_norm2d_add_relu"
    check_arrays(op, SHAPES[op], x, gamma, beta, shortcut, running_mean, running_var)
    check_batch_norm(op, x, training, momentum, eps)
    rows = row_moments(gpu, x) if training else None
    found = moments(gpu, rows, x, running_mean, running_var, momentum, eps)
    out = normalised(gpu, x, found, gamma, beta, None, shortcut, clip=True)
    few = found.mean, found.rstd, out, found.running_mean, found.running_var
    settings = training, float(momentum), float(eps)
    return out, BatchNorm2dAddReluCache(x, gamma, beta, *few, *settings)


def batch_norm2d_add_relu_backward(
    gpu: Launcher, dout: Array, cache: BatchNorm2dAddReluCache
) -> tuple[Array, ...]:
    """See minise.ops.reference.batch_norm2d_add_relu_backward."""
    check_gradient("batch_norm2d_add_relu", dout, cache.out)
    norm = norm_cache(cache)
    sums, g = gradient_sums(gpu, dout, cache.out, norm, keep_g=True)
    assert g is not None
    dgamma, dbeta = channel_gradients(gpu, sums, norm)
    dx = input_gradient(gpu, g, None, norm, dgamma, dbeta)
    return dx, dgamma, dbeta, g


def se_block_tail_forward(
    gpu: Launcher,
    x: Array,
    gamma: Array,
    beta: Array,
    w1: Array,
    b1: Array | None,
    w2: Array,
    b2: Array | None,
    shortcut: Array,
    *,
    running_mean: Array,
    running_var: Array,
    training: bool,
    gate: str = "sigmoid",
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Array, SeBlockTailCache]:
    """See minise.ops.reference.se_block_tail_forward."""
    op = "se_block_tail"
    arrays = x, gamma, beta, w1, b1, w2, b2, shortcut, running_mean, running_var
    check_arrays(op, SHAPES[op], *arrays)
    check_batch_norm(op, x, training, momentum, eps)
    check_choice(op, "gate", gate, GATES)
    check_fits(gpu, op, x, len(w1))
    rows = row_moments(gpu, x)
    normalising = rows if training else None
    found = moments(gpu, normalising, x, running_mean, running_var, momentum, eps)
    zhat, z = _squeezed(gpu, rows[0], found, gamma, beta)
    h, s = excite(gpu, z, w1, b1, w2, b2, gate)
    out = normalised(gpu, x, found, gamma, beta, s, shortcut, clip=True)
    return out, SeBlockTailCache(
        x,
        gamma,
        beta,
        w1,
        b1,
        w2,
        b2,
        found.mean,
        found.rstd,
        zhat[:, :, None, None],
        z[:, :, None, None],
        h[:, :, None, None],
        s[:, :, None, None],
        out,
        found.running_mean,
        found.running_var,
        training,
        float(momentum),
        float(eps),
        gate,
    )


def se_block_tail_backward(
    gpu: Launcher, dout: Array, cache: SeBlockTailCache
) -> tuple[Array | None, ...]:
    """See minise.ops.reference.se_block_tail_backward."""
    check_gradient("se_block_tail", dout, cache.out)
    norm = norm_cache(cache)
    few = (cache.zhat, cache.z, cache.h, cache.s)
    zhat, z, h, s = (gpu.contiguous(one[:, :, 0, 0]) for one in few)
    sums, g = gradient_sums(gpu, dout, cache.out, norm, keep_g=True)
    assert g is not None
    dv = _gate_gradient(gpu, sums, cache, s)
    dz, dw1, db1, dw2, db2 = excite_backward(gpu, dv, z, h, cache.w1, cache.w2)
    dgamma, dbeta = channel_gradients(gpu, sums, norm, s, dz, zhat)
    dx = input_gradient(gpu, g, None, norm, dgamma, dbeta, s, dz)
    db = None if cache.b1 is None else db1, None if cache.b2 is None else db2
    return dx, dgamma, dbeta, dw1, db[0], dw2, db[1], g


def _squeezed(
    gpu: Launcher, row_mean: Array, found: Moments, gamma: Array, beta: Array
) -> tuple[Array, Array]:
    """Return zhat and z (N, C), which need no image."""
    N, C = row_mean.shape
    zhat, z = (gpu.xp.empty((N, C), gamma.dtype) for _ in range(2))
    few = [gpu.contiguous(one) for one in (found.mean, found.rstd, gamma, beta)]
    given = row_mean, *few, zhat, z, N * C, C
    gpu.launch(FILE, "squeeze_normalised", blocks_of(N * C), *given, dtype=gamma.dtype)
    return zhat, z


def _gate_gradient(
    gpu: Launcher, sums: tuple[Array, Array], cache: SeBlockTailCache, s: Array
) -> Array:
    """Return dv (N, C), in front of the gates."""
    N, C = s.shape
    dv = gpu.xp.empty((N, C), s.dtype)
    few = gpu.contiguous(cache.gamma), gpu.contiguous(cache.beta), s
    given = *sums, *few, dv, GATES.index(cache.gate), N * C, C
    gpu.launch(FILE, "gate_gradient_of_sums", blocks_of(N * C), *given, dtype=s.dtype)
    return dv

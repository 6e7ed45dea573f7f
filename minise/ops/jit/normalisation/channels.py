"""The computations per channel between the passes of a normalisation.

The formulas are in minise/ops/reference/norm.py and fused.py; minise/ops/jit/norm.py states their
order. All of them are in double precision, also for float32 arrays: `stats64` has the mean and
1 / (standard deviation), and the blocks and images are summed in order. The innermost loops run
over channels, so that adjacent elements belong to different sums.
"""

import math

import numpy as np

from minise.ops.jit.compiler.compile import inlined
from minise.ops.jit.normalisation.gates import excite, excite_backward


@inlined
def statistics(training, means, squares, pixels, running_mean, running_var, momentum, eps, stats):
    """Return stats64 (2, C): mean, rstd. Set stats (4, C) to these and the new running statistics.

    In training, they come from the means and the centred sums of squares of the blocks, (blocks,
    C); in evaluation, they are the running statistics.
    """
    blocks, C = means.shape
    stats64, var, M = np.zeros((2, C)), np.zeros(C), blocks * pixels
    mean, rstd = stats64[0], stats64[1]
    if training:
        for block in range(blocks):
            for c in range(C):
                mean[c] += means[block, c]
        for c in range(C):
            mean[c] /= blocks
        for block in range(blocks):
            for c in range(C):
                deviation = means[block, c] - mean[c]
                var[c] += squares[block, c] + pixels * (deviation * deviation)
    for c in range(C):
        old_mean, old_var = np.float64(running_mean[c]), np.float64(running_var[c])
        if training:
            var[c] /= M
            stats[2, c] = old_mean + momentum * (mean[c] - old_mean)
            stats[3, c] = old_var + momentum * (var[c] * (M / max(1, M - 1)) - old_var)
        else:
            mean[c], var[c] = old_mean, old_var
            stats[2, c], stats[3, c] = old_mean, old_var
        rstd[c] = 1 / math.sqrt(var[c] + eps)
        stats[0, c], stats[1, c] = mean[c], rstd[c]
    return stats64


@inlined
def rows_of_gates(gates):
    """Return zhat, z, h, s with one row per image."""
    zhat, z, h, s = gates
    N, C = s.shape[:2]
    return zhat.reshape(N, C), z.reshape(N, C), h.reshape(N, h.shape[1]), s.reshape(N, C)


@inlined
def compute_gates(n, means, stats64, gamma, beta, w1, b1, w2, b2, gate, zhat, z, h, s):
    """Compute zhat[n], z[n] (C,), the hidden units h[n] (R,) and the gates s[n] (C,)."""
    parts, mean, rstd = len(means) // len(s), stats64[0], stats64[1]
    for c in range(len(gamma)):
        total = 0.0
        for block in range(n * parts, (n + 1) * parts):
            total += means[block, c]
        normalised = (total / parts - mean[c]) * rstd[c]
        zhat[n, c], z[n, c] = normalised, gamma[c] * normalised + beta[c]
    excite(z[n : n + 1], w1, b1, w2, b2, gate, h[n : n + 1], s[n : n + 1])


@inlined
def sum_over_blocks(n, sum_g, sum_gx, total_g, total_gx):
    """Set total_g[n], total_gx[n] (C,) to the sums of image n's blocks in (blocks, C)."""
    parts = len(sum_g) // len(total_g)
    total_g[n], total_gx[n] = 0, 0
    for block in range(n * parts, (n + 1) * parts):
        for c in range(sum_g.shape[1]):
            total_g[n, c] += sum_g[block, c]
            total_gx[n, c] += sum_gx[block, c]


@inlined
def compute_gates_backward(n, total_g, total_gx, rstd, gamma, beta, w1, w2, gate, h, s, dv, du, dz):
    """Compute dv[n] (C,), du[n] (R,), dz[n] (C,) of the gates from the sums of image n."""
    ds = np.empty((1, len(gamma)))
    for c in range(len(gamma)):
        ds[0, c] = gamma[c] * (total_gx[n, c] * rstd[c]) + beta[c] * total_g[n, c]
    row = slice(n, n + 1)
    excite_backward(ds, w1, w2, gate, h[row], s[row], dv[row], du[row], dz[row])


@inlined
def norm_gradients(total_g, total_gx, rstd, s, zhat, dz, dgamma, dbeta):
    """Set dgamma and dbeta (C,) to their sums over images; s, zhat and dz may be empty."""
    dgamma[:], dbeta[:] = 0, 0
    for n in range(len(total_g)):
        for c in range(len(dgamma)):
            if s.size:
                dbeta[c] += s[n, c] * total_g[n, c] + dz[n, c]
                dgamma[c] += s[n, c] * (total_gx[n, c] * rstd[c]) + dz[n, c] * zhat[n, c]
            else:
                dbeta[c] += total_g[n, c]
                dgamma[c] += total_gx[n, c] * rstd[c]


@inlined
def fold(stats64, gamma, beta, s, scale, shift):
    """Set scale and shift of (x - mean) * scale + shift: one row for all images, or one each."""
    for n in range(len(scale)):
        for c in range(len(gamma)):
            gamma_rstd = gamma[c] * stats64[1, c]
            scale[n, c] = s[n, c] * gamma_rstd if s.size else gamma_rstd
            shift[n, c] = s[n, c] * beta[c] if s.size else beta[c]


@inlined
def fold_backward(M, pixels, gamma, rstd, dgamma, dbeta, s, dz, scale, shift, slope):
    """Set scale, shift and slope of dx = g * scale + shift - (x - mean) * slope.

    M is the number of elements per channel, or infinity where mean and rstd are constants; scale
    and shift have the rows of `fold`.
    """
    for n in range(len(scale)):
        for c in range(len(gamma)):
            gamma_rstd = gamma[c] * rstd[c]
            through_gate = dz[n, c] / pixels if s.size else 0.0
            scale[n, c] = gamma_rstd * s[n, c] if s.size else gamma_rstd
            shift[n, c] = gamma_rstd * (through_gate - dbeta[c] / M)
            slope[c] = gamma_rstd * rstd[c] * dgamma[c] / M

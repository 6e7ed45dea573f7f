"""What lies between the passes of a normalisation: a few numbers for each channel.

The formulas are in minise/ops/reference/norm.py and fused.py; minise/ops/jit/norm.py says in which
order they are used. All is in double precision, also where its arrays are not: `wide` holds mean
and 1 / deviation, and sums are added up block by block, image by image, in order. Loops go along
the channels innermost, so that neighbours in memory belong to different sums.
"""

import math

import numpy as np

from minise.ops.jit.compiler.compile import spliced
from minise.ops.jit.normalisation.gates import excite, excite_backward


@spliced
def statistics(training, means, squares, pixels, running_mean, running_var, momentum, eps, kept):
    """Return wide (2, C), and set kept to mean, rstd and the new running mean and variance.

    In training they are made of the mean and the centred sum of squares of every block, (blocks,
    C), in evaluation they are the running ones.
    """
    blocks, C = means.shape
    wide, var, M = np.zeros((2, C)), np.zeros(C), blocks * pixels
    mean, rstd = wide[0], wide[1]
    if training:
        for block in range(blocks):
            for c in range(C):
                mean[c] += means[block, c]
        for c in range(C):
            mean[c] /= blocks
        for block in range(blocks):
            for c in range(C):
                apart = means[block, c] - mean[c]
                var[c] += squares[block, c] + pixels * (apart * apart)
    for c in range(C):
        old_mean, old_var = np.float64(running_mean[c]), np.float64(running_var[c])
        if training:
            var[c] /= M
            kept[2, c] = old_mean + momentum * (mean[c] - old_mean)
            kept[3, c] = old_var + momentum * (var[c] * (M / max(1, M - 1)) - old_var)
        else:
            mean[c], var[c] = old_mean, old_var
            kept[2, c], kept[3, c] = old_mean, old_var
        rstd[c] = 1 / math.sqrt(var[c] + eps)
        kept[0, c], kept[1, c] = mean[c], rstd[c]
    return wide


@spliced
def rows_of_gates(gates):
    """Return zhat, z, h, s as rows, one an image."""
    zhat, z, h, s = gates
    N, C = s.shape[:2]
    return zhat.reshape(N, C), z.reshape(N, C), h.reshape(N, h.shape[1]), s.reshape(N, C)


@spliced
def gates_of(n, means, wide, gamma, beta, w1, b1, w2, b2, gate, zhat, z, h, s):
    """Find, for one image, zhat and z (N, C), the hidden units h (N, R) and the gates s (N, C)."""
    parts, mean, rstd = len(means) // len(s), wide[0], wide[1]
    for c in range(len(gamma)):
        total = 0.0
        for block in range(n * parts, (n + 1) * parts):
            total += means[block, c]
        normalised = (total / parts - mean[c]) * rstd[c]
        zhat[n, c], z[n, c] = normalised, gamma[c] * normalised + beta[c]
    excite(z[n : n + 1], w1, b1, w2, b2, gate, h[n : n + 1], s[n : n + 1])


@spliced
def totals_of(n, sum_g, sum_gx, total_g, total_gx):
    """Add up, for one image, both sums of its blocks: (blocks, C) to (N, C)."""
    parts = len(sum_g) // len(total_g)
    total_g[n], total_gx[n] = 0, 0
    for block in range(n * parts, (n + 1) * parts):
        for c in range(sum_g.shape[1]):
            total_g[n, c] += sum_g[block, c]
            total_gx[n, c] += sum_gx[block, c]


@spliced
def gates_backward_of(n, total_g, total_gx, rstd, gamma, beta, w1, w2, gate, h, s, dv, du, dz):
    """Carry, for one image, the gradient of its gates back to dv (N, C), du (N, R), dz (N, C)."""
    ds = np.empty((1, len(gamma)))
    for c in range(len(gamma)):
        ds[0, c] = gamma[c] * (total_gx[n, c] * rstd[c]) + beta[c] * total_g[n, c]
    one = slice(n, n + 1)
    excite_backward(ds, w1, w2, gate, h[one], s[one], dv[one], du[one], dz[one])


@spliced
def norm_gradients(total_g, total_gx, rstd, s, zhat, dz, dgamma, dbeta):
    """Set dgamma and dbeta (C,), from what every image gave; s, zhat and dz may be empty."""
    dgamma[:], dbeta[:] = 0, 0
    for n in range(len(total_g)):
        for c in range(len(dgamma)):
            if s.size:
                dbeta[c] += s[n, c] * total_g[n, c] + dz[n, c]
                dgamma[c] += s[n, c] * (total_gx[n, c] * rstd[c]) + dz[n, c] * zhat[n, c]
            else:
                dbeta[c] += total_g[n, c]
                dgamma[c] += total_gx[n, c] * rstd[c]


@spliced
def fold(wide, gamma, beta, s, scale, shift):
    """Set scale and shift to those of (x - mean) * scale + shift: one row, or one for each s."""
    for n in range(len(scale)):
        for c in range(len(gamma)):
            both = gamma[c] * wide[1, c]
            scale[n, c] = s[n, c] * both if s.size else both
            shift[n, c] = s[n, c] * beta[c] if s.size else beta[c]


@spliced
def fold_backward(M, pixels, gamma, rstd, dgamma, dbeta, s, dz, scale, shift, slope):
    """Set the numbers of dx = g * scale + shift - (x - mean) * slope, as fold does.

    M is how many numbers a mean was taken of, or infinite where it was a constant.
    """
    for n in range(len(scale)):
        for c in range(len(gamma)):
            both = gamma[c] * rstd[c]
            through_gate = dz[n, c] / pixels if s.size else 0.0
            scale[n, c] = both * s[n, c] if s.size else both
            shift[n, c] = both * (through_gate - dbeta[c] / M)
            slope[c] = both * rstd[c] * dgamma[c] / M

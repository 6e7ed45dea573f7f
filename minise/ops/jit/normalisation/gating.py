"""The SE block behind a convolution, in inference: mean, gates, and what follows, in place.

One image is one iteration of a parallel loop: its mean is taken, its gates are found, and while it
is still in cache it is scaled, the shortcut is added and the ReLU done. A vector of channels after
the other stays in registers while the pixels stream past, as in passes.py; below stand the loops
for channels that fill no vector.
"""

import numpy as np
from numba import prange

from minise.ops.jit.compiler.compile import kernel, part
from minise.ops.jit.normalisation.gates import excite
from minise.ops.jit.normalisation.passes import BLOCK
from minise.ops.jit.vector.simd import filled, fma, kept, lanes_of, load, store


@kernel
def gate_images(w1, b1, w2, b2, gate, shortcut, relu, out):
    """Set out (N, H, W, C) to out * gates + shortcut, which may be empty, with relu above 0."""
    N, H, W, C = out.shape
    flat, others = out.reshape(-1), shortcut.reshape(-1)
    for n in prange(N):
        z, h, s = np.empty((1, C)), np.empty((1, len(w1))), np.empty((1, C), out.dtype)
        _means(flat, n * H * W * C, H * W, C, z[0])
        excite(z, w1, b1, w2, b2, gate, h, s)
        _scale(flat, n * H * W * C, H * W, C, s[0], others, relu)


@part
def _means(images, at, pixels, C, z):
    """Set z (C,) to the mean of each channel: sums of at most BLOCK pixels, added in double."""
    lanes, sums = lanes_of(images.dtype), np.empty(C, images.dtype)
    for c in range(C):
        z[c] = 0
    for begin in range(at, at + pixels * C, BLOCK * C):
        end = min(begin + BLOCK * C, at + pixels * C)
        quarters = begin + (end - begin) // (4 * C) * 4 * C
        for c in range(0, C - C % lanes, lanes):
            s0 = s1 = s2 = s3 = filled(0.0, images)
            for p in range(begin + c, quarters + c, 4 * C):
                s0, s1 = s0 + load(images, p), s1 + load(images, p + C)
                s2, s3 = s2 + load(images, p + 2 * C), s3 + load(images, p + 3 * C)
            for p in range(quarters + c, end + c, C):
                s0 = s0 + load(images, p)
            store((s0 + s1) + (s2 + s3), sums, c)
        for c in range(C - C % lanes, C):
            total = 0.0
            for p in range(begin + c, end + c, C):
                total += images[p]
            sums[c] = total
        for c in range(C):
            z[c] += sums[c]
    for c in range(C):
        z[c] /= pixels


@part
def _scale(images, at, pixels, C, s, shortcut, relu):
    """Scale an image's channels by s (C,), add the shortcut, and cut off below 0 with relu."""
    lanes = lanes_of(images.dtype)
    for c in range(0, C - C % lanes, lanes):
        a, zero = load(s, c), filled(0.0, images)
        for p in range(at + c, at + c + pixels * C, C):
            y = fma(load(images, p), a, load(shortcut, p) if len(shortcut) else zero)
            if relu:
                y = kept(y, y)
            store(y, images, p)
    for c in range(C - C % lanes, C):
        for p in range(at + c, at + c + pixels * C, C):
            z = images[p] * s[c]
            if len(shortcut):
                z += shortcut[p]
            images[p] = 0 if relu and z <= 0 else z

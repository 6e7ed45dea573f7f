"""The SE block after a convolution in inference: mean, gates, scale, shortcut and ReLU, in place.

One image is one iteration of a parallel loop: its mean and its gates are computed, and while it is
still in cache, it is scaled, the shortcut is added and the ReLU applied. As in passes.py, the sums
or factors of one vector of channels stay in registers during the loop over pixels; plain loops
compute the channels that do not fill a vector.
"""

import numpy as np
from numba import prange

from minise.ops.jit.compiler.compile import device_function, kernel
from minise.ops.jit.normalisation.gates import excite
from minise.ops.jit.normalisation.passes import PIXELS_PER_BLOCK
from minise.ops.jit.vector.simd import filled, fma, lanes_of, load, store, where_positive


@kernel
def gate_images(w1, b1, w2, b2, gate, shortcut, relu, out):
    """Set out (N, H, W, C) to out * gates + shortcut (may be empty), and apply the ReLU if relu."""
    N, H, W, C = out.shape
    flat, others = out.reshape(-1), shortcut.reshape(-1)
    for n in prange(N):
        z, h, s = np.empty((1, C)), np.empty((1, len(w1))), np.empty((1, C), out.dtype)
        _means(flat, n * H * W * C, H * W, C, z[0])
        excite(z, w1, b1, w2, b2, gate, h, s)
        _scale(flat, n * H * W * C, H * W, C, s[0], others, relu)


@device_function
def _means(images, at, pixels, C, z):
    """Set z (C,) to the channel means: sums of at most PIXELS_PER_BLOCK pixels, added in double."""
    lanes, sums = lanes_of(images.dtype), np.empty(C, images.dtype)
    for c in range(C):
        z[c] = 0
    for begin in range(at, at + pixels * C, PIXELS_PER_BLOCK * C):
        end = min(begin + PIXELS_PER_BLOCK * C, at + pixels * C)
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


@device_function
def _scale(images, at, pixels, C, s, shortcut, relu):
    """Set an image to image * s + shortcut (may be empty), s (C,); apply the ReLU if relu."""
    lanes = lanes_of(images.dtype)
    for c in range(0, C - C % lanes, lanes):
        a, zero = load(s, c), filled(0.0, images)
        for p in range(at + c, at + c + pixels * C, C):
            y = fma(load(images, p), a, load(shortcut, p) if len(shortcut) else zero)
            if relu:
                y = where_positive(y, y)
            store(y, images, p)
    for c in range(C - C % lanes, C):
        for p in range(at + c, at + c + pixels * C, C):
            z = images[p] * s[c]
            if len(shortcut):
                z += shortcut[p]
            images[p] = 0 if relu and z <= 0 else z

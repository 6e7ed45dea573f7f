"""Add, concat, channel scale, channel shuffle, dropout and shake, compiled.

The formulas are in minise/ops/reference/combine.py. Functions that only return views of their
inputs are the reference's.
"""

import numpy as np
from numba import prange

from minise.checks import Array, check_divisor, check_integer, check_number
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.vector.layout import flat, frozen, images_of, rows_of, unflat
from minise.ops.jit.vector.memory import empty, empty_like
from minise.ops.reference.combine import (
    SHAPES,
    AddCache,
    ChannelScaleCache,
    ChannelShuffleCache,
    ConcatCache,
    DropoutCache,
    ShakeCache,
)
from minise.ops.shapes import Kind, check_arrays, check_gradient


def add_forward(a: Array, b: Array) -> tuple[Array, AddCache]:
    """See minise.ops.reference.add_forward."""
    check_arrays("add", SHAPES["add"], a, b)
    numbers = flat(a)
    out = empty_like(numbers)
    _add(numbers, flat(b, like=a), out)
    return unflat(out, a), AddCache(a.shape, a.dtype)


def concat_forward(*xs: Array) -> tuple[Array, ConcatCache]:
    """See minise.ops.reference.concat_forward; out is channels-last in memory."""
    check_arrays("concat", SHAPES["concat"], *xs)
    N, _, H, W = xs[0].shape
    out = empty((N, H * W, sum(x.shape[1] for x in xs)), xs[0].dtype)
    first = 0
    for x in xs:
        _copy_channels(rows_of(x), first, out)
        first += x.shape[1]
    images = images_of(out, H, W)
    return images, ConcatCache(tuple(x.shape[1] for x in xs), images.shape, out.dtype)


def channel_scale_forward(x: Array, s: Array) -> tuple[Array, ChannelScaleCache]:
    """See minise.ops.reference.channel_scale_forward; out is channels-last in memory."""
    check_arrays("channel_scale", SHAPES["channel_scale"], x, s)
    rows = rows_of(x)
    out = empty_like(rows)
    _scale(rows, frozen(s), out)
    return images_of(out, *x.shape[2:]), ChannelScaleCache(x, s)


def channel_scale_backward(dout: Array, cache: ChannelScaleCache) -> tuple[Array, Array]:
    """See minise.ops.reference.channel_scale_backward; dx is channels-last in memory."""
    check_gradient("channel_scale", dout, cache.x)
    rows = rows_of(cache.x)
    dx, ds = empty_like(rows), np.empty_like(cache.s, order="C")
    _scale_backward(rows_of(dout), rows, frozen(cache.s), dx, ds)
    return images_of(dx, *dout.shape[2:]), ds


def channel_shuffle_forward(x: Array, *, groups: int) -> tuple[Array, ChannelShuffleCache]:
    """See minise.ops.reference.channel_shuffle_forward; out is channels-last in memory."""
    check_integer("channel_shuffle", "groups", groups, 1)
    check_arrays("channel_shuffle", SHAPES["channel_shuffle"], x)
    check_divisor("channel_shuffle", "groups", groups, "C", x.shape[1])
    return _shuffled(x, groups), ChannelShuffleCache(x.shape, x.dtype, groups)


def channel_shuffle_backward(dout: Array, cache: ChannelShuffleCache) -> tuple[Array]:
    """See minise.ops.reference.channel_shuffle_backward; dx is channels-last in memory."""
    check_gradient("channel_shuffle", dout, Kind(cache.shape, cache.out_dtype))
    return (_shuffled(dout, dout.shape[1] // cache.groups),)


def dropout_forward(x: Array, mask: Array, *, p: float) -> tuple[Array, DropoutCache]:
    """See minise.ops.reference.dropout_forward."""
    check_arrays("dropout", SHAPES["dropout"], x, mask)
    p = check_number("dropout", "p", p, "a number from 0 to below 1", 0, np.nextafter(1, 0))
    return _dropped(x, mask, p), DropoutCache(mask, x.dtype, p)


def dropout_backward(dout: Array, cache: DropoutCache) -> tuple[Array, None]:
    """See minise.ops.reference.dropout_backward."""
    check_gradient("dropout", dout, Kind(cache.mask.shape, cache.out_dtype))
    return _dropped(dout, cache.mask, cache.p), None


def shake_forward(x1: Array, x2: Array, *, alpha: Array, beta: Array) -> tuple[Array, ShakeCache]:
    """See minise.ops.reference.shake_forward; out is channels-last in memory."""
    check_arrays("shake", SHAPES["shake"], x1, x2, alpha, beta)
    rows = rows_of(x1)
    out = empty_like(rows)
    _mix(rows, rows_of(x2), frozen(alpha), frozen(1 - alpha), out)
    return images_of(out, *x1.shape[2:]), ShakeCache(beta, x1.shape)


def shake_backward(dout: Array, cache: ShakeCache) -> tuple[Array, Array]:
    """See minise.ops.reference.shake_backward; both gradients are channels-last in memory."""
    check_gradient("shake", dout, cache.beta, cache.shape)
    rows = rows_of(dout)
    dx1, dx2 = empty_like(rows), empty_like(rows)
    _share(rows, frozen(cache.beta), frozen(1 - cache.beta), dx1, dx2)
    H, W = dout.shape[2:]
    return images_of(dx1, H, W), images_of(dx2, H, W)


def _shuffled(x: Array, groups: int) -> Array:
    rows = rows_of(x)
    out = empty_like(rows)
    _shuffle(rows, groups, out)
    return images_of(out, *x.shape[2:])


def _dropped(x: Array, mask: Array, p: float) -> Array:
    numbers = flat(x)
    out = empty_like(numbers)
    _drop(numbers, flat(mask, like=x), x.dtype.type(1 - p), out)
    return unflat(out, x)


@kernel
def _add(a, b, out):
    for i in prange(len(a)):
        out[i] = a[i] + b[i]


@kernel
def _copy_channels(x, first, out):
    """Copy x (N, pixels, C) into the channels of out from `first` on."""
    N, pixels, C = x.shape
    for n in prange(N):
        for i in range(pixels):
            for c in range(C):
                out[n, i, first + c] = x[n, i, c]


@kernel
def _scale(x, s, out):
    N, pixels, C = x.shape
    for n in prange(N):
        for i in range(pixels):
            for c in range(C):
                out[n, i, c] = x[n, i, c] * s[n, c]


@kernel
def _scale_backward(dout, x, s, dx, ds):
    N, pixels, C = x.shape
    for n in prange(N):
        total = np.zeros(C)
        for i in range(pixels):
            for c in range(C):
                total[c] += dout[n, i, c] * x[n, i, c]
                dx[n, i, c] = dout[n, i, c] * s[n, c]
        for c in range(C):
            ds[n, c] = total[c]


@kernel
def _shuffle(x, groups, out):
    N, pixels, C = x.shape
    each = C // groups
    for n in prange(N):
        for i in range(pixels):
            for g in range(groups):
                for k in range(each):
                    out[n, i, k * groups + g] = x[n, i, g * each + k]


@kernel
def _drop(x, mask, keep_prob, out):
    for i in prange(len(x)):
        out[i] = x[i] / keep_prob if mask[i] else 0


@kernel
def _mix(x1, x2, share1, share2, out):
    N, pixels, C = x1.shape
    for n in prange(N):
        for i in range(pixels):
            for c in range(C):
                out[n, i, c] = share1[n] * x1[n, i, c] + share2[n] * x2[n, i, c]


@kernel
def _share(dout, share1, share2, dx1, dx2):
    N, pixels, C = dout.shape
    for n in prange(N):
        for i in range(pixels):
            for c in range(C):
                dx1[n, i, c] = dout[n, i, c] * share1[n]
                dx2[n, i, c] = dout[n, i, c] * share2[n]

"""concat's backward and channel shuffle, which index with NumPy arrays in the reference."""

from itertools import accumulate, pairwise

from minise.checks import Array, check_divisor, check_integer
from minise.ops.cuda.launcher import Launcher
from minise.ops.reference.combine import SHAPES, ChannelShuffleCache, ConcatCache
from minise.ops.shapes import Kind, check_arrays, check_gradient


def concat_backward(gpu: Launcher, dout: Array, cache: ConcatCache) -> tuple[Array, ...]:
    """See minise.ops.reference.concat_backward."""
    check_gradient("concat", dout, Kind(cache.shape, cache.out_dtype))
    ends = list(accumulate(cache.channels, initial=0))
    return tuple(dout[:, start:end] for start, end in pairwise(ends))


def channel_shuffle_forward(
    gpu: Launcher, x: Array, *, groups: int
) -> tuple[Array, ChannelShuffleCache]:
    """See minise.ops.reference.channel_shuffle_forward."""
    check_integer("channel_shuffle", "groups", groups, 1)
    check_arrays("channel_shuffle", SHAPES["channel_shuffle"], x)
    check_divisor("channel_shuffle", "groups", groups, "C", x.shape[1])
    return _shuffled(x, int(groups)), ChannelShuffleCache(x.shape, x.dtype, groups)


def channel_shuffle_backward(
    gpu: Launcher, dout: Array, cache: ChannelShuffleCache
) -> tuple[Array]:
    """See minise.ops.reference.channel_shuffle_backward."""
    check_gradient("channel_shuffle", dout, Kind(cache.shape, cache.out_dtype))
    return (_shuffled(dout, dout.shape[1] // int(cache.groups)),)


def _shuffled(x: Array, groups: int) -> Array:
    N, C, H, W = x.shape
    grouped = x.reshape(N, groups, C // groups, H, W).swapaxes(1, 2)
    return grouped.copy().reshape(x.shape)

"""Which algorithm a convolution is computed by: the rule, and how a user overrules it.

Three ways take every product that the formula has and add them up, so that on small integers they
are exact: direct.py, pointwise.py and depthwise.py. winograd.py takes a quarter of the products and
loses about a digit of float32. `algorithm_of` is the rule of "auto", which the user overrules by
`jit.using(algorithm="direct")` or, on the command line, `--algorithm direct`.
"""

from contextvars import ContextVar
from functools import lru_cache
from typing import Any, get_args

import numpy as np

from minise.ops.checks import Array, kind_of
from minise.ops.jit.convolution.depthwise import depthwise_can
from minise.ops.jit.convolution.geometry import SIZES
from minise.ops.jit.convolution.pointwise import pointwise_can
from minise.ops.jit.convolution.transforms import TAP
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.protocol import Algorithm
from minise.ops.reference.conv import Conv2dCache

ALGORITHMS = get_args(Algorithm)
chosen: ContextVar[str] = ContextVar("algorithm", default="auto")  # set by jit.using


def winograd_can(cache: Conv2dCache) -> bool:
    """Return whether Winograd's convolution can do it.

    It is made for 3 x 3 filters with stride 1, and the channels and filters of a group have to be
    whole vectors: multiples of 16 in float32 where vectors have 512 bits, of 8 or 4 where fewer.
    With a padding of more than 2, pixels of dx would be seen from outside of dout.
    """
    weight, groups = cache.weight, cache.groups
    fewer, lanes = merged_groups(weight, groups), lanes_of(weight.dtype)
    whole = weight.shape[0] // fewer % lanes == weight.shape[1] * groups // fewer % lanes == 0
    plain = weight.shape[2:] == (TAP, TAP) and cache.stride == cache.dilation == (1, 1)
    return whole and plain and max(cache.padding) < TAP


def rule_of_auto() -> str:
    """Return in words what "auto" takes on this machine; `algorithm_of` is the rule."""
    return (
        "Winograd's for 3x3 filters at stride 1 in float32, where a group's channels and filters "
        f"are multiples of {lanes_of(np.dtype(np.float32))}; else direct"
    )


def algorithm_of(cache: Conv2dCache) -> str:
    """Return what a convolution is done by: winograd, pointwise, depthwise or direct.

    1 x 1 filters and depthwise ones have files of their own, where channels are whole vectors.
    Else, with "auto", it is Winograd's in float32 wherever that can do it: measured at 16 to 512
    channels it takes a fifth to a half of the direct one's time. In float64, which is asked for to
    have digits, it is the direct one; with "winograd" that is done by Winograd's too. With
    "direct" nothing is.
    """
    x: Any = kind_of(cache.x)
    weight: Any = kind_of(cache.weight)
    settings = cache.stride, cache.padding, cache.dilation, cache.groups
    return _rule(Conv2dCache(x, weight, None, *settings), chosen.get())


@lru_cache(SIZES)
def _rule(sizes: Conv2dCache, wanted: str) -> str:
    """Return what algorithm_of returns, of a cache that has the kinds of arrays in their places."""
    weight = sizes.weight
    if pointwise_can(sizes.x, weight, sizes.stride, sizes.padding, sizes.groups):
        return "pointwise"
    if depthwise_can(weight, sizes.groups):
        return "depthwise"
    in_time = wanted == "winograd" or (wanted == "auto" and weight.dtype.itemsize == 4)
    return "winograd" if in_time and winograd_can(sizes) else "direct"


def merged_groups(weight: Array, groups: int) -> int:
    """Return how many groups remain after merging, so that the filters of each fill a vector.

    Groups of few filters would leave most lanes empty (see minise/ops/jit/conv.py).
    """
    return _merged_groups(weight.shape[0] // groups, groups, lanes_of(weight.dtype))


@lru_cache(SIZES)
def _merged_groups(filters: int, groups: int, most: int) -> int:
    fill = [m for m in range(1, groups + 1) if groups % m == 0 and m * filters <= most]
    return groups // max(fill, default=1)

"""The rule that chooses the algorithm of a convolution, and the setting that overrides it.

direct.py and depthwise.py compute all products of the formula and their sum, so they are exact on
small integers. winograd.py computes a quarter of the products and loses about one
digit of float32. `algorithm_of` is the rule; users override "auto" by
`jit.using(algorithm="direct")` or, on the command line, `--algorithm direct`.
"""

import math
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, get_args

import numpy as np

from minise.checks import Array
from minise.ops.jit.convolution.depthwise import depthwise_applies
from minise.ops.jit.convolution.geometry import MAX_CACHED_SIZES
from minise.ops.jit.convolution.transforms import TAP
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.protocol import Algorithm
from minise.ops.reference.conv import Conv2dCache
from minise.ops.shapes import kind_of

# Below this size of a group, in filters x pixels of an image, "auto" does not choose winograd.
MIN_GROUP_FOR_WINOGRAD = 4096

ALGORITHMS = get_args(Algorithm)
current_algorithm: ContextVar[str] = ContextVar("algorithm", default="auto")  # set by jit.using


def winograd_applies(cache: Conv2dCache) -> bool:
    """Return True if winograd.py can compute this convolution and its gradients.

    It needs 3 x 3 filters, stride 1 and dilation 1. The channels and the filters of a group must
    fill vectors: in float32, multiples of 16, 8 or 4 for vectors of 512, 256 or 128 bits. Padding
    must be at most 2: with more, dx would need a negative padding of dout.
    """
    weight, groups = cache.weight, cache.groups
    fewer, lanes = merged_groups(weight, groups), lanes_of(weight.dtype)
    full_vectors = (
        weight.shape[0] // fewer % lanes == weight.shape[1] * groups // fewer % lanes == 0
    )
    plain = weight.shape[2:] == (TAP, TAP) and cache.stride == cache.dilation == (1, 1)
    return full_vectors and plain and max(cache.padding) < TAP


def rule_of_auto() -> str:
    """Return a description of the rule of "auto" on this machine; `algorithm_of` is the rule."""
    return (
        "Winograd's for 3x3 filters at stride 1 in float32, where a group's channels and filters "
        f"are multiples of {lanes_of(np.dtype(np.float32))}, except for groups with few filters "
        "and pixels; else direct"
    )


def algorithm_of(cache: Conv2dCache) -> str:
    """Return the algorithm of a convolution: winograd, depthwise or direct.

    Depthwise filters have an algorithm of their own if channels fill a vector. Otherwise, "auto"
    chooses winograd in float32 wherever it applies: measured at 16 to 512 channels, it takes
    a fifth to a half of the time of direct. Exceptions are groups whose transformed filters are
    about as large as their images: with 32 groups of 512 channels at 14 x 14, or of 1024 at 7 x 7,
    direct takes 0.7 to 0.95 of winograd's time. In float64, which users choose for its precision,
    "auto" chooses direct. "winograd" chooses winograd in both dtypes, "direct" in neither.
    """
    x: Any = kind_of(cache.x)
    weight: Any = kind_of(cache.weight)
    settings = cache.stride, cache.padding, cache.dilation, cache.groups
    return _algorithm_of(Conv2dCache(x, weight, None, *settings), current_algorithm.get())


@lru_cache(MAX_CACHED_SIZES)
def _algorithm_of(sizes: Conv2dCache, requested: str) -> str:
    """Return the algorithm for a cache with the kinds (shape, dtype) of its arrays as arrays."""
    weight = sizes.weight
    if depthwise_applies(weight, sizes.groups):
        return "depthwise"
    preferred = requested == "winograd" or (requested == "auto" and _winograd_is_faster(sizes))
    return "winograd" if preferred and winograd_applies(sizes) else "direct"


def _winograd_is_faster(sizes: Conv2dCache) -> bool:
    """Return True if "auto" prefers winograd, where it applies."""
    groups, pixels = merged_groups(sizes.weight, sizes.groups), math.prod(sizes.x.shape[2:])
    few = groups > 1 and sizes.weight.shape[0] // groups * pixels < MIN_GROUP_FOR_WINOGRAD
    return sizes.weight.dtype.itemsize == 4 and not few


def merged_groups(weight: Array, groups: int) -> int:
    """Return the number of groups after small groups are merged to fill vectors (see conv.py)."""
    return _merged_groups(weight.shape[0] // groups, groups, lanes_of(weight.dtype))


@lru_cache(MAX_CACHED_SIZES)
def _merged_groups(filters: int, groups: int, lanes: int) -> int:
    fill = [m for m in range(1, groups + 1) if groups % m == 0 and m * filters <= lanes]
    return groups // max(fill, default=1)

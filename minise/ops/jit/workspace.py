"""The memory that compiled ops need besides their results; see minise.ops.cost.

Only convolutions and normalisations need much memory: the other ops write results directly.
"""

from typing import Any

import numba

from minise.ops.jit.convolution.workspace import conv2d_workspace
from minise.ops.reference.conv import Conv2dCache


def workspace(
    name: str, arguments: tuple[Any, ...], settings: dict[str, Any]
) -> tuple[list[int], int]:
    """Return the bytes of arrays from the caching allocator, and all other bytes, of one call.

    Parameters
    ----------
    name : str
        A function of the back end, such as conv2d_backward.
    arguments, settings
        Of the call; only shapes and dtypes are read.
    """
    if name == "conv2d_forward":
        x, weight, bias = (*arguments, None)[:3]
        pairs: dict[str, Any] = dict(stride=(1, 1), padding=(0, 0), dilation=(1, 1), groups=1)
        cache = Conv2dCache(x, weight, bias, **(pairs | settings))
        return _convolution(cache, backward=False, needs_dx=True)
    copied = _spread(arguments[0])
    if name == "conv2d_backward":
        needs_dx = settings.get("needs_dx", True)
        pooled, other = _convolution(arguments[1], backward=True, needs_dx=needs_dx)
        return pooled, other + copied
    return [], copied


def _convolution(cache: Any, **settings: bool) -> tuple[list[int], int]:
    return conv2d_workspace(cache, threads=numba.get_num_threads(), **settings)


def _spread(dout: Any) -> int:
    """Return the bytes of a copy of dout if it repeats numbers, as after a global average."""
    steps = getattr(dout, "steps", None)
    if steps is None:
        return 0
    repeats = any(size > 1 and not step for size, step in zip(dout.shape, steps, strict=True))
    return int(dout.nbytes) if repeats else 0

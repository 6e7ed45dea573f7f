"""Which algorithm a convolution is computed by: the rule, and how a user overrules it.

direct (conv.py) takes every product that the formula has, and adds them up: on small integers it
is exact. winograd (winograd.py) takes a quarter of them, and loses about a digit of float32.
`algorithm_of` states what "auto" chooses; `jit.using(algorithm="direct")` and, on the command
line, `--algorithm direct` overrule it.
"""

from contextvars import ContextVar
from typing import get_args

import numpy as np

from minise.ops.backends import Algorithm
from minise.ops.checks import Array, Pair
from minise.ops.jit.simd import lanes_of
from minise.ops.jit.transforms import TAP

ALGORITHMS = get_args(Algorithm)
chosen: ContextVar[str] = ContextVar("algorithm", default="auto")  # set by jit.using


def winograd_can(weight: Array, stride: Pair, dilation: Pair, groups: int) -> bool:
    """Return whether Winograd's convolution can do it.

    It is made for 3 x 3 filters with stride 1, and its channels and filters have to be whole
    vectors: multiples of 16 in float32 where vectors have 512 bits, of 8 or 4 where fewer.
    """
    K, C, KH, KW = weight.shape
    lanes = lanes_of(weight.dtype)
    whole = C % lanes == 0 and K % lanes == 0
    return (KH, KW, *stride, *dilation, groups) == (TAP, TAP, 1, 1, 1, 1, 1) and whole


def rule_of_auto() -> str:
    """Return in words what "auto" takes on this machine; `algorithm_of` is the rule."""
    return (
        "Winograd's for 3x3 filters at stride 1 in float32, where channels and filters are "
        f"multiples of {lanes_of(np.dtype(np.float32))} and groups 1; else direct"
    )


def algorithm_of(weight: Array, stride: Pair, padding: Pair, dilation: Pair, groups: int) -> str:
    """Return "direct" or "winograd" for a convolution.

    With "auto" it is Winograd's wherever that can do it, in float32: measured at 16 to 512
    channels it takes a fifth to a half of the direct one's time. In float64, which is asked for
    to have digits, it is the direct one. With "winograd" also float64 is done by it. What it
    cannot do is done directly.

    Padding of more than 2 is done directly too: pixels of dx would be seen from outside of dout.
    """
    wanted = chosen.get()
    can = winograd_can(weight, stride, dilation, groups) and max(padding) < TAP
    if not can or wanted == "direct":
        return "direct"
    return "winograd" if wanted == "winograd" or weight.dtype.itemsize == 4 else "direct"

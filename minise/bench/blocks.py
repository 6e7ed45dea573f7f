"""Two blocks of convolutions in groups, to be timed as wholes.

    depthwise   3x3 of each channel alone, norm, ReLU, 1x1, norm, ReLU
    grouped     1x1, norm, ReLU, 3x3 in 32 groups, norm, ReLU, 1x1

Both are on 128 channels of 16x16, a size that nets for CIFAR have: the depthwise one is MobileNet's
third block there (its first convolution has stride 1), and 32 groups of 4 channels are the inner
width of ResNeXt's first stage (32x4d). A bottleneck is wider at both ends, and has a shortcut; here
the groups count for more.

Source: Howard et al., "MobileNets", arXiv:1704.04861, and Xie et al., "Aggregated Residual
Transformations for Deep Neural Networks", arXiv:1611.05431.
"""

from typing import Any, NamedTuple

import numpy as np

from minise.nn import Build, Chain, Layer
from minise.ops import reference

CHANNELS, SIZE = 128, (16, 16)


class Part(NamedTuple):
    """One convolution of a block, and whether norm and ReLU follow."""

    kernel: int
    groups: int
    normed: bool = True


BLOCKS = {
    "depthwise": (Part(3, CHANNELS), Part(1, 1)),
    "grouped": (Part(1, 1), Part(3, 32), Part(1, 1, normed=False)),
}
TITLES = {"depthwise": "depthwise 3x3 + 1x1", "grouped": "1x1 + 3x3 in 32 groups + 1x1"}


def build(name: str, *, ops: Any = reference, dtype: Any = np.float32) -> Chain:
    """Return a block by name; its parameters are drawn from seed 0."""
    parts = Build(ops, rng=0, dtype=dtype)
    layers: list[Layer] = []
    for kernel, groups, normed in BLOCKS[name]:
        layers.append(parts.conv(CHANNELS, CHANNELS, kernel, groups=groups))
        if normed:
            layers.append(parts.norm_relu(CHANNELS))
    return parts.chain(*layers)

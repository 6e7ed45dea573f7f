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

from minise.nn import BatchNorm2d, Conv2d, Layer, Sequential
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


class NormReLU(BatchNorm2d):
    """Batch normalisation and the ReLU behind it, as one op."""

    forward = BatchNorm2d.forward_relu
    backward = BatchNorm2d.backward_relu


def build(name: str, *, ops: Any = reference, dtype: Any = np.float32) -> Sequential:
    """Return a block by name; its parameters are drawn from seed 0."""
    rng = np.random.default_rng(0)
    layers: list[Layer] = []
    for kernel, groups, normed in BLOCKS[name]:
        conv = Conv2d(
            CHANNELS, CHANNELS, kernel,
            padding=kernel // 2, groups=groups, ops=ops, rng=rng, dtype=dtype,
        )  # fmt: skip
        norm = NormReLU(CHANNELS, ops=ops, dtype=dtype)
        layers += [conv, norm] if normed else [conv]
    return Sequential(*layers, ops=ops)

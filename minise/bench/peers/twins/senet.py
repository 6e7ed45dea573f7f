"""SENet-154 in PyTorch, with the parameter names of the net in minise.models.senet."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from minise.bench.peers.twins.resnet import Bottleneck, Stages, conv, max_pool

COUNTS = 3, 8, 36, 3


def unit(groups: int) -> Any:
    """Return a unit with a halved first 1x1 and a 3x3 projection where the stride is 2."""

    def build(channels_in: int, channels: int, stride: int, reduction: int | None) -> Any:
        sizes = {"first": 2 * channels, "inner": 4 * channels, "groups": groups}
        kernel = 3 if stride == 2 else 1
        strides = 1, stride
        return Bottleneck(channels_in, channels, strides, reduction, **sizes, kernel=kernel)

    return build


class SENet(Stages):
    """The net with width channels in the stem's first convolution, and as many groups."""

    def __init__(
        self,
        width: int,
        classes: int,
        reduction: int | None = None,
        geometry: str | None = "caffe",
        counts: Sequence[int] = COUNTS,
    ) -> None:
        super().__init__(unit(width), counts, width, classes, reduction, stem=2 * width)
        self.conv1 = nn.Sequential(
            conv(3, width, 3, 2),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv(width, width, 3),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            conv(width, 2 * width, 3),
        )
        self.bn1 = nn.BatchNorm2d(2 * width)
        self.pool = max_pool(geometry)
        self.dropout = nn.Dropout(0.2)

    def stem(self, x: Any) -> Any:
        """Return the input of the first stage."""
        return self.pool(torch.relu(self.bn1(self.conv1(x))))

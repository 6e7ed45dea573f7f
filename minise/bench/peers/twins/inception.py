"""BN-Inception in PyTorch, as the paper's table and Caffe's pooling define it."""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from minise.bench.peers.twins.squeeze import gate


class ConvNorm(nn.Module):
    """Convolution, normalisation, ReLU."""

    def __init__(
        self,
        channels_in: int,
        channels: int,
        kernel: int,
        stride: int = 1,
        padding: int = 0,
        eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels_in, channels, kernel, stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(channels, eps=eps)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        return F.relu(self.bn(self.conv(x)))


class Module(nn.Module):
    """An Inception module on channels in multiples of `unit`.

    `first` and `projection` are 0 if it has stride 2.
    """

    def __init__(
        self,
        unit: int,
        reduction: int | None,
        channels_in: int,
        first: int,
        second: Sequence[int],
        third: Sequence[int],
        pool: str,
        projection: int,
    ) -> None:
        super().__init__()
        stride = 1 if first else 2
        channels_in, first, projection = (unit * n for n in (channels_in, first, projection))
        second, third = ([unit * n for n in pair] for pair in (second, third))
        if first:
            self.branch1 = ConvNorm(channels_in, first, 1)
        self.branch2 = nn.Sequential(
            ConvNorm(channels_in, second[0], 1), ConvNorm(second[0], second[1], 3, stride, 1)
        )
        self.branch3 = nn.Sequential(
            ConvNorm(channels_in, third[0], 1),
            ConvNorm(third[0], third[1], 3, 1, 1),
            ConvNorm(third[1], third[1], 3, stride, 1),
        )
        if first:
            self.branch4 = nn.Sequential(nn.Identity(), ConvNorm(channels_in, projection, 1))
        self.se = gate(first + second[1] + third[1] + (projection or channels_in), reduction)
        self.pool = pool

    def forward(self, x: Any) -> Any:
        """Return the output."""
        outs = [self.branch2(x), self.branch3(x)]
        if self.pool == "stride 2":
            outs.append(F.max_pool2d(x, 3, 2, ceil_mode=True))
        else:
            pool: Any = F.avg_pool2d if self.pool == "avg" else F.max_pool2d
            outs = [self.branch1(x), *outs, self.branch4(pool(x, 3, 1, 1))]
        return self.se(torch.cat(outs, 1))


class BNInception(nn.Module):
    """The net; the sizes are multiples of 32 channels, which the width scales."""

    def __init__(self, width: float, classes: int, reduction: int | None = None) -> None:
        super().__init__()
        unit = int(32 * width)
        self.conv1 = ConvNorm(3, 2 * unit, 7, 2, 3)
        self.conv2 = ConvNorm(2 * unit, 2 * unit, 1)
        self.conv3 = ConvNorm(2 * unit, 6 * unit, 3, 1, 1)
        modules: Any = (  # channels of the input, 1x1, 3x3, twice 3x3, pool, projection
            ("3a", 6, 2, (2, 2), (2, 3), "avg", 1),
            ("3b", 8, 2, (2, 3), (2, 3), "avg", 2),
            ("3c", 10, 0, (4, 5), (2, 3), "stride 2", 0),
            ("4a", 18, 7, (2, 3), (3, 4), "avg", 4),
            ("4b", 18, 6, (3, 4), (3, 4), "avg", 4),
            ("4c", 18, 5, (4, 5), (4, 5), "avg", 4),
            ("4d", 19, 3, (4, 6), (5, 6), "avg", 4),
            ("4e", 19, 0, (4, 6), (6, 8), "stride 2", 0),
            ("5a", 33, 11, (6, 10), (5, 7), "avg", 4),
            ("5b", 32, 11, (6, 10), (6, 7), "max", 4),
        )
        for name, *sizes in modules:
            setattr(self, f"inception_{name}", Module(unit, reduction, *sizes))
        self.fc = nn.Linear(32 * unit, classes)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        x = F.max_pool2d(self.conv1(x), 3, 2, ceil_mode=True)
        x = F.max_pool2d(self.conv3(self.conv2(x)), 3, 2, ceil_mode=True)
        for name in ("3a", "3b", "3c", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
            x = getattr(self, f"inception_{name}")(x)
        return self.fc(x.mean((2, 3)))

"""ResNet and ResNeXt in PyTorch, with the parameter names of the nets in minise.models.resnet."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

from minise.bench.peers.twins.squeeze import gate

Unit = Callable[..., nn.Module]


def conv(
    channels_in: int, channels: int, kernel: int, stride: int = 1, groups: int = 1
) -> nn.Conv2d:
    """Return a convolution without bias, padded so that stride 1 keeps the size."""
    return nn.Conv2d(channels_in, channels, kernel, stride, kernel // 2, groups=groups, bias=False)


class Residual(nn.Module):
    """relu(se(branch(x)) + downsample(x)), where branch is the method of a subclass."""

    def __init__(
        self, channels_in: int, channels: int, stride: int, reduction: int | None, kernel: int = 1
    ) -> None:
        super().__init__()
        self.se = gate(channels, reduction)
        self.downsample = nn.Sequential()
        if stride != 1 or channels_in != channels:
            projection = conv(channels_in, channels, kernel, stride)
            self.downsample = nn.Sequential(projection, nn.BatchNorm2d(channels))

    def forward(self, x: Any) -> Any:
        """Return the output."""
        return torch.relu(self.se(self.branch(x)) + self.downsample(x))


class Basic(Residual):
    """Two 3x3 convolutions."""

    expansion = 1

    def __init__(self, channels_in: int, channels: int, stride: int, reduction: int | None) -> None:
        super().__init__(channels_in, channels, stride, reduction)
        self.conv1 = conv(channels_in, channels, 3, stride)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = conv(channels, channels, 3)
        self.bn2 = nn.BatchNorm2d(channels)

    def branch(self, x: Any) -> Any:
        """Return the output of the branch."""
        y = torch.relu(self.bn1(self.conv1(x)))
        return self.bn2(self.conv2(y))


class Bottleneck(Residual):
    """1x1 to `first` channels, 3x3 in groups to `inner`, 1x1 to 4 * channels.

    `strides` are those of the first two convolutions, `kernel` is that of the projection.
    """

    expansion = 4

    def __init__(
        self,
        channels_in: int,
        channels: int,
        strides: tuple[int, int],
        reduction: int | None,
        first: int,
        inner: int,
        groups: int,
        kernel: int = 1,
    ) -> None:
        stride = max(strides)
        super().__init__(channels_in, 4 * channels, stride, reduction, kernel)
        self.conv1 = conv(channels_in, first, 1, strides[0])
        self.bn1 = nn.BatchNorm2d(first)
        self.conv2 = conv(first, inner, 3, strides[1], groups)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = conv(inner, 4 * channels, 1)
        self.bn3 = nn.BatchNorm2d(4 * channels)

    def branch(self, x: Any) -> Any:
        """Return the output of the branch."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        return self.bn3(self.conv3(y))


def v1(channels_in: int, channels: int, stride: int, reduction: int | None) -> Bottleneck:
    """Return a bottleneck with the stride in its first 1x1 convolution."""
    return Bottleneck(channels_in, channels, (stride, 1), reduction, channels, channels, 1)


def v1_5(channels_in: int, channels: int, stride: int, reduction: int | None) -> Bottleneck:
    """Return a bottleneck with the stride in its 3x3 convolution."""
    return Bottleneck(channels_in, channels, (1, stride), reduction, channels, channels, 1)


def resnext(groups: int) -> Unit:
    """Return a unit whose first stage has 4 channels per group, and each other twice as many."""

    def unit(channels_in: int, channels: int, stride: int, reduction: int | None) -> Any:
        inner = 2 * channels
        return Bottleneck(channels_in, channels, (1, stride), reduction, inner, inner, groups)

    return unit


def max_pool(geometry: str | None) -> nn.MaxPool2d:
    """Return the pool of the stem."""
    if geometry == "caffe":
        return nn.MaxPool2d(3, 2, ceil_mode=True)
    return nn.MaxPool2d(3, 2, padding=1)


class Stages(nn.Module):
    """layer1 to layer4, the mean and the dense layer; a subclass defines `stem`."""

    def __init__(
        self,
        unit: Unit,
        counts: Sequence[int],
        width: int,
        classes: int,
        reduction: int | None = None,
        expansion: int = 4,
        stem: int | None = None,
    ) -> None:
        super().__init__()
        channels = width if stem is None else stem
        for k, count in enumerate(counts):
            units = []
            for i in range(count):
                stride = 2 if k > 0 and i == 0 else 1
                units.append(unit(channels, width * 2**k, stride, reduction))
                channels = expansion * width * 2**k
            setattr(self, f"layer{k + 1}", nn.Sequential(*units))
        self.dropout = nn.Identity()
        self.fc = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        y = self.layer4(self.layer3(self.layer2(self.layer1(self.stem(x)))))
        return self.fc(self.dropout(y.mean((2, 3))))


class ResNet(Stages):
    """A ResNet or ResNeXt; geometry=None is the stem for small images."""

    def __init__(
        self,
        unit: Unit,
        counts: Sequence[int],
        width: int,
        classes: int,
        reduction: int | None = None,
        expansion: int = 4,
        geometry: str | None = "caffe",
    ) -> None:
        super().__init__(unit, counts, width, classes, reduction, expansion)
        small = geometry is None  # for small images: no pool
        self.conv1 = conv(3, width, 3) if small else conv(3, width, 7, 2)
        self.bn1 = nn.BatchNorm2d(width)
        self.pool = nn.Identity() if small else max_pool(geometry)

    def stem(self, x: Any) -> Any:
        """Return the input of the first stage."""
        return self.pool(torch.relu(self.bn1(self.conv1(x))))

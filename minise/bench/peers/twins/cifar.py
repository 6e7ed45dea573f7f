"""ResNets and pre-activation nets for small images in PyTorch, built from shapes of parameters.

The shortcuts are normalised projections (option B).
"""

from typing import Any

import torch
from torch import nn

from minise.bench.peers.twins.squeeze import SqueezeExcite

Shapes = dict[str, tuple[int, ...]]  # of parameters by name


class SmallResNet(nn.Module):
    """A ResNet: a convolution, three stages, global average pooling, a linear layer."""

    def __init__(self, shapes: Shapes, norm_first: bool) -> None:
        super().__init__()
        self.norm_first = norm_first  # False in pre-activation nets: norm after the stages
        self.conv1 = _conv(shapes, "conv1")
        self.bn1 = nn.BatchNorm2d(*shapes["bn1.weight"])
        unit = PostActivationUnit if norm_first else PreActivationUnit
        for stage in ("layer1", "layer2", "layer3"):
            count = len({name.split(".")[1] for name in shapes if name.startswith(f"{stage}.")})
            units = [
                unit(
                    _strip_prefix(shapes, f"{stage}.{i}."), 2 if i == 0 and stage != "layer1" else 1
                )
                for i in range(count)
            ]
            setattr(self, stage, nn.Sequential(*units))
        classes, width = shapes["fc.weight"]
        self.fc = nn.Linear(width, classes)

    def forward(self, x: Any) -> Any:
        """Return logits."""
        y = self.conv1(x)
        if self.norm_first:
            y = torch.relu(self.bn1(y))
        y = self.layer3(self.layer2(self.layer1(y)))
        if not self.norm_first:
            y = torch.relu(self.bn1(y))
        return self.fc(y.mean((2, 3)))


class PostActivationUnit(nn.Module):
    """A residual unit: two convolutions, each followed by norm; a ReLU after the addition."""

    def __init__(self, shapes: Shapes, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv(shapes, "conv1", stride)
        self.bn1 = nn.BatchNorm2d(*shapes["bn1.weight"])
        self.conv2 = _conv(shapes, "conv2")
        self.bn2 = nn.BatchNorm2d(*shapes["bn2.weight"])
        self.se = _se(shapes)
        self.downsample = nn.Sequential()
        if "downsample.0.weight" in shapes:
            channels = shapes["bn2.weight"][0]
            self.downsample = nn.Sequential(
                _conv(shapes, "downsample.0", stride), nn.BatchNorm2d(channels)
            )

    def forward(self, x: Any) -> Any:
        """Return the unit's output."""
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.se(self.bn2(self.conv2(y)))
        return torch.relu(y + self.downsample(x))


class PreActivationUnit(nn.Module):
    """A pre-activation unit: two or three convolutions, each preceded by norm and ReLU."""

    def __init__(self, shapes: Shapes, stride: int) -> None:
        super().__init__()
        self.count = 3 if "conv3.weight" in shapes else 2
        strided = self.count - 1  # the first 3x3 convolution; in a bottleneck, the second one
        for k in range(1, self.count + 1):
            setattr(self, f"bn{k}", nn.BatchNorm2d(*shapes[f"bn{k}.weight"]))
            setattr(self, f"conv{k}", _conv(shapes, f"conv{k}", stride if k == strided else 1))
        self.se = _se(shapes)
        self.projects = "downsample.0.weight" in shapes
        projection = [_conv(shapes, "downsample.0", stride)] if self.projects else []
        self.downsample = nn.Sequential(*projection)

    def forward(self, x: Any) -> Any:
        """Return the unit's output."""
        y = first = torch.relu(self.bn1(x))
        for k in range(1, self.count + 1):
            y = y if k == 1 else torch.relu(getattr(self, f"bn{k}")(y))
            y = getattr(self, f"conv{k}")(y)
        return self.se(y) + self.downsample(first if self.projects else x)


def _se(shapes: Shapes) -> nn.Module:
    if "se.fc.0.weight" not in shapes:
        return nn.Identity()
    hidden, channels = shapes["se.fc.0.weight"]
    return SqueezeExcite(channels, hidden, "se.fc.0.bias" in shapes)


def _conv(shapes: Shapes, name: str, stride: int = 1) -> nn.Conv2d:
    K, C, KH, _ = shapes[f"{name}.weight"]
    return nn.Conv2d(C, K, KH, stride, KH // 2, bias=False)


def _strip_prefix(shapes: Shapes, prefix: str) -> Shapes:
    return {
        name.removeprefix(prefix): shape
        for name, shape in shapes.items()
        if name.startswith(prefix)
    }

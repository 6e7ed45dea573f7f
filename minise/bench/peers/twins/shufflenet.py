"""ShuffleNet v1 with three groups in PyTorch, with optional SE blocks."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from minise.bench.peers.twins.squeeze import gate


def shuffled(x: Any) -> Any:
    """Return x with channel k of group g at position 3 k + g."""
    return torch.cat([x[:, k :: x.shape[1] // 3] for k in range(x.shape[1] // 3)], 1)


class Unit(nn.Module):
    """A unit with stride 2 if it has more outputs than inputs."""

    def __init__(self, inputs: int, outputs: int, groups: int, reduction: int | None) -> None:
        super().__init__()
        self.widens = outputs > inputs
        inner, new = outputs // 4, outputs - inputs if self.widens else outputs
        self.conv1 = nn.Conv2d(inputs, inner, 1, groups=groups, bias=False)
        self.bn1 = nn.BatchNorm2d(inner)
        stride = 2 if self.widens else 1
        self.conv2 = nn.Conv2d(inner, inner, 3, stride, 1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm2d(inner)
        self.conv3 = nn.Conv2d(inner, new, 1, groups=3, bias=False)
        self.bn3 = nn.BatchNorm2d(new)
        self.se = gate(new, reduction)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        y = shuffled(F.relu(self.bn1(self.conv1(x))))
        y = self.se(self.bn3(self.conv3(self.bn2(self.conv2(y)))))
        if self.widens:
            return F.relu(torch.cat([F.avg_pool2d(x, 3, 2, 1), y], 1))
        return F.relu(x + y)


class ShuffleNet(nn.Module):
    """The net; small=True is the variant for small images."""

    def __init__(
        self, width: float, classes: int, small: bool = False, reduction: int | None = None
    ) -> None:
        super().__init__()
        self.small, inputs = small, int(24 * width)
        self.conv1 = nn.Conv2d(3, inputs, 3, 1 if small else 2, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        for name, channels, count in (("layer1", 240, 4), ("layer2", 480, 8), ("layer3", 960, 4)):
            outputs = int(channels * width)
            groups = 1 if name == "layer1" else 3
            units = [Unit(inputs, outputs, groups, reduction)]
            units += [Unit(outputs, outputs, 3, reduction) for _ in range(count - 1)]
            setattr(self, name, nn.Sequential(*units))
            inputs = outputs
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        x = F.relu(self.bn1(self.conv1(x)))
        x = x if self.small else F.max_pool2d(x, 3, 2, 1)
        x = self.layer3(self.layer2(self.layer1(x)))
        return self.fc(x.mean((2, 3)))

"""MobileNet v1 in PyTorch, with timm's names and optional SE blocks."""

from typing import Any

import torch
from torch import nn

from minise.bench.peers.twins.squeeze import gate

# channels and strides of the units of each stage
STAGES = (
    [(64, 1)],
    [(128, 2), (128, 1)],
    [(256, 2), (256, 1)],
    [(512, 2), *5 * [(512, 1)]],
    [(1024, 2), (1024, 1)],
)


class Unit(nn.Module):
    """A depthwise and a pointwise convolution, and an SE block."""

    def __init__(self, inputs: int, outputs: int, stride: int, reduction: int | None) -> None:
        super().__init__()
        self.conv_dw = nn.Conv2d(inputs, inputs, 3, stride, 1, groups=inputs, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv_pw = nn.Conv2d(inputs, outputs, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.se = gate(outputs, reduction)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        x = torch.relu(self.bn1(self.conv_dw(x)))
        return self.se(torch.relu(self.bn2(self.conv_pw(x))))


class MobileNet(nn.Module):
    """The net; stride is that of its first convolution."""

    def __init__(
        self, width: float, classes: int, stride: int = 2, reduction: int | None = None
    ) -> None:
        super().__init__()
        inputs, stages = int(32 * width), []
        self.conv_stem = nn.Conv2d(3, inputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(inputs)
        for units in STAGES:
            stage = []
            for channels, step in units:
                stage.append(Unit(inputs, int(channels * width), step, reduction))
                inputs = int(channels * width)
            stages.append(nn.Sequential(*stage))
        self.blocks = nn.Sequential(*stages)
        self.classifier = nn.Linear(inputs, classes)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        x = self.blocks(torch.relu(self.bn1(self.conv_stem(x))))
        return self.classifier(x.mean((2, 3)))

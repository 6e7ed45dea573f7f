"""DenseNet-121 in PyTorch, with torchvision's names and optional SE blocks."""

from collections import OrderedDict
from typing import Any

import torch
from torch import nn

from minise.bench.peers.twins.squeeze import gate


class DenseLayer(nn.Module):
    """A layer that appends `growth` channels to its input."""

    def __init__(self, inputs: int, growth: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, 4 * growth, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(4 * growth)
        self.conv2 = nn.Conv2d(4 * growth, growth, 3, padding=1, bias=False)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        y = self.conv1(torch.relu(self.norm1(x)))
        return torch.cat([x, self.conv2(torch.relu(self.norm2(y)))], 1)


class DenseNet121(nn.Module):
    """The net; small=True is the variant for small images."""

    def __init__(
        self, width: float, classes: int, small: bool = False, reduction: int | None = None
    ) -> None:
        super().__init__()
        growth = int(32 * width)
        channels = 2 * growth
        if small:
            layers = OrderedDict(conv0=nn.Conv2d(3, channels, 3, padding=1, bias=False))
        else:
            layers = OrderedDict(
                conv0=nn.Conv2d(3, channels, 7, 2, 3, bias=False),
                norm0=nn.BatchNorm2d(channels),
                relu0=nn.ReLU(),
                pool0=nn.MaxPool2d(3, 2, 1),
            )
        for k, count in enumerate((6, 12, 24, 16), 1):
            block = OrderedDict()
            for i in range(1, count + 1):
                block[f"denselayer{i}"] = DenseLayer(channels, growth)
                channels += growth
            block["se"] = gate(channels, reduction)
            layers[f"denseblock{k}"] = nn.Sequential(block)
            if k < 4:
                layers[f"transition{k}"] = nn.Sequential(
                    OrderedDict(
                        norm=nn.BatchNorm2d(channels),
                        relu=nn.ReLU(),
                        conv=nn.Conv2d(channels, channels // 2, 1, bias=False),
                        pool=nn.AvgPool2d(2),
                        se=gate(channels // 2, reduction),
                    )
                )
                channels //= 2
        layers["norm5"] = nn.BatchNorm2d(channels)
        self.features = nn.Sequential(layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        return self.classifier(torch.relu(self.features(x)).mean((2, 3)))

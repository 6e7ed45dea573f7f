"""VGG-16 with normalisations in PyTorch, with torchvision's names and optional SE blocks."""

from typing import Any

from torch import nn

from minise.bench.peers.twins.squeeze import gate

STAGES: Any = (64, 64, "pool", 128, 128, "pool", 256, 256, 256, "pool") + 2 * (
    512,
    512,
    512,
    "pool",
)


class ReLU(nn.ReLU):
    """ReLU and an SE block, called `se`."""

    def __init__(self, channels: int, reduction: int | None) -> None:
        super().__init__()
        self.se = gate(channels, reduction)

    def forward(self, x: Any) -> Any:
        """Return the output."""
        return self.se(super().forward(x))


class VGG16(nn.Module):
    """The net for images of `pixels` pixels; pixels=None takes their mean, as for CIFAR."""

    def __init__(
        self, width: float, classes: int, pixels: int | None, reduction: int | None = None
    ) -> None:
        super().__init__()
        layers, inputs = [], 3
        for stage in STAGES:
            if stage == "pool":
                layers.append(nn.MaxPool2d(2))
                continue
            outputs = int(stage * width)
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1, bias=False))
            layers += [nn.BatchNorm2d(outputs), ReLU(outputs, reduction)]
            inputs = outputs
        self.features, self.pixels = nn.Sequential(*layers), pixels
        if pixels is None:
            self.classifier = nn.Linear(inputs, classes)
            return
        hidden = int(4096 * width)
        self.classifier = nn.Sequential(
            *(nn.Linear(inputs * pixels // 32**2, hidden), nn.ReLU(), nn.Dropout(0.5)),
            *(nn.Linear(hidden, hidden), nn.ReLU(), nn.Dropout(0.5)),
            nn.Linear(hidden, classes),
        )

    def forward(self, x: Any) -> Any:
        """Return the output."""
        x = self.features(x)
        return self.classifier(x.mean((2, 3)) if self.pixels is None else x.flatten(1))

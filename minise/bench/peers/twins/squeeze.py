"""The SE block of the PyTorch twins, and the identity where a net has none."""

from typing import Any

from torch import nn


class SqueezeExcite(nn.Module):
    """An SE block: global average pooling, two linear layers, a sigmoid, a product."""

    def __init__(self, channels: int, hidden: int, bias: bool) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, bias=bias),
            nn.ReLU(),
            nn.Linear(hidden, channels, bias=bias),
            nn.Sigmoid(),
        )

    def forward(self, x: Any) -> Any:
        """Return x with every channel scaled by its gate."""
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


def gate(channels: int, reduction: int | None, bias: bool = True) -> nn.Module:
    """Return an SE block, or the identity if reduction is None."""
    if reduction is None:
        return nn.Identity()
    return SqueezeExcite(channels, max(1, channels // reduction), bias)

"""The SE block of the PyTorch twins, and the identity where a net has none."""

from minise.bench.peers.twins import SqueezeExcite
from tests.models.twins.compare import torch


def gate(channels, reduction, bias=True):
    """Return an SE block, or the identity if reduction is None."""
    if reduction is None:
        return torch.nn.Identity()
    return SqueezeExcite(channels, max(1, channels // reduction), bias)

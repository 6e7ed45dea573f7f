"""Layers: objects that own parameters, running statistics and the last cache, and call ops."""

from minise.nn.layer import Layer
from minise.nn.layers import (
    AvgPool2d,
    BatchNorm2d,
    Conv2d,
    Dropout,
    GlobalAvgPool2d,
    Linear,
    MaxPool2d,
    ReLU,
    Sequential,
)
from minise.nn.preactivation import PreActBlock, PreActBottleneck
from minise.nn.residual import BasicBlock, Build, PaddedShortcut
from minise.nn.squeeze_excite import SE, SEBlock
from minise.nn.streams import seed

__all__ = [
    "SE",
    "AvgPool2d",
    "BasicBlock",
    "BatchNorm2d",
    "Build",
    "Conv2d",
    "Dropout",
    "GlobalAvgPool2d",
    "Layer",
    "Linear",
    "MaxPool2d",
    "PaddedShortcut",
    "PreActBlock",
    "PreActBottleneck",
    "ReLU",
    "SEBlock",
    "Sequential",
    "seed",
]

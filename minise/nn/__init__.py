"""Layers: ops with parameters. A net is a layer, too."""

from minise.nn.blocks import (
    Build,
    basic_block,
    bottleneck,
    preact_block,
    preact_bottleneck,
    stages,
)
from minise.nn.compose import Branches, Chain, NormAddReLU, Residual, Sequential, Tail
from minise.nn.files import load, save
from minise.nn.layer import Layer, total, under
from minise.nn.layers import (
    AvgPool2d,
    BatchNorm2d,
    ChannelShuffle,
    Conv2d,
    Dropout,
    Flatten,
    GlobalAvgPool2d,
    GlobalMaxPool2d,
    HardSigmoid,
    Linear,
    MaxPool2d,
    NormReLU,
    PadChannels,
    ReLU,
    Sigmoid,
    Tanh,
)
from minise.nn.squeeze_excite import SE, SEBlock
from minise.nn.streams import seed

__all__ = [
    "SE",
    "AvgPool2d",
    "BatchNorm2d",
    "Branches",
    "Build",
    "Chain",
    "ChannelShuffle",
    "Conv2d",
    "Dropout",
    "Flatten",
    "GlobalAvgPool2d",
    "GlobalMaxPool2d",
    "HardSigmoid",
    "Layer",
    "Linear",
    "MaxPool2d",
    "NormAddReLU",
    "NormReLU",
    "PadChannels",
    "ReLU",
    "Residual",
    "SEBlock",
    "Sequential",
    "Sigmoid",
    "Tail",
    "Tanh",
    "basic_block",
    "bottleneck",
    "load",
    "preact_block",
    "preact_bottleneck",
    "save",
    "seed",
    "stages",
    "total",
    "under",
]

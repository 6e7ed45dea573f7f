"""Inception-ResNet-v2 for 299x299 images, plain and with SE blocks.

Residual units whose branch is an Inception module: its concatenated output, projected to the unit's
channels by a 1x1 convolution with a bias and without normalisation, is multiplied by a small
constant before the sum, which keeps training stable in so wide a net.

    conv2d_1a  2a  2b   3x3: 32, stride 2 - 32 - 64         147x147
    maxpool_3a                                              73x73
    conv2d_3b  4a       1x1: 80 - 3x3: 192                  71x71
    maxpool_5a                                              35x35
    mixed_5b            Inception module                    35x35    320 channels
    repeat              10 units, factor 0.17
    mixed_6a            Inception module with stride 2      17x17   1088 channels
    repeat_1            20 units, factor 0.10
    mixed_7a            Inception module with stride 2        8x8   2080 channels
    repeat_2            9 units, factor 0.20
    block8              1 unit, factor 1, no ReLU
    conv2d_7b           1x1: 1536
    global mean - dropout - linear

All convolutions but the projections have a normalisation, with eps 0.001, and a ReLU. Convolutions
and 3x3 pools with stride 2 have no padding, nor have the stem's conv2d_2a and conv2d_4a; the mean
over a window at the border does not count the padding.

SE blocks are on the 40 residual branches, after the projection and before the factor, as in ResNets
(site "standard"); with site "all" also on the outputs of mixed_5b, mixed_6a and mixed_7a, as in
BN-Inception. The digit of a module is the stage in `SE.stages` of the module and the units after
it: 5 (35x35), 6 (17x17) and 7 (8x8).

Source: Szegedy et al., "Inception-v4, Inception-ResNet and the Impact of Residual Connections on
Learning", arXiv:1602.07261, with the channels of the authors' published code and weights; names are
those of timm. SE blocks: Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507, which
does not say where the blocks are in this net.
"""

from dataclasses import replace
from functools import partial

from minise import nn
from minise.models.architecture import Architecture
from minise.models.inception_module import Branches, Part, inception_branches, sequence

EPS = 1e-3
AVG = partial(nn.AvgPool2d, 3, stride=1, padding=1, count_include_pad=False)
MAX = partial(nn.MaxPool2d, 3, stride=2)
# convolutions are (channels, kernel, stride, padding); see inception_module.py
# fmt: off
STEM: dict[str, Part] = {
    "conv2d_1a": (32, 3, 2, 0), "conv2d_2a": (32, 3, 1, 0), "conv2d_2b": (64, 3),
    "maxpool_3a": MAX, "conv2d_3b": (80, 1), "conv2d_4a": (192, 3, 1, 0), "maxpool_5a": MAX,
}
MODULES: dict[int, tuple[str, Branches]] = {  # by stage: name, branches
    5: ("mixed_5b", ([(96, 1)], [(48, 1), (64, 5)], [(64, 1), (96, 3), (96, 3)], [AVG, (64, 1)])),
    6: ("mixed_6a", ([(384, 3, 2, 0)], [(256, 1), (256, 3), (384, 3, 2, 0)], [MAX])),
    7: ("mixed_7a", ([(256, 1), (384, 3, 2, 0)], [(256, 1), (288, 3, 2, 0)],
                     [(256, 1), (288, 3), (320, 3, 2, 0)], [MAX])),
}
UNITS: dict[int, tuple[str, int, float, Branches]] = {  # name, number, factor, branches
    5: ("repeat", 10, 0.17, ([(32, 1)], [(32, 1), (32, 3)], [(32, 1), (48, 3), (64, 3)])),
    6: ("repeat_1", 20, 0.10, ([(192, 1)], [(128, 1), (160, (1, 7)), (192, (7, 1))])),
    7: ("repeat_2", 9, 0.20, ([(192, 1)], [(192, 1), (224, (1, 3)), (256, (3, 1))])),
}
# fmt: on


def inception_resnet_v2(num_classes: int, build: nn.Build) -> nn.Chain:
    """Return a net from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width and SE settings; 16 width must be a whole number. Its
        eps is replaced by 0.001.
    """
    build = replace(build, eps=EPS)
    stem, channels = sequence(3, STEM.values(), build)
    layers: list[tuple[str, nn.Layer]] = list(zip(STEM, stem, strict=True))
    for stage, (name, module) in MODULES.items():
        here = build.at_stage(stage)
        branches, channels = inception_branches(channels, module, here, first=0)
        layers.append((name, build.chain(("", branches), ("se", here.se_at("all", channels)))))
        name, count, factor, module = UNITS[stage]
        units = (_unit(channels, module, factor, here) for _ in range(count))
        layers.append((name, build.chain(*units)))
    return build.chain(
        *layers,
        ("block8", _unit(channels, module, 1, here, relu=False)),
        ("conv2d_7b", build.conv_norm(channels, build.scale(1536), 1)),
        ("avgpool", nn.GlobalAvgPool2d(ops=build.ops)),
        ("dropout", nn.Dropout(0.2, ops=build.ops, rng=build.rng)),
        ("classif", build.linear(build.scale(1536), num_classes)),
    )


def _unit(
    channels: int, module: Branches, factor: float, build: nn.Build, *, relu: bool = True
) -> nn.Residual:
    """Return relu(x + factor * se(projection(module(x))))."""
    branches, inner = inception_branches(channels, module, build, first=0)
    projection = build.conv(inner, channels, 1, bias=True)
    se = build.se_at("standard", channels) or build.se_at("all", channels)
    scale = nn.Scale(factor, ops=build.ops) if factor != 1 else None
    tail = nn.Tail(("se", se), ("", scale), relu=relu, ops=build.ops)
    return nn.Residual(build.chain(("", branches), ("conv2d", projection)), tail=tail)


NETS = {
    "inception_resnet_v2": Architecture(
        inception_resnet_v2,
        "Inception-ResNet-v2",
        size=299,
        sites=("standard", "all"),
        stages=(5, 6, 7),
    )
}

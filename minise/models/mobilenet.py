"""MobileNet, plain and with SE blocks: convolutions split into a 3x3 and a 1x1 part.

    stage 1    conv 3x3, 32 channels, stride 2 - norm - ReLU    112x112
    stage 2    1 unit of 64 channels                            112x112
    stage 3    2 units of 128 channels                           56x56     the first has stride 2
    stage 4    2 units of 256 channels                           28x28     the first has stride 2
    stage 5    6 units of 512 channels                           14x14     the first has stride 2
    stage 6    2 units of 1024 channels                            7x7     the first has stride 2
               global mean - linear

A unit has two convolutions, each followed by a normalisation and a ReLU: a depthwise one, 3x3 on
every channel alone, and a pointwise one, 1x1 over all channels. For C channels, a 3x3 convolution
has 9 C^2 MACs per pixel, a unit 9 C + C^2.

An SE block follows the ReLU of each pointwise convolution. Hu et al. do not state the place, but
their numbers of parameters and MACs fit this place only: after the depthwise convolutions, blocks
would have fewer channels and parameters.

Source: Howard et al., "MobileNets", arXiv:1704.04861; SE blocks as in Hu et al., arXiv:1709.01507,
table 3. Names of layers as in timm. With stem="cifar", the first convolution has stride 1, so that
32x32 images end as 2x2.
"""

from minise.models.architecture import Architecture, is_small
from minise.nn import Build, Chain, GlobalAvgPool2d, stages

CHANNELS = (64, 128, 256, 512, 1024)
UNITS = (1, 2, 2, 6, 2)


def mobilenet(num_classes: int, build: Build, *, stem: str = "imagenet") -> Chain:
    """Return a net from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width and SE settings; 32 width must be a whole number.
    stem : {"imagenet", "cifar"}
        Stride 2 or 1 of the first convolution.
    """
    first, *channels = build.scaled(32, *CHANNELS)
    blocks = [chain for _, chain in stages(separable, UNITS, channels, first, build)]
    return build.chain(
        ("conv_stem", build.conv(3, first, 3, 1 if is_small(stem) else 2)),
        ("bn1", build.norm_relu(first)),
        ("blocks", build.chain(*blocks)),
        ("global_pool", GlobalAvgPool2d(ops=build.ops)),
        ("classifier", build.linear(channels[-1], num_classes)),
    )


def separable(channels_in: int, channels: int, stride: int, build: Build) -> Chain:
    """Return a unit from (N, channels_in, H, W) to (N, channels, H / stride, W / stride)."""
    return build.chain(
        ("conv_dw", build.conv(channels_in, channels_in, 3, stride, groups=channels_in)),
        ("bn1", build.norm_relu(channels_in)),
        ("conv_pw", build.conv(channels_in, channels, 1)),
        ("bn2", build.norm_relu(channels)),
        ("se", build.se_at("standard", channels)),
    )


NETS = {"mobilenet": Architecture(mobilenet, "MobileNet", stages=(2, 3, 4, 5, 6))}

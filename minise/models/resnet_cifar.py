"""Residual nets for 32x32 images, plain and with SE blocks.

A residual unit adds its branch to its input: with a branch of zeros it is the identity, and the
shortcut passes the gradient of the sum on unchanged, so that depth does not hinder training.

    stage 1    conv 3x3, 16 channels - norm - ReLU
    stage 2    n units of 16 channels, 32x32
    stage 3    n units of 32 channels, 16x16      the first unit has stride 2
    stage 4    n units of 64 channels,  8x8       the first unit has stride 2
               global mean - linear

The depth is the number of layers with weights: 6 n + 2. Where the shape changes, the shortcut is
option A (every second pixel, zeros for new channels: He's choice for CIFAR, no parameters) or B (a
normalised 1x1 convolution).

An SE block scales the branch after its last normalisation, before the sum, so that no gate scales
the shortcut; SE.site chooses another place.

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2.
SE blocks as in Hu et al., arXiv:1709.01507. resnet8, the smallest of the family, is for the
quickstart and tests; the paper's smallest is resnet20.
"""

from functools import partial

from minise.models.architecture import Architecture
from minise.nn import Build, Chain, GlobalAvgPool2d, basic_block, stages
from minise.nn.squeeze_excite import UNIT_SITES

WIDTHS = (16, 32, 64)


def resnet_cifar(depth: int, num_classes: int, build: Build, *, shortcut: str = "B") -> Chain:
    """Return a net of depth 6 n + 2 from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    depth : int
        6 n + 2.
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype and SE settings.
    shortcut : {"A", "B"}
        Shortcut where the shape changes: padding with zeros, or a projection.
    """
    n, rest = divmod(depth - 2, 6)
    if n < 1 or rest:
        raise ValueError(f"resnet_cifar: depth is {depth}, expected 6 n + 2, such as 20 or 110")
    unit, widths = partial(basic_block, shortcut=shortcut), build.scaled(*WIDTHS)
    return build.chain(
        ("conv1", build.conv(3, widths[0], 3)),
        ("bn1", build.norm_relu(widths[0])),
        *stages(unit, (n, n, n), widths, widths[0], build),
        ("avgpool", GlobalAvgPool2d(ops=build.ops)),
        ("fc", build.linear(widths[2], num_classes)),
    )


NETS = {
    f"resnet{depth}": Architecture(
        partial(resnet_cifar, depth), f"ResNet-{depth}", 32, 10, UNIT_SITES, (2, 3, 4)
    )
    for depth in (8, 20, 32, 44, 56, 110)
}

"""Wide and pre-activation residual nets for 32x32 images, plain and with SE blocks.

Pre-activation units have the normalisation and the ReLU before each convolution and none after the
sum, so that nothing but sums lies on the path of the shortcuts. Wide nets have few units with many
channels, which processors compute faster than many units with few.

    stage 1    conv 3x3, 16 channels
    stage 2    n pre-activation units of 16 k channels, 32x32
    stage 3    n units of 32 k channels, 16x16      the first unit has stride 2
    stage 4    n units of 64 k channels,  8x8       the first unit has stride 2
               norm - ReLU - global mean - linear

WRN-d-k has d = 6 n + 4 layers and is k times as wide as the pre-activation ResNet, which is the
case k = 1 (whose depth is counted as 6 n + 2, or with bottlenecks, whose stages have four times the
output channels, as 9 n + 2).

An SE block is last on the branch, before the sum; no normalisation follows the last convolution.

Source: Zagoruyko and Komodakis, "Wide Residual Networks", arXiv:1605.07146; He et al., "Identity
Mappings in Deep Residual Networks", arXiv:1603.05027. SE blocks as in Hu et al.,
arXiv:1709.01507.
"""

from functools import partial

from minise.models.architecture import Architecture
from minise.nn import Build, Chain, GlobalAvgPool2d, preact_block, preact_bottleneck, stages
from minise.nn.blocks import EXPANSION
from minise.nn.squeeze_excite import UNIT_SITES

WIDTHS = (16, 32, 64)


def wide_resnet(
    blocks: int, widen: int, num_classes: int, build: Build, *, bottlenecks: bool = False
) -> Chain:
    """Return a net from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    blocks : int
        n, the number of blocks per stage.
    widen : int
        k, the factor on the widths 16, 32, 64.
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype and SE settings.
    bottlenecks : bool
        Whether blocks have three convolutions and four times the output channels.
    """
    stem, *widths = build.scaled(WIDTHS[0], *(widen * width for width in WIDTHS))
    counts = (blocks, blocks, blocks)
    expansion = EXPANSION if bottlenecks else 1
    unit = preact_bottleneck if bottlenecks else preact_block
    last = expansion * widths[-1]
    return build.chain(
        ("conv1", build.conv(3, stem, 3)),
        *stages(unit, counts, widths, stem, build, expansion=expansion),
        ("bn1", build.norm_relu(last)),
        ("avgpool", GlobalAvgPool2d(ops=build.ops)),
        ("fc", build.linear(last, num_classes)),
    )


NETS = {
    name: Architecture(builder, title, 32, 10, UNIT_SITES, (2, 3, 4))
    for name, title, builder in (
        ("preact_resnet110", "pre-activation ResNet-110", partial(wide_resnet, 18, 1)),
        (
            "preact_resnet164",
            "pre-activation ResNet-164",
            partial(wide_resnet, 18, 1, bottlenecks=True),
        ),
        ("wrn_16_8", "WRN-16-8", partial(wide_resnet, 2, 8)),
    )
}

"""ResNet and ResNeXt for large images, plain and with SE blocks.

A residual unit adds its branch to its input, so that a net of 152 layers trains as easily as a
shallow one. From ResNet-50 on, a unit is a bottleneck: 1x1 convolutions reduce the channels before
the 3x3 convolution, and restore four times as many after it. ResNeXt has twice as many channels in
the 3x3 convolution, in 32 groups, at about the same cost.

                                                            for 224x224 images
    stage 1    conv 7x7 /2, 64 channels - norm - ReLU       112x112
               max pool 3x3 /2                               56x56
    stage 2    n2 units of  64 (bottlenecks: 256) channels   56x56
    stage 3    n3 units of 128 ( 512)                        28x28    the first unit has stride 2
    stage 4    n4 units of 256 (1024)                        14x14    the first unit has stride 2
    stage 5    n5 units of 512 (2048)                         7x7     the first unit has stride 2
               global mean - linear

Two geometries have the same parameters and compute different functions. "caffe" is the papers':
ResNet's bottlenecks have the stride in the first 1x1 convolution (ResNeXt's in the 3x3), and the
pool has no padding and rounds its size up. "torchvision" (ResNet v1.5): all bottlenecks have the
stride in the 3x3 convolution, and the pool is padded by 1. For small images, such as CIFAR's, the
stem "cifar" is a 3x3 convolution without stride, and no pool.

An SE block scales the branch after its last normalisation, before the sum and without a ReLU
between; the shortcut, also a projection, stays as it is, so that the gradient reaches every unit.

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385; Xie et al.,
"Aggregated Residual Transformations for Deep Neural Networks", arXiv:1611.05431; Hu et al.,
"Squeeze-and-Excitation Networks", arXiv:1709.01507, table 1, and the authors' prototxt files.
"""

from functools import partial
from typing import get_args

from minise.checks import check_choice
from minise.models.architecture import Architecture, Geometry, is_small
from minise.nn import Build, Chain, GlobalAvgPool2d, MaxPool2d, basic_block, bottleneck, stages
from minise.nn.blocks import EXPANSION, Unit
from minise.nn.squeeze_excite import UNIT_SITES

UNITS = {  # n2 to n5, by depth
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}


def resnet(
    depth: int, num_classes: int, build: Build, *, geometry: str = "caffe", stem: str = "imagenet"
) -> Chain:
    """Return a ResNet from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    depth : {18, 34, 50, 101, 152}
        Number of layers with weights.
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width and SE settings.
    geometry : {"caffe", "torchvision"}
        Where a bottleneck has its stride, and how the pool is padded.
    stem : {"imagenet", "cifar"}
        First layers for large or for small images.
    """
    if depth < 50:
        return _net(depth, 1, basic_block, num_classes, build, geometry, stem)
    unit = partial(bottleneck, stride_in="1x1" if geometry == "caffe" else "3x3")
    return _net(depth, EXPANSION, unit, num_classes, build, geometry, stem)


def resnext(
    depth: int, num_classes: int, build: Build, *, geometry: str = "caffe", stem: str = "imagenet"
) -> Chain:
    """Return a ResNeXt of 32 groups, which the width scales, with 4 channels each in stage 2.

    The arguments are those of `resnet`; the geometry is only that of the pool.
    """
    groups = build.scale(32, of="groups")

    def unit(channels_in: int, channels: int, stride: int, build: Build) -> Chain:
        return bottleneck(channels_in, channels, stride, build, groups=groups, width=2 * channels)

    return _net(depth, EXPANSION, unit, num_classes, build, geometry, stem)


def _net(
    depth: int, expansion: int, unit: Unit, num_classes: int, build: Build, geometry: str, stem: str
) -> Chain:
    if depth not in UNITS:
        raise ValueError(f"resnet: depth is {depth}, expected one of {', '.join(map(str, UNITS))}")
    widths = build.scaled(64, 128, 256, 512)
    small, pool = is_small(stem), max_pool(geometry, build)
    return build.chain(
        ("conv1", build.conv(3, widths[0], *((3, 1) if small else (7, 2)))),
        ("bn1", build.norm_relu(widths[0])),
        ("maxpool", None if small else pool),
        *stages(unit, UNITS[depth], widths, widths[0], build, expansion=expansion),
        ("avgpool", GlobalAvgPool2d(ops=build.ops)),
        ("fc", build.linear(expansion * widths[-1], num_classes)),
    )


def max_pool(geometry: str, build: Build) -> MaxPool2d:
    """Return the pool of the stem, 3x3 with stride 2."""
    check_choice("max_pool", "geometry", geometry, get_args(Geometry))
    if geometry == "caffe":
        return MaxPool2d(3, stride=2, ceil_mode=True, ops=build.ops)
    return MaxPool2d(3, stride=2, padding=1, ops=build.ops)


RESNETS = {f"resnet{d}": (partial(resnet, d), f"ResNet-{d}") for d in UNITS}
RESNEXTS = {f"resnext{d}_32x4d": (partial(resnext, d), f"ResNeXt-{d} 32x4d") for d in (50, 101)}
NETS = {
    name: Architecture(builder, title, sites=UNIT_SITES)
    for name, (builder, title) in (RESNETS | RESNEXTS).items()
}

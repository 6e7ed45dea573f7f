"""ShuffleNet, plain and with SE blocks: residual units whose 1x1 convolutions have groups, too.

    stage 1    conv 3x3, 24 channels, stride 2 - norm - ReLU    112x112
               max pool 3x3, stride 2                            56x56
    stage 2     4 units of 240 channels                          28x28     the first has stride 2
    stage 3     8 units of 480 channels                          14x14     the first has stride 2
    stage 4     4 units of 960 channels                            7x7     the first has stride 2
               global mean - linear

    unit      1x1 in 3 groups to a quarter of the channels - norm - ReLU - channel shuffle -
              3x3 depthwise - norm - 1x1 in 3 groups - norm - SE; sum with the input; ReLU

Groups of channels that never meet would be three nets side by side: the shuffle gives each group of
the next convolution a third of the channels of every group before. A unit of stride 2 has no sum:
it concatenates the input, average-pooled (3x3, stride 2), and the branch, which has only the
channels that the input lacks. The first 1x1 convolution of the net has no groups, because its input
has only 24 channels.

The SE block is last on the branch, before the sum or the concatenation, as in a ResNet. Hu et al.
do not state the place; they report 0.6 million parameters more than without SE. Without biases
these are 0.61 million here, and would be 0.72 million at the end of the units.

Source: Zhang et al., "ShuffleNet", arXiv:1707.01083, with g = 3 groups; SE blocks as in Hu et al.,
arXiv:1709.01507, table 3. The input is first in the concatenation, as in the authors' code. With
stem="cifar", the first convolution has stride 1 and no pool follows: 32x32 images end as 4x4.
"""

from minise.models.architecture import Architecture, is_small
from minise.models.resnet import max_pool
from minise.nn import (
    AvgPool2d,
    Branches,
    Build,
    Chain,
    ChannelShuffle,
    GlobalAvgPool2d,
    ReLU,
    Residual,
)
from minise.nn.compose import Child
from minise.nn.residual import norm_tail

UNITS = (4, 8, 4)
GROUPS = 3


def shufflenet(num_classes: int, build: Build, *, stem: str = "imagenet") -> Chain:
    """Return a net from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width and SE settings; 4 width must be a whole number, so
        that all channels divide into groups.
    stem : {"imagenet", "cifar"}
        First convolution with stride 2 and a max pool, or with stride 1 alone.
    """
    channels, group = build.scaled(24, 20)  # 20: inner channels of a group in the first units
    stride, pool = (1, None) if is_small(stem) else (2, max_pool("torchvision", build))
    layers: list[Child] = [
        ("conv1", build.conv(3, channels, 3, stride)),
        ("bn1", build.norm_relu(channels)),
        ("maxpool", pool),
    ]
    for k, count in enumerate(UNITS):
        units, wider = [], 4 * GROUPS * group * 2**k
        for i in range(count):
            units.append(
                shuffle_unit(channels, wider, build.at_stage(k + 2), GROUPS if k + i else 1)
            )
            channels = wider
        layers.append((f"layer{k + 1}", build.chain(*units)))
    return build.chain(
        *layers,
        ("avgpool", GlobalAvgPool2d(ops=build.ops)),
        ("fc", build.linear(channels, num_classes)),
    )


def shuffle_unit(channels_in: int, channels: int, build: Build, groups: int) -> Chain:
    """Return a unit from channels_in to `channels` channels.

    If the numbers are equal, its stride is 1 and it adds the input; otherwise its stride is 2 and
    it concatenates. The first 1x1 convolution has `groups` groups.
    """
    inner, joins = channels // 4, channels != channels_in
    new = channels - channels_in if joins else channels
    branch = (
        ("conv1", build.conv(channels_in, inner, 1, groups=groups)),
        ("bn1", build.norm_relu(inner)),
        ("shuffle", ChannelShuffle(GROUPS, ops=build.ops)),
        ("conv2", build.conv(inner, inner, 3, 2 if joins else 1, groups=inner)),
        ("bn2", build.norm(inner)),
        ("conv3", build.conv(inner, new, 1, groups=GROUPS)),
    )
    norm, gate = build.norm(new), build.se_at("standard", new)
    if not joins:
        return build.chain(("", Residual(build.chain(*branch), tail=norm_tail("bn3", norm, gate))))
    pool = AvgPool2d(3, stride=2, padding=1, ops=build.ops)
    both = Branches(
        ("pool", pool), ("", build.chain(*branch, ("bn3", norm), ("se", gate))), ops=build.ops
    )
    return build.chain(("", both), ("relu", ReLU(ops=build.ops)))


NETS = {"shufflenet": Architecture(shufflenet, "ShuffleNet 1x (g = 3)", stages=(2, 3, 4))}

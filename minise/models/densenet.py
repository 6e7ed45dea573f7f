"""DenseNet, plain and with SE blocks: each layer appends its channels to all channels before it.

    stage 1    conv 7x7, 64 channels, stride 2 - norm - ReLU    112x112
               max pool 3x3, stride 2                            56x56
    stage 2     6 dense layers: 64 to 256 channels               56x56
               transition: 128 channels                          28x28
    stage 3    12 dense layers: 128 to 512 channels              28x28
               transition: 256 channels                          14x14
    stage 4    24 dense layers: 256 to 1024 channels             14x14
               transition: 512 channels                            7x7
    stage 5    16 dense layers: 512 to 1024 channels               7x7
               norm - ReLU - global mean - linear

    dense layer     norm - ReLU - 1x1 to 128 channels - norm - ReLU - 3x3 to 32 channels; the input
                    and these 32 channels are the output
    transition      norm - ReLU - 1x1 to half of the channels - average pool 2x2, stride 2

Every layer reads the features of all layers before it in its block, so none has to compute them
again, and 32 new channels per layer (the growth rate) are enough. A layer's output is a copy of its
input with the new channels appended, so memory grows with the square of a block's layers.

An SE block follows each dense block and each transition. Hu et al. have no DenseNet; this is the
placement of SE-DenseNets that others have published for Keras.

Source: Huang et al., "Densely Connected Convolutional Networks", arXiv:1608.06993. Names of layers
as in torchvision. With stem="cifar", the stem is a 3x3 convolution of stride 1 alone, as in the
paper's nets for CIFAR: 32x32 images end as 4x4.
"""

from minise.models.architecture import Architecture, is_small
from minise.models.resnet import max_pool
from minise.nn import AvgPool2d, Branches, Build, Chain, GlobalAvgPool2d
from minise.nn.compose import Child

LAYERS = (6, 12, 24, 16)
GROWTH = 32
BOTTLENECK = 4  # channels after the 1x1 convolution / growth


def densenet121(num_classes: int, build: Build, *, stem: str = "imagenet") -> Chain:
    """Return a net from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width and SE settings; 32 width must be a whole number.
    stem : {"imagenet", "cifar"}
        conv 7x7 of stride 2, norm, ReLU and a max pool, or conv 3x3 of stride 1.
    """
    growth = build.scale(GROWTH)
    channels = 2 * growth
    if is_small(stem):
        features: list[Child] = [("conv0", build.conv(3, channels, 3))]
    else:
        features = [
            ("conv0", build.conv(3, channels, 7, 2)),
            ("norm0", build.norm_relu(channels)),
            ("pool0", max_pool("torchvision", build)),
        ]
    for k, count in enumerate(LAYERS, 1):
        at_stage, layers = build.at_stage(k + 1), []
        for i in range(count):
            layers.append((f"denselayer{i + 1}", dense_layer(channels, growth, build)))
            channels += growth
        gate = "se", at_stage.se_at("standard", channels)
        features.append((f"denseblock{k}", build.chain(*layers, gate)))
        if k < len(LAYERS):
            features.append((f"transition{k}", transition(channels, at_stage)))
            channels //= 2
    features.append(("norm5", build.norm_relu(channels)))
    return build.chain(
        ("features", build.chain(*features)),
        ("avgpool", GlobalAvgPool2d(ops=build.ops)),
        ("classifier", build.linear(channels, num_classes)),
    )


def dense_layer(channels: int, growth: int, build: Build) -> Branches:
    """Return a layer from (N, channels, H, W) to (N, channels + growth, H, W)."""
    inner = BOTTLENECK * growth
    new = build.chain(
        ("norm1", build.norm_relu(channels)),
        ("conv1", build.conv(channels, inner, 1)),
        ("norm2", build.norm_relu(inner)),
        ("conv2", build.conv(inner, growth, 3)),
    )
    return Branches(("", build.chain()), ("", new), ops=build.ops)


def transition(channels: int, build: Build) -> Chain:
    """Return a layer from (N, channels, H, W) to (N, channels / 2, H / 2, W / 2)."""
    return build.chain(
        ("norm", build.norm_relu(channels)),
        ("conv", build.conv(channels, channels // 2, 1)),
        ("pool", AvgPool2d(2, ops=build.ops)),
        ("se", build.se_at("standard", channels // 2)),
    )


NETS = {"densenet121": Architecture(densenet121, "DenseNet-121")}

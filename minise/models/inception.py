"""BN-Inception for 224x224 images, plain and with SE blocks.

An Inception module has four branches with the same input and concatenates their outputs; 1x1
convolutions reduce the channels before larger ones. BN-Inception changes GoogLeNet: each
convolution has a batch normalisation, two 3x3 convolutions replace each 5x5 one, and modules with
stride 2, which have neither branch1 nor a projection after the pool, replace two of the pools.

    conv 7x7, 64 channels, stride 2      112x112
    max pool                              56x56
    conv 1x1, 64 - conv 3x3, 192
    max pool                              28x28
    modules 3a  3b                        28x28    256  320 channels
    modules 3c  4a  4b  4c  4d            14x14    576  576  576  608  608 channels
    modules 4e  5a  5b                      7x7   1056 1024 1024 channels
    global mean - linear

    branch1   conv 1x1                              all convolutions: norm, ReLU
    branch2   conv 1x1 - conv 3x3                   MODULES lists the channels
    branch3   conv 1x1 - conv 3x3 - conv 3x3
    branch4   pool 3x3, stride 1 - conv 1x1

As in Caffe, a mean over a window at the border counts the padding, and pools with stride 2 have no
padding but a last window that may extend beyond the border. Such a pool reduces n rows to n // 2,
but a convolution with stride 2 to (n + 1) // 2, so the modules 3c and 4e need even sizes: the
rows and the columns of an image are each 32 k - 1 to 32 k + 6, with k of at least 2.

SE blocks are on the concatenated output of all ten modules, because there all branches share one
gate. The digit of a module is its stage in `SE.stages`.

Source: Ioffe and Szegedy, "Batch Normalization", arXiv:1502.03167, appendix; the modules and SE
blocks as in the authors' nets (BN-Inception and SE-BN-Inception for Caffe) of Hu et al.,
"Squeeze-and-Excitation Networks", arXiv:1709.01507. Names follow torchvision's GoogLeNet.
"""

from functools import partial

from minise import nn
from minise.models.architecture import Architecture
from minise.models.inception_module import Branches, inception_branches

AVG = partial(nn.AvgPool2d, 3, stride=1, padding=1)
MAX = partial(nn.MaxPool2d, 3, stride=1, padding=1)
HALF = partial(nn.MaxPool2d, 3, stride=2, ceil_mode=True)
# fmt: off
MODULES: dict[str, Branches] = {  # branches of convolutions (channels, kernel, stride) and pools
    "3a": ([(64, 1)], [(64, 1), (64, 3)], [(64, 1), (96, 3), (96, 3)], [AVG, (32, 1)]),
    "3b": ([(64, 1)], [(64, 1), (96, 3)], [(64, 1), (96, 3), (96, 3)], [AVG, (64, 1)]),
    "3c": ([], [(128, 1), (160, 3, 2)], [(64, 1), (96, 3), (96, 3, 2)], [HALF]),
    "4a": ([(224, 1)], [(64, 1), (96, 3)], [(96, 1), (128, 3), (128, 3)], [AVG, (128, 1)]),
    "4b": ([(192, 1)], [(96, 1), (128, 3)], [(96, 1), (128, 3), (128, 3)], [AVG, (128, 1)]),
    "4c": ([(160, 1)], [(128, 1), (160, 3)], [(128, 1), (160, 3), (160, 3)], [AVG, (128, 1)]),
    "4d": ([(96, 1)], [(128, 1), (192, 3)], [(160, 1), (192, 3), (192, 3)], [AVG, (128, 1)]),
    "4e": ([], [(128, 1), (192, 3, 2)], [(192, 1), (256, 3), (256, 3, 2)], [HALF]),
    "5a": ([(352, 1)], [(192, 1), (320, 3)], [(160, 1), (224, 3), (224, 3)], [AVG, (128, 1)]),
    "5b": ([(352, 1)], [(192, 1), (320, 3)], [(192, 1), (224, 3), (224, 3)], [MAX, (128, 1)]),
}
# fmt: on


def bn_inception(num_classes: int, build: nn.Build) -> nn.Chain:
    """Return a net from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width and SE settings; 32 width must be a whole number.
    """
    stem, channels = build.scaled(64, 192)
    layers: list[tuple[str, nn.Layer]] = [
        ("conv1", build.conv_norm(3, stem, 7, 2)),
        ("maxpool1", HALF(ops=build.ops)),
        ("conv2", build.conv_norm(stem, stem, 1)),
        ("conv3", build.conv_norm(stem, channels, 3)),
        ("maxpool2", HALF(ops=build.ops)),
    ]
    for name, table in MODULES.items():
        at_stage = build.at_stage(int(name[0]))
        branches, channels = inception_branches(channels, table, at_stage, first=1)
        se = ("se", at_stage.se_at("standard", channels))
        layers.append((f"inception_{name}", build.chain(("", branches), se)))
    return build.chain(
        *layers,
        ("avgpool", nn.GlobalAvgPool2d(ops=build.ops)),
        ("fc", build.linear(channels, num_classes)),
    )


NETS = {"bn_inception": Architecture(bn_inception, "BN-Inception", stages=(3, 4, 5))}

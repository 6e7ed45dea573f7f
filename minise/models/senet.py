"""SENet-154, the net with which the paper's authors won the ILSVRC 2017 classification task.

It is a ResNeXt-152 with 64 groups, of 4 channels each in stage 2, and four changes:

(a) The first 1x1 convolution of a unit has half as many channels as the 3x3, to save computations.
(b) The stem has three 3x3 convolutions instead of a 7x7.
(c) The projection of a shortcut with stride 2 is a 3x3 convolution, which reads every pixel.
(d) Dropout of 0.2 before the dense layer.

                                                                   for 224x224 images
    stage 1    conv 3x3 /2, 64 channels - norm - ReLU              112x112
               conv 3x3, 64 - norm - ReLU - 3x3, 128 - norm - ReLU 112x112
               max pool 3x3 /2                                      56x56
    stage 2     3 units, 1x1  128 - 3x3  256 - 1x1  256 channels    56x56
    stage 3     8 units, 1x1  256 - 3x3  512 - 1x1  512             28x28    stride 2 first
    stage 4    36 units, 1x1  512 - 3x3 1024 - 1x1 1024             14x14    stride 2 first
    stage 5     3 units, 1x1 1024 - 3x3 2048 - 1x1 2048              7x7     stride 2 first
               global mean - dropout - linear

`se_senet154` is the paper's net, with SE blocks where ResNet has them (resnet.py): on the branch,
after its last normalisation, before the sum. `senet154` is the same net without SE blocks, for
comparison. The geometry is that of the pool, as in resnet.py; the stride is always in the 3x3.

Source: Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507, appendix, and the authors'
prototxt file. The parameters have the names of timm's `senet154`.
"""

from functools import partial

from minise.models.architecture import Architecture
from minise.models.resnet import UNITS, max_pool
from minise.nn import Build, Chain, Dropout, GlobalAvgPool2d, bottleneck, stages
from minise.nn.blocks import EXPANSION
from minise.nn.squeeze_excite import UNIT_SITES

DROPOUT = 0.2


def senet154(num_classes: int, build: Build, *, geometry: str = "caffe") -> Chain:
    """Return SENet-154 from images (N, 3, H, W) to logits (N, num_classes).

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width, which scales the number of groups, and SE settings.
    geometry : {"caffe", "torchvision"}
        How the pool is padded.
    """
    groups = build.scale(64, of="groups")
    widths = build.scaled(64, 128, 256, 512)

    def unit(channels_in: int, channels: int, stride: int, build: Build) -> Chain:
        first, inner = 2 * channels, 4 * channels
        unit = partial(bottleneck, width_in=first, width=inner, groups=groups, projection=3)
        return unit(channels_in, channels, stride, build)

    first, last = widths[0], EXPANSION * widths[-1]
    convolutions = build.chain(
        ("0", build.conv(3, first, 3, 2)),
        ("1", build.norm_relu(first)),
        ("3", build.conv(first, first, 3)),
        ("4", build.norm_relu(first)),
        ("6", build.conv(first, 2 * first, 3)),
    )
    return build.chain(
        ("conv1", convolutions),
        ("bn1", build.norm_relu(2 * first)),
        ("maxpool", max_pool(geometry, build)),
        *stages(unit, UNITS[152], widths, 2 * first, build, expansion=EXPANSION),
        ("avgpool", GlobalAvgPool2d(ops=build.ops)),
        ("dropout", Dropout(DROPOUT, ops=build.ops, rng=build.rng)),
        ("fc", build.linear(last, num_classes)),
    )


NETS = {"senet154": Architecture(senet154, "SENet-154", sites=UNIT_SITES)}

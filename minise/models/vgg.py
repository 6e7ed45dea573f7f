"""VGG-16 with normalisations, plain and with SE blocks: a chain of 3x3 convolutions.

    stage 1    2 convolutions of  64 channels, max pool    224x224
    stage 2    2 convolutions of 128 channels, max pool    112x112
    stage 3    3 convolutions of 256 channels, max pool     56x56
    stage 4    3 convolutions of 512 channels, max pool     28x28
    stage 5    3 convolutions of 512 channels, max pool     14x14
               flatten 7x7x512 - linear 4096 - ReLU - dropout - linear 4096 - ReLU - dropout -
               linear

Each convolution is followed by a normalisation and a ReLU; pools are 2x2 with stride 2. Two 3x3
convolutions see as many pixels as one 5x5, with fewer weights and a ReLU between. The first dense
layer has a weight for each pixel and channel, so a net is built for one size of images; this layer
has 103 of the 138 million parameters.

An SE block follows the ReLU of each convolution, because VGG has no residual branch to gate. All
gates are near 1/2 at the start; the normalisation after the next convolution restores the scale.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", arXiv:1409.1556, with normalisations and SE blocks as in Hu et al., arXiv:1709.01507,
table 2. Names of layers as in torchvision's vgg16_bn, whose convolutions also have biases, although
the normalisations subtract them; an SE block has the number of its ReLU. With stem="cifar", the
classifier is a global mean and one dense layer, as is common for 32x32 images, which end as 1x1;
such a net processes images of any size from 32x32.
"""

from typing import Any

from minise.checks import Array, Pair
from minise.models.architecture import Architecture, is_small
from minise.nn import Build, Chain, Dropout, Flatten, GlobalAvgPool2d, MaxPool2d, ReLU
from minise.nn.layers import pair
from minise.ops.backend import Backend

CONVOLUTIONS = (2, 2, 3, 3, 3)
CHANNELS = (64, 128, 256, 512, 512)
HIDDEN = 4096
SMALLEST = 2 ** len(CHANNELS)  # every pool halves the image


def vgg16(
    num_classes: int, build: Build, *, image_size: int | Pair = 224, stem: str = "imagenet"
) -> Chain:
    """Return a net from images (N, 3, *image_size) to logits (N, num_classes).

    Parameters
    ----------
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype, width and SE settings; 64 width must be a whole number.
    image_size : int or (int, int)
        Rows and columns of the images, at least 32; without effect for stem="cifar".
    stem : {"imagenet", "cifar"}
        Classifier of three dense layers, or of one after a global mean.
    """
    rows, columns = (side // SMALLEST for side in pair("vgg16", "image_size", image_size, SMALLEST))
    features, inputs = [], 3
    for k, channels in enumerate(build.scaled(*CHANNELS)):
        at_stage = build.at_stage(k + 1)
        for _ in range(CONVOLUTIONS[k]):
            gate = build.chain(("se", at_stage.se_at("standard", channels)))
            features += [build.conv(inputs, channels, 3), build.norm_relu(channels), gate]
            inputs = channels
        features.append(MaxPool2d(2, ops=build.ops))
    if is_small(stem):
        return build.chain(
            ("features", build.chain(*features)),
            ("avgpool", GlobalAvgPool2d(ops=build.ops)),
            ("classifier", build.linear(inputs, num_classes)),
        )
    hidden = build.scale(HIDDEN)
    classifier = build.chain(
        build.linear(inputs * rows * columns, hidden),
        ReLU(ops=build.ops),
        Dropout(0.5, ops=build.ops, rng=build.rng),
        build.linear(hidden, hidden),
        ReLU(ops=build.ops),
        Dropout(0.5, ops=build.ops, rng=build.rng),
        build.linear(hidden, num_classes),
    )
    return build.chain(
        ("features", build.chain(*features)),
        ("flatten", FixedFlatten((rows, columns), ops=build.ops)),
        ("classifier", classifier),
    )


class FixedFlatten(Flatten):
    """Flatten of images of one size, for a dense layer that has a weight for each pixel.

    Without it, 96x64 images would pass a net for 64x96, to the wrong weights.
    """

    def __init__(self, size: Pair, *, ops: Backend) -> None:
        super().__init__(ops=ops)
        self.size = size

    def forward(self, x: Array, training: bool) -> tuple[Array, Any]:
        """Return (N, C * rows * columns) and the cache."""
        if x.shape[2:] != self.size:
            raise ValueError(
                f"vgg16: images are {x.shape[2]} x {x.shape[3]} after the last pool, expected "
                f"{self.size[0]} x {self.size[1]}: build the net with image_size=(rows, columns)"
            )
        return super().forward(x, training)


NETS = {"vgg16": Architecture(vgg16, "VGG-16 with batch norm", stages=(1, 2, 3, 4, 5))}

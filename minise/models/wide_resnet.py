"""Wide residual nets for 32x32 images, plain and with SE blocks.

    conv 3x3, 16 channels
    n pre-activation blocks of 16 k channels, 32x32
    n blocks of 32 k channels, 16x16      the first one of each of these with stride 2
    n blocks of 64 k channels,  8x8
    norm - ReLU - global mean - linear

WRN-d-k has d = 6 n + 4 layers and is k times as wide as its ancestor, the pre-activation ResNet,
which is the case k = 1 (there the depth is counted as 6 n + 2, or 9 n + 2 with bottlenecks, whose
stages return four times the channels).

Source: Zagoruyko and Komodakis, "Wide Residual Networks", arXiv:1605.07146; He et al., "Identity
Mappings in Deep Residual Networks", arXiv:1603.05027. SE blocks as in Hu et al.,
arXiv:1709.01507: at the end of each branch, before the sum.
"""

from minise.models.net import Net
from minise.nn import (
    Build,
    GlobalAvgPool2d,
    Layer,
    Linear,
    PreActBlock,
    PreActBottleneck,
    Sequential,
)
from minise.nn.inference import chain, normalisation
from minise.nn.layer import Inference
from minise.ops.checks import Array

Unit = type[PreActBlock] | type[PreActBottleneck]


class WideResNet(Net):
    """See the module's docstring.

    Parameters
    ----------
    blocks : int
        n, blocks a stage.
    widen : int
        k, the factor on the widths 16, 32, 64.
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype and SE settings.
    unit : {PreActBlock, PreActBottleneck}
        What the stages are made of.
    """

    def __init__(self, blocks: int, widen: int, unit: Unit, num_classes: int, build: Build) -> None:
        super().__init__(build.ops)
        widths = (16 * widen, 32 * widen, 64 * widen)
        outputs = [unit.EXPANSION * width for width in widths]
        self.conv1 = build.conv(3, 16, 3)
        self.layer1 = _stage(blocks, 16, widths[0], 1, unit, build)
        self.layer2 = _stage(blocks, outputs[0], widths[1], 2, unit, build)
        self.layer3 = _stage(blocks, outputs[1], widths[2], 2, unit, build)
        self.bn1 = build.norm(outputs[2])
        self.avgpool = GlobalAvgPool2d(ops=build.ops)
        self.fc = Linear(outputs[2], num_classes, ops=build.ops, rng=build.rng, dtype=build.dtype)

    def forward(self, x: Array, training: bool) -> Array:
        """Return logits (N, num_classes) of images (N, 3, H, W)."""
        y = self.conv1.forward(x, training)
        y = self.layer1.forward(y, training)
        y = self.layer2.forward(y, training)
        y = self.layer3.forward(y, training)
        y = self.bn1.forward_relu(y, training)
        y = self.avgpool.forward(y, training)
        return self.fc.forward(y, training)

    def first(self) -> Layer:
        """Return the layer that the images go into."""
        return self.conv1

    def backward(self, dout: Array) -> Array:
        """Return the gradient of the images."""
        dy = self.fc.backward(dout)
        dy = self.avgpool.backward(dy)
        dy = self.bn1.backward_relu(dy)
        dy = self.layer3.backward(dy)
        dy = self.layer2.backward(dy)
        dy = self.layer1.backward(dy)
        return self.conv1.backward(dy)

    def folded(self) -> Inference:
        """Return forward's lines, by the folded forms of the layers."""
        stages = self.conv1, self.layer1, self.layer2, self.layer3
        last = normalisation(self.bn1, relu=True)
        head = self.avgpool.inference(), self.fc.inference()
        return chain(*(layer.inference() for layer in stages), last, *head)


def _stage(
    blocks: int, channels_in: int, channels: int, stride: int, unit: Unit, build: Build
) -> Sequential:
    first = unit(channels_in, channels, stride, build)
    wide = unit.EXPANSION * channels
    rest = [unit(wide, channels, 1, build) for _ in range(blocks - 1)]
    return Sequential(first, *rest, ops=build.ops)

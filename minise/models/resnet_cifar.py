"""The residual nets for 32x32 images, plain and with SE blocks.

    conv 3x3, 16 channels - norm - ReLU
    n blocks of 16 channels, 32x32
    n blocks of 32 channels, 16x16      the first one of each of these with stride 2
    n blocks of 64 channels,  8x8
    global mean - linear

Depth counts the weighted layers: 6 n + 2. Where the shape changes, the shortcut is option A (every
second pixel, zeros for new channels: He's choice for CIFAR, no parameters) or B (a normalised 1x1
convolution).

Source: He et al., "Deep Residual Learning for Image Recognition", arXiv:1512.03385, section 4.2.
SE blocks as in Hu et al., arXiv:1709.01507. resnet8 is the smallest of the family, for quick
starts and tests; the paper begins at 20.
"""

from minise.models.net import Net
from minise.nn import BasicBlock, Build, GlobalAvgPool2d, Layer, Linear, Sequential
from minise.nn.inference import chain, convolution
from minise.nn.layer import Inference
from minise.ops.checks import Array, check_choice

WIDTHS = (16, 32, 64)
SHORTCUTS = ("A", "B")


class ResNetCifar(Net):
    """See the module's docstring.

    Parameters
    ----------
    depth : int
        6 n + 2.
    num_classes : int
        Outputs of the last layer.
    build : Build
        Back end, random numbers, dtype and SE settings.
    shortcut : {"A", "B"}
        What passes where the shape changes.
    """

    def __init__(self, depth: int, num_classes: int, build: Build, *, shortcut: str = "B") -> None:
        super().__init__(build.ops)
        check_choice("ResNetCifar", "shortcut", shortcut, SHORTCUTS)
        n, rest = divmod(depth - 2, 6)
        if n < 1 or rest:
            raise ValueError(f"ResNetCifar: depth is {depth}, expected 6 n + 2, such as 20 or 110")
        self.conv1 = build.conv(3, WIDTHS[0], 3)
        self.bn1 = build.norm(WIDTHS[0])
        self.layer1 = _stage(n, WIDTHS[0], WIDTHS[0], 1, shortcut, build)
        self.layer2 = _stage(n, WIDTHS[0], WIDTHS[1], 2, shortcut, build)
        self.layer3 = _stage(n, WIDTHS[1], WIDTHS[2], 2, shortcut, build)
        self.avgpool = GlobalAvgPool2d(ops=build.ops)
        self.fc = Linear(WIDTHS[2], num_classes, ops=build.ops, rng=build.rng, dtype=build.dtype)

    def forward(self, x: Array, training: bool) -> Array:
        """Return logits (N, num_classes) of images (N, 3, H, W)."""
        y = self.conv1.forward(x, training)
        y = self.bn1.forward_relu(y, training)
        y = self.layer1.forward(y, training)
        y = self.layer2.forward(y, training)
        y = self.layer3.forward(y, training)
        y = self.avgpool.forward(y, training)
        return self.fc.forward(y, training)

    def first(self) -> Layer:
        """Return the layer that the images go into."""
        return self.conv1

    def backward(self, dout: Array) -> Array:
        """Return the gradient of the images."""
        dy = self.fc.backward(dout)
        dy = self.avgpool.backward(dy)
        dy = self.layer3.backward(dy)
        dy = self.layer2.backward(dy)
        dy = self.layer1.backward(dy)
        dy = self.bn1.backward_relu(dy)
        return self.conv1.backward(dy)

    def folded(self) -> Inference:
        """Return forward's lines, with each normalisation in the convolution before it."""
        first = convolution(self.conv1, self.bn1, relu=True)
        rest = self.layer1, self.layer2, self.layer3, self.avgpool, self.fc
        return chain(first, *(layer.inference() for layer in rest))


def _stage(
    n: int, channels_in: int, channels: int, stride: int, shortcut: str, build: Build
) -> Sequential:
    first = BasicBlock(channels_in, channels, stride, shortcut, build)
    rest = [BasicBlock(channels, channels, 1, shortcut, build) for _ in range(n - 1)]
    return Sequential(first, *rest, ops=build.ops)

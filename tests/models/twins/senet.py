"""SENet-154 in PyTorch, with the parameter names of the net in minise.models.senet."""

from tests.models.twins.compare import torch
from tests.models.twins.resnet import Bottleneck, Stages, conv, max_pool

COUNTS = 3, 8, 36, 3


def unit(groups):
    """Return a unit with a halved first 1x1 and a 3x3 projection where the stride is 2."""

    def build(channels_in, channels, stride, reduction):
        sizes = {"first": 2 * channels, "inner": 4 * channels, "groups": groups}
        kernel = 3 if stride == 2 else 1
        strides = 1, stride
        return Bottleneck(channels_in, channels, strides, reduction, **sizes, kernel=kernel)

    return build


class SENet(Stages):
    """The net with width channels in the stem's first convolution, and as many groups."""

    def __init__(self, width, classes, reduction=None, geometry="caffe", counts=COUNTS):
        super().__init__(unit(width), counts, width, classes, reduction, stem=2 * width)
        self.conv1 = torch.nn.Sequential(
            conv(3, width, 3, 2),
            torch.nn.BatchNorm2d(width),
            torch.nn.ReLU(),
            conv(width, width, 3),
            torch.nn.BatchNorm2d(width),
            torch.nn.ReLU(),
            conv(width, 2 * width, 3),
        )
        self.bn1 = torch.nn.BatchNorm2d(2 * width)
        self.pool = max_pool(geometry)
        self.dropout = torch.nn.Dropout(0.2)

    def stem(self, x):
        return self.pool(torch.relu(self.bn1(self.conv1(x))))

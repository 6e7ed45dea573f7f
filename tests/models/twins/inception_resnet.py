"""Inception-ResNet-v2 in PyTorch, as its paper's figures and timm's parameter names define it."""

from functools import partial

from minise.bench.peers.twins.inception import ConvNorm
from minise.bench.peers.twins.squeeze import gate
from tests.models.twins.compare import torch

nn, F = torch.nn, torch.nn.functional
Conv = partial(ConvNorm, eps=0.001)


class Mixed5b(nn.Module):
    """The module on 35x35 images."""

    def __init__(self, reduction):
        super().__init__()
        self.branch0 = Conv(12, 6, 1)
        self.branch1 = nn.Sequential(Conv(12, 3, 1), Conv(3, 4, 5, 1, 2))
        self.branch2 = nn.Sequential(Conv(12, 4, 1), Conv(4, 6, 3, 1, 1), Conv(6, 6, 3, 1, 1))
        self.branch3 = nn.Sequential(nn.AvgPool2d(3, 1, 1, count_include_pad=False), Conv(12, 4, 1))
        self.se = gate(20, reduction)

    def forward(self, x):
        outs = [self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)]
        return self.se(torch.cat(outs, 1))


class Mixed6a(nn.Module):
    """The reduction to 17x17."""

    def __init__(self, reduction):
        super().__init__()
        self.branch0 = Conv(20, 24, 3, 2)
        self.branch1 = nn.Sequential(Conv(20, 16, 1), Conv(16, 16, 3, 1, 1), Conv(16, 24, 3, 2))
        self.se = gate(68, reduction)

    def forward(self, x):
        outs = [self.branch0(x), self.branch1(x), F.max_pool2d(x, 3, 2)]
        return self.se(torch.cat(outs, 1))


class Mixed7a(nn.Module):
    """The reduction to 8x8."""

    def __init__(self, reduction):
        super().__init__()
        self.branch0 = nn.Sequential(Conv(68, 16, 1), Conv(16, 24, 3, 2))
        self.branch1 = nn.Sequential(Conv(68, 16, 1), Conv(16, 18, 3, 2))
        self.branch2 = nn.Sequential(Conv(68, 16, 1), Conv(16, 18, 3, 1, 1), Conv(18, 20, 3, 2))
        self.se = gate(130, reduction)

    def forward(self, x):
        outs = [self.branch0(x), self.branch1(x), self.branch2(x), F.max_pool2d(x, 3, 2)]
        return self.se(torch.cat(outs, 1))


class Block(nn.Module):
    """A residual unit; branches are modules, whose outputs have `inner` channels together."""

    def __init__(self, channels, inner, scale, branches, reduction, relu=True):
        super().__init__()
        self.scale, self.relu, self.count = scale, relu, len(branches)
        for k, branch in enumerate(branches):
            setattr(self, f"branch{k}", branch)
        self.conv2d = nn.Conv2d(inner, channels, 1)
        self.se = gate(channels, reduction)

    def forward(self, x):
        outs = [getattr(self, f"branch{k}")(x) for k in range(self.count)]
        x = x + self.se(self.conv2d(torch.cat(outs, 1))) * self.scale
        return F.relu(x) if self.relu else x


def block35(reduction):
    """Return a unit on 35x35 images."""
    branches = [
        Conv(20, 2, 1),
        nn.Sequential(Conv(20, 2, 1), Conv(2, 2, 3, 1, 1)),
        nn.Sequential(Conv(20, 2, 1), Conv(2, 3, 3, 1, 1), Conv(3, 4, 3, 1, 1)),
    ]
    return Block(20, 8, 0.17, branches, reduction)


def block17(reduction):
    """Return a unit on 17x17 images."""
    double = nn.Sequential(
        Conv(68, 8, 1), Conv(8, 10, (1, 7), 1, (0, 3)), Conv(10, 12, (7, 1), 1, (3, 0))
    )
    return Block(68, 24, 0.10, [Conv(68, 12, 1), double], reduction)


def block8(reduction, scale=0.20, relu=True):
    """Return a unit on 8x8 images."""
    double = nn.Sequential(
        Conv(130, 12, 1), Conv(12, 14, (1, 3), 1, (0, 1)), Conv(14, 16, (3, 1), 1, (1, 0))
    )
    return Block(130, 28, scale, [Conv(130, 12, 1), double], reduction, relu)


class InceptionResNetV2(nn.Module):
    """The net with 1/16 of the paper's channels.

    SE blocks are on the residual branches if `reduction` is set, and on the other modules if
    `modules` is set too.
    """

    def __init__(self, classes, reduction=None, modules=False):
        super().__init__()
        other = reduction if modules else None
        self.conv2d_1a = Conv(3, 2, 3, 2)
        self.conv2d_2a = Conv(2, 2, 3)
        self.conv2d_2b = Conv(2, 4, 3, 1, 1)
        self.conv2d_3b = Conv(4, 5, 1)
        self.conv2d_4a = Conv(5, 12, 3)
        self.mixed_5b = Mixed5b(other)
        self.repeat = nn.Sequential(*[block35(reduction) for _ in range(10)])
        self.mixed_6a = Mixed6a(other)
        self.repeat_1 = nn.Sequential(*[block17(reduction) for _ in range(20)])
        self.mixed_7a = Mixed7a(other)
        self.repeat_2 = nn.Sequential(*[block8(reduction) for _ in range(9)])
        self.block8 = block8(reduction, 1.0, relu=False)
        self.conv2d_7b = Conv(130, 96, 1)
        self.dropout = nn.Dropout(0.2)
        self.classif = nn.Linear(96, classes)

    def forward(self, x):
        x = self.conv2d_2b(self.conv2d_2a(self.conv2d_1a(x)))
        x = self.conv2d_4a(self.conv2d_3b(F.max_pool2d(x, 3, 2)))
        x = self.repeat(self.mixed_5b(F.max_pool2d(x, 3, 2)))
        x = self.repeat_1(self.mixed_6a(x))
        x = self.conv2d_7b(self.block8(self.repeat_2(self.mixed_7a(x))))
        return self.classif(self.dropout(x.mean((2, 3))))

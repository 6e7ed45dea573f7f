"""Shake-Shake in PyTorch, with the names of minise.models.shake_shake and shares from a test."""

from minise.bench.peers.twins.resnet import conv
from minise.bench.peers.twins.squeeze import gate
from tests.models.twins.compare import torch

F = torch.nn.functional


class Branch(torch.nn.Module):
    def __init__(self, channels_in, channels, stride, se):
        super().__init__()
        self.conv1, self.conv2 = conv(channels_in, channels, 3, stride), conv(channels, channels, 3)
        self.bn1, self.bn2 = torch.nn.BatchNorm2d(channels), torch.nn.BatchNorm2d(channels)
        self.se = se

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(torch.relu(x))))
        return self.se(self.bn2(self.conv2(y)))


class Mix(torch.nn.Module):
    """alpha x1 + (1 - alpha) x2 in forward, beta instead of alpha in backward."""

    def __init__(self, alpha, beta):
        super().__init__()
        self.alpha, self.beta = alpha, beta
        self.register_buffer("seed", torch.tensor(0))
        self.register_buffer("draws", torch.tensor(0))

    def forward(self, x1, x2):
        if not self.training:
            return (x1 + x2) / 2
        alpha, beta = (torch.tensor(a)[:, None, None, None] for a in (self.alpha, self.beta))
        behind = beta * x1 + (1 - beta) * x2
        return behind + (alpha * x1 + (1 - alpha) * x2 - behind).detach()


class Downsample(torch.nn.Module):
    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.conv1 = conv(channels_in, channels // 2, 1)
        self.conv2 = conv(channels_in, channels - channels // 2, 1)
        self.bn, self.stride = torch.nn.BatchNorm2d(channels), stride

    def forward(self, x):
        x = torch.relu(x)
        moved = F.pad(x, (1, -1, 1, -1))  # a zero column and row enter, the last ones leave
        first, second = (F.avg_pool2d(image, 1, self.stride) for image in (x, moved))
        return self.bn(torch.cat([self.conv1(first), self.conv2(second)], 1))


class Unit(torch.nn.Module):
    def __init__(self, channels_in, channels, stride, shares, reduction, site):
        super().__init__()
        each, after = (reduction if site == at else None for at in ("standard", "mix"))
        gates = gate(channels, each), gate(channels, each)
        self.branch1, self.branch2 = (Branch(channels_in, channels, stride, se) for se in gates)
        self.merge, self.se = Mix(*shares), gate(channels, after)
        self.downsample = torch.nn.Identity()
        if channels_in != channels:
            self.downsample = Downsample(channels_in, channels, stride)

    def forward(self, x):
        return self.se(self.merge(self.branch1(x), self.branch2(x))) + self.downsample(x)


class ShakeShake(torch.nn.Module):
    """Shake-Shake 26 from `stem` channels and three widths; shares has a pair for each unit."""

    def __init__(self, stem, widths, classes, shares, reduction=None, site="standard"):
        super().__init__()
        self.conv1, self.bn1 = conv(3, stem, 3), torch.nn.BatchNorm2d(stem)
        shares = iter(shares)
        for k, channels in enumerate(widths):
            units, channels_in = [], (stem, *widths)[k]
            for i in range(4):
                strided = 2 if k and not i else 1
                unit = Unit(channels_in, channels, strided, next(shares), reduction, site)
                units.append(unit)
                channels_in = channels
            self.add_module(f"layer{k + 1}", torch.nn.Sequential(*units))
        self.fc = torch.nn.Linear(widths[-1], classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.bn1(self.conv1(x)))))
        return self.fc(torch.relu(x).mean((2, 3)))

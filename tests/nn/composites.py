"""Small nets from every composite, with inputs (N, 4, H, W), for tests of the layer contract."""

import numpy as np

from minise import nn

F64 = np.float64


def conv(channels=4, kernel=3, channels_in=4):
    return nn.Conv2d(channels_in, channels, kernel, padding="same", dtype=F64)


def norm_relu():
    return nn.NormReLU(4, dtype=F64)


def tail(gate=True):
    block = nn.SEBlock(4, 2, dtype=F64) if gate else None
    return nn.NormAddReLU("bn", nn.BatchNorm2d(4, dtype=F64), block)


def classifier(*before):
    """Return a net without batch normalisation from images to 3 logits."""
    last = ("pool", nn.GlobalAvgPool2d()), ("fc", nn.Linear(4, 3, dtype=F64))
    return nn.Chain(*before, *last)


COMPOSITES = {
    "chain": lambda: nn.Chain(conv(), norm_relu(), nn.SEBlock(4, 2, dtype=F64)),
    "nested chain": lambda: nn.Chain(("", nn.Chain(("a", conv()))), nn.Chain(), nn.Tanh()),
    "activations first": lambda: nn.Chain(nn.Tanh(), nn.Chain(nn.Sigmoid()), conv(), norm_relu()),
    "residual": lambda: nn.Residual(conv()),
    "residual around nothing": lambda: nn.Residual(nn.Chain()),
    "residual with a shortcut": lambda: nn.Residual(conv(), nn.Chain(("down", conv(4, 1)))),
    "residual with tails": lambda: nn.Chain(
        nn.Residual(nn.Chain(conv(), norm_relu(), conv()), tail=tail()),
        nn.Residual(conv(), tail=tail(gate=False)),
        nn.Residual(nn.Tanh(), nn.Sigmoid(), tail=nn.Tail(("a", conv()), relu=False)),
    ),
    "concatenated": lambda: nn.Branches(("a", conv(3)), ("b", nn.Tanh()), ("c", conv(2, 1))),
    "added": lambda: nn.Branches(conv(), nn.Chain(), conv(4, 1), merge="add"),
    "added to itself": lambda: nn.Branches(nn.Chain(), nn.Chain(), merge="add"),
    "one branch": lambda: nn.Branches(conv(), merge="add"),
    "shaken": lambda: nn.Branches(conv(), nn.Chain(), merge=nn.Shake(rng=0)),
    "fire module": lambda: nn.Chain(
        ("squeeze", conv(2, 1)),
        ("relu", nn.ReLU()),
        ("expand", nn.Branches(("1x1", conv(3, 1, 2)), ("3x3", conv(3, 3, 2)))),
    ),
}

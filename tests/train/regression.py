"""A regression as a user may write it: a custom net, objective and batches."""

import io

import numpy as np
from rich.console import Console

from minise import nn
from minise.train import SGD


class SquaredError:
    """Mean of (out - targets)**2 over a batch and the two outputs."""

    def forward(self, out, targets):
        difference = out - targets
        return (difference**2).mean(), difference

    def backward(self, difference):
        return 2 * difference / difference.size

    def metrics(self, out, targets):
        return {"error": float(abs(out - targets).mean())}


def net(seed=0, dtype=np.float64):
    """Return a net from images (N, 1, 4, 4) to two numbers."""
    more = dict(rng=seed, dtype=dtype)
    return nn.Chain(
        ("conv", nn.Conv2d(1, 4, 3, padding="same", **more)),
        ("norm", nn.NormReLU(4, dtype=dtype)),
        ("pool", nn.GlobalAvgPool2d()),
        ("fc", nn.Linear(4, 2, **more)),
    )


def pairs(count=3, seed=0, size=6):
    """Return batches whose targets are the means of the images' positive and negative parts."""
    rng = np.random.default_rng(seed)
    batches = [rng.standard_normal((size, 1, 4, 4)) for _ in range(count)]
    parts = [[np.maximum(sign * x, 0).mean((1, 2, 3)) for sign in (1, -1)] for x in batches]
    return [(x, np.stack(targets, 1)) for x, targets in zip(batches, parts, strict=True)]


def quiet():
    return Console(file=io.StringIO(), width=200)


class WithCounter(SGD):
    """An optimiser with a counter and averages of the parameters."""

    def __init__(self, net):
        super().__init__(net)
        self.steps = np.zeros((), np.int64)
        self.averages = {k: np.zeros_like(a) for k, a in net.named_parameters().items()}

    def state(self):
        averages = {f"average/{name}": array for name, array in self.averages.items()}
        return {**super().state(), **averages, "steps": self.steps}

    def step(self, grads, lr):
        super().step(grads, lr / (1 + int(self.steps)))
        self.steps += 1
        for name, array in self.net.named_parameters().items():
            self.averages[name] += array

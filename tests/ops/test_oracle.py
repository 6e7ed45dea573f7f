"""Comparison with PyTorch in float64: every op, and loss and gradients of whole nets.

Both sides sum the same products in different orders, so that only rounding differs: 1e-10 of the
largest number is about 1e5 roundings, and the longest sum here has about 1e4 terms.
"""

import numpy as np
import pytest

from minise import models, nn
from minise.ops import reference
from tests.nn.adapter import perturbed
from tests.ops.cases import OPS, direction, draw
from tests.ops.loops import over_backends, over_cases

torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
F = torch.nn.functional

REL_TOL = 1e-10


def conv2d(x, weight, bias, **settings):
    return F.conv2d(x, weight, bias, **settings)


def max_pool2d(x, *, kernel, **settings):
    return F.max_pool2d(x, kernel, **settings)


def avg_pool2d(x, *, kernel, **settings):
    return F.avg_pool2d(x, kernel, **settings)


def batch_norm2d(x, gamma, beta, *, running_mean, running_var, **settings):
    return F.batch_norm(x, running_mean, running_var, gamma, beta, **settings)


def hard_sigmoid(x):
    return F.relu6(x + 3) / 6  # F.hardsigmoid's backward rounds 1/6 to float32, for float64 too


def squeeze_excite(x, w1, b1, w2, b2, *, squeeze="avg", gate="sigmoid"):
    gates = dict(sigmoid=torch.sigmoid, tanh=torch.tanh, relu=torch.relu, hard_sigmoid=hard_sigmoid)
    if squeeze == "avg":
        z = F.adaptive_avg_pool2d(x, 1)
    else:
        z = F.adaptive_max_pool2d(x, 1) if squeeze == "max" else x
    h = torch.relu(F.conv2d(z, w1[:, :, None, None], b1))
    return x * gates[gate](F.conv2d(h, w2[:, :, None, None], b2))


def batch_norm2d_relu(x, gamma, beta, **settings):
    return torch.relu(batch_norm2d(x, gamma, beta, **settings))


def batch_norm2d_add_relu(x, gamma, beta, shortcut, **settings):
    return torch.relu(batch_norm2d(x, gamma, beta, **settings) + shortcut)


def se_block_tail(x, gamma, beta, w1, b1, w2, b2, shortcut, *, gate="sigmoid", **settings):
    y = batch_norm2d(x, gamma, beta, **settings)
    return torch.relu(squeeze_excite(y, w1, b1, w2, b2, gate=gate) + shortcut)


def channel_shuffle(x, *, groups):
    N, C, H, W = x.shape
    return x.view(N, groups, C // groups, H, W).transpose(1, 2).reshape(N, C, H, W)


def shake(x1, x2, *, alpha, beta):
    """Mix by alpha in forward and by beta in backward, as Gastaldi's code does for Torch."""
    alpha, beta = (share[:, None, None, None] for share in (alpha, beta))
    by_beta = beta * x1 + (1 - beta) * x2
    return by_beta + (alpha * x1 + (1 - alpha) * x2 - by_beta).detach()


ORACLES = {  # for ops without a PyTorch function of the same name and arguments
    "avg_pool2d": avg_pool2d,
    "batch_norm2d": batch_norm2d,
    "batch_norm2d_add_relu": batch_norm2d_add_relu,
    "batch_norm2d_relu": batch_norm2d_relu,
    "channel_scale": lambda x, s: x * s[:, :, None, None],
    "channel_shuffle": channel_shuffle,
    "concat": lambda *xs: torch.cat(xs, 1),
    "conv2d": conv2d,
    "dropout": lambda x, mask, *, p: x * mask / (1 - p),
    "flatten": lambda x: torch.flatten(x, 1),
    "global_avg_pool2d": lambda x: F.adaptive_avg_pool2d(x, 1)[:, :, 0, 0],
    "global_max_pool2d": lambda x: F.adaptive_max_pool2d(x, 1)[:, :, 0, 0],
    "hard_sigmoid": hard_sigmoid,
    "max_pool2d": max_pool2d,
    "se_block_tail": se_block_tail,
    "shake": shake,
    "softmax_cross_entropy": F.cross_entropy,
    "squeeze_excite": squeeze_excite,
}


def close(ours, theirs):
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape
    largest = max(1.0, abs(theirs).max()) if theirs.ndim == 0 else abs(theirs).max()
    assert abs(ours - theirs).max() <= REL_TOL * largest


def leaf(array):
    return torch.tensor(array, requires_grad=array.dtype.kind == "f")


def oracle(op):
    """Return the function of PyTorch for an op, or skip the test if there is none."""
    function = ORACLES.get(op) or getattr(torch, op, None) or getattr(F, op, None)
    return function or pytest.skip(
        f"{op}: neither torch nor torch.nn.functional has a function of this name: if PyTorch can "
        "compute the op, add a function to ORACLES of tests/ops/test_oracle.py"
    )


def test_every_oracle_is_of_an_op():
    assert set(ORACLES) <= set(OPS)


@over_backends
@over_cases
def test_op(ops, case):
    rng = np.random.default_rng(0)
    inputs, keywords = draw(case, rng)
    out, cache = getattr(ops, f"{case.op}_forward")(*inputs, **keywords)
    leaves = [leaf(a) for a in inputs]
    theirs = {k: torch.tensor(v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    expected = oracle(case.op)(*leaves, **theirs)
    close(out, expected)
    dout = direction(out, rng)
    expected.backward(torch.tensor(dout))
    for tensor, gradient in zip(
        leaves, getattr(ops, f"{case.op}_backward")(dout, cache), strict=True
    ):
        if gradient is not None:
            close(gradient, tensor.grad)
    if "running_var" in keywords:
        close(cache.running_mean, theirs["running_mean"])
        close(cache.running_var, theirs["running_var"])


# Whole nets in PyTorch, with the parameter names of minise.


class SELayer(torch.nn.Module):
    def __init__(self, channels, se):
        super().__init__()
        hidden = max(1, channels // se.reduction)
        self.fc = torch.nn.Sequential(
            torch.nn.Linear(channels, hidden, bias=se.bias),
            torch.nn.ReLU(),
            torch.nn.Linear(hidden, channels, bias=se.bias),
            torch.nn.Sigmoid(),
        )

    def forward(self, x):
        return x * self.fc(x.mean((2, 3)))[:, :, None, None]


class Pad(torch.nn.Module):
    def __init__(self, missing, stride):
        super().__init__()
        self.missing, self.stride = missing, stride

    def forward(self, x):
        return F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.missing))


def conv(c_in, c_out, kernel, stride=1):
    return torch.nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False)


class Block(torch.nn.Module):
    def __init__(self, c_in, c_out, stride, shortcut, se):
        super().__init__()
        self.conv1, self.bn1 = conv(c_in, c_out, 3, stride), torch.nn.BatchNorm2d(c_out)
        self.conv2, self.bn2 = conv(c_out, c_out, 3), torch.nn.BatchNorm2d(c_out)
        self.site = se and se.site
        if se:
            self.se = SELayer(c_in if se.site == "pre" else c_out, se)
        self.downsample = torch.nn.Sequential()
        if stride != 1 and shortcut == "A":
            self.downsample = Pad(c_out - c_in, stride)
        elif stride != 1:
            self.downsample = torch.nn.Sequential(
                conv(c_in, c_out, 1, stride), torch.nn.BatchNorm2d(c_out)
            )

    def at(self, site, x):
        return self.se(x) if site == self.site else x

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(self.at("pre", x))))
        y = self.at("standard", self.bn2(self.conv2(self.at("3x3", y))))
        return self.at("post", torch.relu(y + self.at("identity", self.downsample(x))))


class PreAct(torch.nn.Module):
    def __init__(self, c_in, c_out, stride, shortcut, se):
        super().__init__()
        self.bn1, self.conv1 = torch.nn.BatchNorm2d(c_in), conv(c_in, c_out, 3, stride)
        self.bn2, self.conv2 = torch.nn.BatchNorm2d(c_out), conv(c_out, c_out, 3)
        if se:
            self.se = SELayer(c_out, se)
        projects = stride != 1 or c_in != c_out
        self.downsample = torch.nn.Sequential(*([conv(c_in, c_out, 1, stride)] if projects else []))

    def forward(self, x):
        a = torch.relu(self.bn1(x))
        y = self.conv2(torch.relu(self.bn2(self.conv1(a))))
        y = self.se(y) if hasattr(self, "se") else y
        return y + self.downsample(a if len(self.downsample) else x)


class Twin(torch.nn.Module):
    def __init__(self, n, widths, block, shortcut="B", se=None):
        super().__init__()
        self.first = block is Block
        self.conv1 = conv(3, 16, 3)
        self.bn1 = torch.nn.BatchNorm2d(16 if self.first else widths[-1])
        c_in = 16
        for k, width in enumerate(widths, 1):
            blocks = []
            for i in range(n):
                stride = 2 if k > 1 and i == 0 else 1
                blocks.append(block(c_in, width, stride, shortcut, se))
                c_in = width
            setattr(self, f"layer{k}", torch.nn.Sequential(*blocks))
        self.fc = torch.nn.Linear(c_in, 10)

    def forward(self, x):
        y = self.conv1(x)
        y = torch.relu(self.bn1(y)) if self.first else y
        y = self.layer3(self.layer2(self.layer1(y)))
        y = y if self.first else torch.relu(self.bn1(y))
        return self.fc(y.mean((2, 3)))


def same_step(net, twin, size=32, batch=4):
    """Compare loss, all gradients and running statistics of a training step."""
    rng = np.random.default_rng(1)
    perturbed(net, rng)
    twin.double().load_state_dict(
        {
            name: torch.tensor(a)
            for name, a in {**net.named_parameters(), **net.named_state()}.items()
        }
        | {k: v for k, v in twin.state_dict().items() if k.endswith("num_batches_tracked")},
        strict=True,
    )
    x, labels = rng.standard_normal((batch, 3, size, size)), rng.integers(0, 10, batch)
    logits, cache = net.forward(x, training=True)
    loss, loss_cache = reference.softmax_cross_entropy_forward(logits, labels)
    dlogits, _ = reference.softmax_cross_entropy_backward(np.ones_like(loss), loss_cache)
    dx, grads = net.backward(dlogits, cache)
    theirs = torch.tensor(x, requires_grad=True)
    expected = F.cross_entropy(twin.train()(theirs), torch.tensor(labels))
    expected.backward()
    close(loss, expected)
    close(dx, theirs.grad)
    assert grads.keys() == {name for name, _ in twin.named_parameters()}
    for name, param in twin.named_parameters():
        close(grads[name], param.grad)
    after = twin.state_dict()
    for name, array in net.named_state().items():
        close(array, after[name])
    close(net.predict(x), twin.eval()(torch.tensor(x)))


@pytest.mark.parametrize("shortcut", ["A", "B"])
@pytest.mark.parametrize(
    "se", [None, nn.SE(), nn.SE(reduction=4, bias=False)], ids=["plain", "r16", "r4"]
)
def test_resnet20(shortcut, se):
    name = "se_resnet20" if se else "resnet20"
    net = models.build(name, se=se, shortcut=shortcut, dtype=np.float64)
    same_step(net, Twin(3, (16, 32, 64), Block, shortcut, se))


@pytest.mark.parametrize("site", ["pre", "post", "identity", "3x3"])
def test_other_sites(site):
    se = nn.SE(reduction=4, site=site)
    net = models.build("se_resnet8", se=se, dtype=np.float64)
    same_step(net, Twin(1, (16, 32, 64), Block, "B", se), size=16)


@pytest.mark.parametrize("se", [None, nn.SE(reduction=4)], ids=["plain", "se"])
def test_wide_resnet(se):
    build = nn.Build(rng=np.random.default_rng(0), dtype=np.float64, se=se)
    net = models.wide_resnet(2, 2, 10, build)
    same_step(net, Twin(2, (32, 64, 128), PreAct, "B", se), size=16)

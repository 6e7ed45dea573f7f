"""A user's net, built from minise's units: it trains, folds, and works with cost_of and walk."""

import numpy as np
import pytest

from minise import nn, walk
from minise.analysis import cost_of
from minise.ops import wrap
from minise.ops.backend import load_ops
from minise.train import SGD, SoftmaxCrossEntropy, train_step
from tests.nn.adapter import perturbed

COUNTS = 3, 4, 6, 3


def se_resnet50(build, counts=COUNTS, width=64, classes=1000, kernel=7):
    """Return SE-ResNet-50 for images (N, 3, 224, 224), or a variant with other counts."""
    widths = [width * 2**k for k in range(len(counts))]
    return build.chain(
        ("conv1", build.conv(3, width, kernel, stride=2)),
        ("bn1", build.norm_relu(width)),
        ("maxpool", nn.MaxPool2d(3, stride=2, padding=1, ops=build.ops)),
        *nn.stages(nn.bottleneck, counts, widths, width, build, expansion=4),
        ("avgpool", nn.GlobalAvgPool2d(ops=build.ops)),
        ("fc", build.linear(4 * widths[-1], classes)),
    )


def thin(**settings):
    """Return a net of 4 units with 2 to 16 inner channels, from 24x24 images to 3 classes."""
    settings = {"rng": 0, "se": nn.SE(reduction=4), "dtype": np.float64, **settings}
    return se_resnet50(nn.Build(**settings), (1, 1, 1, 1), 2, 3)


def batch(count=6):
    """Return images in which one channel is brighter, and labels with that channel."""
    rng = np.random.default_rng(0)
    labels = np.arange(count) % 3
    x = rng.standard_normal((count, 3, 24, 24))
    x[np.arange(count), labels] += 1
    return x, labels


def test_it_has_the_parameters_of_the_paper():
    """28.1 million: 25,557,032 of ResNet-50, and of each SE block 2 C^2 / 16 + C / 16 + C."""
    net = se_resnet50(nn.Build(rng=0, se=nn.SE(reduction=16)))
    gates = [(count, 4 * width) for count, width in zip(COUNTS, (64, 128, 256, 512), strict=True)]
    gated = sum(count * (2 * C * C // 16 + C // 16 + C) for count, C in gates)
    assert net.parameter_count == 25_557_032 + gated == 28_088_024
    names = net.named_parameters()
    assert names["layer1.0.downsample.0.weight"].shape == (256, 64, 1, 1)
    assert names["layer4.2.se.fc.0.weight"].shape == (128, 2048)
    assert names["fc.weight"].shape == (1000, 2048)
    assert net["layer2.0.conv2"].stride == (2, 2)  # of the 3x3 convolution
    assert net["layer1.0.conv2"].stride == (1, 1)


def test_a_variant_trains():
    net, (x, labels) = thin(), batch()
    optimiser = SGD(net, momentum=0.9)
    losses = [
        train_step(net, SoftmaxCrossEntropy(), optimiser, [(x, labels)], 0.05)["loss"]
        for _ in range(12)
    ]
    assert losses[-1] < losses[0] / 2


@pytest.mark.parametrize("ops", ["reference", "jit"])
@pytest.mark.parametrize("se", [None, nn.SE(4), nn.SE(4, site="3x3"), nn.SE(4, squeeze="max")])
def test_a_variant_folds(ops, se):
    """predict and inference agree to half of all digits, as in the tests of whole nets."""
    net, (x, _) = perturbed(thin(se=se), np.random.default_rng(1)), batch()
    wrap.attach(net, load_ops(ops))
    expected, logits = net.predict(x), net.inference()(x)
    assert abs(logits - expected).max() < np.sqrt(np.finfo(float).eps) * abs(expected).max()


def test_a_variant_is_costed():
    """Convolutions on 12x12 after the first, 6x6 after the pool, then 3x3, 2x2 and 1x1."""
    net = thin()
    cost = cost_of(net, (24, 24))
    assert cost.parameters == net.parameter_count
    macs = {row.layer: row.macs for row in cost.layers}
    assert macs["conv1"] == 12 * 12 * 2 * 3 * 7 * 7
    assert macs["layer1.0.conv1"] == 6 * 6 * 2 * 2
    assert macs["layer1.0.downsample.0"] == 6 * 6 * 8 * 2
    assert macs["layer2.0.conv2"] == 3 * 3 * 4 * 4 * 9
    assert macs["layer4.0.conv3"] == 64 * 16
    assert macs["layer3.0.se"] == 2 * 2 * 32 + 2 * 32 * 8
    assert macs["fc"] == 64 * 3


@pytest.mark.long
def test_a_variant_is_walked():
    """The smallest variant: a 3x3 kernel, one unit with one inner channel, on 2x2 images."""
    net = se_resnet50(nn.Build(rng=0, se=nn.SE(4), dtype=np.float64), (1,), 1, 2, 3)
    x = np.random.default_rng(0).standard_normal((2, 3, 2, 2))
    trace = walk.trace(net, x)
    assert trace.steps

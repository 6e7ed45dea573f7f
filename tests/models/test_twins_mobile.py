"""VGG, MobileNet, ShuffleNet and DenseNet in float64 against twins written in PyTorch."""

import numpy as np
import pytest

from minise import nn
from minise.models.densenet import densenet121
from minise.models.mobilenet import mobilenet
from minise.models.shufflenet import shufflenet
from minise.models.vgg import vgg16
from minise.ops import jit

pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
from minise.bench.peers.twins.densenet import DenseNet121
from minise.bench.peers.twins.mobilenet import MobileNet
from minise.bench.peers.twins.shufflenet import ShuffleNet
from minise.bench.peers.twins.vgg import VGG16
from tests.models.twins.compare import assert_twins

pytestmark = pytest.mark.slow

CLASSES = 5
reductions = pytest.mark.parametrize("reduction", [None, 4], ids=["plain", "se"])


def build(width, reduction, **settings):
    """Return settings of a narrow net in float64."""
    se = None if reduction is None else nn.SE(reduction)
    return nn.Build(rng=0, dtype=np.float64, se=se, width=width, **settings)


@reductions
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_mobilenet(stem, reduction):
    net = mobilenet(CLASSES, build(1 / 16, reduction), stem=stem)
    twin = MobileNet(1 / 16, CLASSES, 2 if stem == "imagenet" else 1, reduction)
    assert_twins(net, twin, (2, 3, 70, 64) if stem == "imagenet" else (2, 3, 32, 35))


@reductions
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_shufflenet(stem, reduction):
    net = shufflenet(CLASSES, build(1 / 4, reduction), stem=stem)
    twin = ShuffleNet(1 / 4, CLASSES, stem == "cifar", reduction)
    images = (2, 3, 70, 64) if stem == "imagenet" else (2, 3, 18, 16)
    assert_twins(net, twin, images, cancelled="bn2.bias")  # no ReLU between bn2 and bn3


@reductions
@pytest.mark.parametrize("stem", ["imagenet", "cifar"])
def test_densenet121(stem, reduction):
    net = densenet121(CLASSES, build(1 / 16, reduction), stem=stem)
    twin = DenseNet121(1 / 16, CLASSES, stem == "cifar", reduction)
    assert_twins(net, twin, (2, 3, 70, 64) if stem == "imagenet" else (2, 3, 18, 16))


@reductions
@pytest.mark.parametrize(("stem", "size"), [("imagenet", (64, 100)), ("cifar", (64, 70))])
def test_vgg16(stem, size, reduction):
    """Masks of dropout are equal; 64x100 images end as 2x3, so that a wrong order would show."""
    net = vgg16(CLASSES, build(1 / 32, reduction), image_size=size, stem=stem)
    pixels = 64 * 96 if stem == "imagenet" else None
    assert_twins(net, VGG16(1 / 32, CLASSES, pixels, reduction), (2, 3, *size))


def test_vgg16_flattens_in_the_order_of_channels_also_from_channels_last_memory():
    net = vgg16(CLASSES, build(1 / 8, None, ops=jit), image_size=(64, 96))
    x = np.random.default_rng(0).standard_normal((2, 3, 64, 96))
    features = net["features"].predict(x)
    assert not features.flags.c_contiguous
    assert_twins(net, VGG16(1 / 8, CLASSES, 64 * 96), x.shape)

"""ResNet, ResNeXt and SENet-154 compute what their PyTorch twins compute, with all gradients."""

import numpy as np
import pytest

from minise import models

pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
from minise.bench.peers.twins.resnet import Basic, ResNet, resnext, v1, v1_5
from minise.bench.peers.twins.senet import SENet
from tests.models.twins.compare import assert_twins

pytestmark = pytest.mark.slow

CLASSES, REDUCTION = 5, 4
IMAGES = 3, 3, 33, 40  # both pools meet images of even and odd sizes
N18, N50 = (2, 2, 2, 2), (3, 4, 6, 3)


def net(name, width, **settings):
    if name.startswith("se_"):
        settings["reduction"] = REDUCTION
    dtype = np.float64
    return models.build(name, num_classes=CLASSES, dtype=dtype, width=width / 64, **settings)


@pytest.mark.parametrize(
    ("name", "geometry", "unit"),
    [
        ("resnet50", "caffe", v1),
        ("resnet50", "torchvision", v1_5),
        ("resnext50_32x4d", "caffe", resnext(2)),
        ("resnext50_32x4d", "torchvision", resnext(2)),
    ],
)
@pytest.mark.parametrize("se", [False, True])
def test_bottlenecks(name, geometry, unit, se):
    ours = net(f"se_{name}" if se else name, 4, geometry=geometry)
    reduction = REDUCTION if se else None
    assert_twins(ours, ResNet(unit, N50, 4, CLASSES, reduction, geometry=geometry), IMAGES)


@pytest.mark.parametrize("geometry", ["caffe", "torchvision"])
def test_basic_blocks(geometry):
    ours = net("se_resnet18", 4, geometry=geometry)
    twin = ResNet(Basic, N18, 4, CLASSES, REDUCTION, expansion=1, geometry=geometry)
    assert_twins(ours, twin, IMAGES)


def test_stem_for_small_images():
    ours = net("se_resnet50", 4, stem="cifar")
    assert_twins(ours, ResNet(v1, N50, 4, CLASSES, REDUCTION, geometry=None), (3, 3, 9, 8))


@pytest.mark.parametrize("geometry", ["caffe", "torchvision"])
def test_senet154(geometry):
    ours = net("se_senet154", 2, geometry=geometry)
    assert_twins(ours, SENet(2, CLASSES, REDUCTION, geometry), IMAGES)


def test_the_comparison_bites():
    """The other geometry has the same parameters, but not the same logits."""
    twin = ResNet(v1_5, N50, 4, CLASSES, geometry="torchvision")
    with pytest.raises(AssertionError, match="logits"):
        assert_twins(net("resnet50", 4, geometry="caffe"), twin, IMAGES)

"""BN-Inception and Inception-ResNet-v2 equal their PyTorch twins: logits and all gradients."""

import numpy as np
import pytest

from minise import models

pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
from minise.bench.peers.twins.inception import BNInception
from tests.models.twins.compare import assert_twins
from tests.models.twins.inception_resnet import InceptionResNetV2

pytestmark = pytest.mark.slow


def small(name, width, **settings):
    """Return a net with three classes in float64."""
    return models.build(name, num_classes=3, rng=2, dtype=np.float64, width=width, **settings)


@pytest.mark.parametrize("reduction", [None, 4])
def test_bn_inception(reduction):
    se = {"reduction": reduction} if reduction else {}
    net = small(f"{'se_' if se else ''}bn_inception", 1 / 32, **se)
    assert_twins(net, BNInception(1 / 32, 3, reduction), (2, 3, 63, 97))


@pytest.mark.parametrize(("reduction", "site"), [(None, "standard"), (4, "standard"), (4, "all")])
def test_inception_resnet_v2(reduction, site):
    """Images that leave 2x2 pixels for the last units: with fewer, rounding errors grow.

    The bias of block8, which has no ReLU, is subtracted by conv2d_7b's normalisation, unless gates
    multiply it.
    """
    se = {"reduction": reduction, "site": site} if reduction else {}
    net = small(f"{'se_' if se else ''}inception_resnet_v2", 1 / 16, **se)
    twin = InceptionResNetV2(3, reduction, site == "all")
    assert_twins(net, twin, (2, 3, 107, 123), cancelled=None if se else "block8.conv2d.bias")

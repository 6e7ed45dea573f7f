"""The gates of a net, and the share of their variance that lies between classes."""

import numpy as np
import pytest

from minise import data, models
from minise.analysis.gates import class_means, class_share, gates_of, null_shares
from minise.nn import SE, Chain, Conv2d
from minise.ops import reference
from minise.ops.wrap import record


@pytest.fixture(scope="module")
def images():
    return (data.shapes10("test", n=6).images / 255 - 0.5).astype(np.float32)


@pytest.mark.parametrize("site", ["standard", "pre"])
def test_gates_are_those_of_the_forward_pass(images, site):
    net = models.build("se_resnet8", reduction=4, site=site)
    blocks = gates_of(net, images, batch_size=4)
    assert list(blocks) == [f"layer{k}.0.se" for k in (1, 2, 3)]
    width = 64 if site == "standard" else 32
    assert blocks["layer3.0.se"].s.shape == (6, width)
    assert blocks["layer3.0.se"].h.shape == (6, width // 4)
    own = models.build("se_resnet8", reduction=4, site=site, ops=record(reference))
    own.forward(images, training=False)
    caches = [call.cache for call in own.ops.calls if hasattr(call.cache, "gates")]
    for gates, cache in zip(blocks.values(), caches, strict=True):
        np.testing.assert_allclose(gates.s, cache.gates.s[:, :, 0, 0], rtol=1e-5)


def test_a_net_without_gates_or_with_gates_per_pixel_is_refused(images):
    with pytest.raises(ValueError, match="net has no SE block"):
        gates_of(Chain(Conv2d(3, 4, 3)), images)
    with pytest.raises(ValueError, match="expected one gate per image and channel"):
        gates_of(models.build("se_resnet8", se=SE(reduction=4, squeeze="none")), images)


def test_share_by_hand():
    labels = np.array([0, 0, 1, 1, 1])
    s = np.array([[1.0], [3.0], [4.0], [5.0], [7.0]])  # mean 4; classes 2 and 16/3
    between = 2 * (2 - 4) ** 2 + 3 * (16 / 3 - 4) ** 2
    total = 9 + 1 + 0 + 1 + 9
    np.testing.assert_allclose(class_means(s, labels), [[2], [16 / 3]])
    np.testing.assert_allclose(class_share(s, labels), [between / total])
    np.testing.assert_array_equal(class_share(np.ones((5, 2)), labels), 0)


def test_permuted_labels_reach_what_chance_gives():
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(10), 50)
    s = rng.random((500, 16))
    null = null_shares(s, labels, rng, permutations=50)
    # eta^2 of independent values has the mean (classes - 1) / (images - 1)
    assert abs(null.mean() - 9 / 499) < 0.004
    informed = s + 0.5 * (labels == 3)[:, None]
    assert np.median(class_share(informed, labels)) > 3 * null.max()

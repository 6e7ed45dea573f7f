"""Shake-Shake in float64 against a twin written in PyTorch, with given shares."""

import numpy as np
import pytest

from minise import nn
from minise.models.shake_shake import UNITS, shake_shake

pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")
from tests.models.twins.compare import assert_twins
from tests.models.twins.shake_shake import ShakeShake

pytestmark = pytest.mark.slow

CLASSES, N = 5, 3


def with_shares(net, pairs):
    """Return the net whose joins use given shares in training, one pair for each of them."""

    def give(layer, pair):
        own = layer.shares
        layer.shares = lambda x, training: pair if training else own(x, False)

    shakes = [layer for _, layer in net.layers() if isinstance(layer, nn.Shake)]
    for layer, pair in zip(shakes, pairs, strict=True):
        give(layer, pair)
    return net


@pytest.mark.parametrize("equal", [True, False], ids=["beta is alpha", "beta is another"])
@pytest.mark.parametrize(
    ("se", "size"),
    [(None, (8, 8)), (nn.SE(4), (9, 7)), (nn.SE(4, site="mix"), (6, 11))],
    ids=["plain", "se on each branch", "se after the mix"],
)
def test_shake_shake(se, size, equal):
    rng = np.random.default_rng(2)
    pairs = [tuple(rng.random((2, N))) for _ in range(sum(UNITS))]
    pairs = [(alpha, alpha if equal else beta) for alpha, beta in pairs]
    net = shake_shake(32, CLASSES, nn.Build(rng=0, dtype=np.float64, se=se, width=1 / 4))
    twin = ShakeShake(4, (8, 16, 32), CLASSES, pairs, se and se.reduction, se and se.site)
    assert_twins(with_shares(net, pairs), twin, (N, 3, *size))

"""The first steps of training as literal losses: any change of any op on the way shows here."""

import numpy as np
import pytest

from minise import models
from tests.ops.cases import BACKENDS

# an SE-ResNet-8 in float64, four images of 8 x 8, plain SGD of rate 0.1
LOSSES = [
    1.9500395032047786,
    0.9609133701312687,
    0.5741155158389467,
    0.38592151854377066,
    0.2847519418472622,
    0.21846892266238968,
    0.17618663766992393,
    0.145208018288121,
    0.12329466378666007,
    0.10640181936992868,
]


@pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
def test_ten_losses(ops):
    rng = np.random.default_rng(0)
    net = models.build("se_resnet8", reduction=4, ops=ops, dtype=np.float64, rng=rng)
    x, labels = rng.standard_normal((4, 3, 8, 8)), np.array([3, 1, 4, 1])
    losses = []
    for _ in range(len(LOSSES)):
        logits = net.forward(x, training=True)
        loss, cache = ops.softmax_cross_entropy_forward(logits, labels)
        dlogits, _ = ops.softmax_cross_entropy_backward(np.ones_like(loss), cache)
        net.backward(dlogits)
        for name, param in net.named_parameters().items():
            param -= 0.1 * net.named_grads()[name]
        losses.append(float(loss))
    # ten steps through twelve layers, whose sums have at most 64 * 9 terms
    np.testing.assert_allclose(losses, LOSSES, rtol=10 * 12 * 576 * np.finfo(float).eps)

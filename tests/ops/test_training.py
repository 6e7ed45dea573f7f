"""The first steps of training as literal losses: any change of any op on the way shows here."""

import numpy as np
import pytest

from minise import models
from minise.data import shapes10
from minise.ops import jit, reference
from minise.train import SGD, SoftmaxCrossEntropy, train_step
from tests.ops.cases import BACKENDS, EPS

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
        logits, cache = net.forward(x, training=True)
        loss, loss_cache = ops.softmax_cross_entropy_forward(logits, labels)
        dlogits, _ = ops.softmax_cross_entropy_backward(np.ones_like(loss), loss_cache)
        _, grads = net.backward(dlogits, cache)
        for name, param in net.named_parameters().items():
            param -= 0.1 * grads[name]
        losses.append(float(loss))
    # ten steps through twelve layers, whose sums have at most 64 * 9 terms
    np.testing.assert_allclose(losses, LOSSES, rtol=10 * 12 * 576 * np.finfo(float).eps)


def curve(ops, moved=0):
    """Return 50 losses of an SE-ResNet-8 on shapes10; moved draws one rounding of each weight."""
    rng, rounding = np.random.default_rng(0), np.random.default_rng(moved)
    net = models.build("se_resnet8", reduction=4, ops=ops, dtype=np.float64, rng=rng)
    if moved:
        for param in net.named_parameters().values():
            param *= 1 + EPS * rounding.choice([-1, 1], param.shape)
    data = shapes10("train", n=50 * 8, seed=0)
    optimiser, losses = SGD(net, momentum=0.9, nesterov=True), []
    objective = SoftmaxCrossEntropy(ops)
    for step in range(50):
        these = slice(8 * step, 8 * step + 8)
        x = data.images[these].astype(np.float64) / 127.5 - 1
        batch = x, data.labels[these]
        losses.append(train_step(net, objective, optimiser, [batch], 0.1)["loss"])
    return np.array(losses)


@pytest.mark.slow
def test_fifty_losses_are_the_references():
    """Training makes a rounding grow: by how much, runs that begin one rounding apart tell.

    A back end rounds in every sum of every step, in layers of up to 64 * 9 terms, where those runs
    were rounded once; rounding errors of both kinds grow alike.
    """
    expected = curve(reference)
    spread = np.max([abs(curve(reference, moved) - expected) for moved in (1, 2, 3)], axis=0)
    grown = np.maximum.accumulate(spread) + EPS
    assert grown.max() < 1e-6  # else the bound would hold anything
    apart = abs(curve(jit) - expected)
    assert (apart <= 64 * 9 * grown).all()

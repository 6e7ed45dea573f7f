"""The losses of the first training steps as literals, to detect any change of an op."""

import numpy as np
import pytest

from minise import models
from minise.data import shapes10
from minise.ops import jit, reference
from minise.train import SGD, SoftmaxCrossEntropy, train_step
from tests.ops.cases import BACKENDS, EPS

# an SE-ResNet-8 in float64, four images of 8 x 8, plain SGD with learning rate 0.1
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


def loss_curve(ops, perturbation=0):
    """Return 50 losses of an SE-ResNet-8 on shapes10.

    A perturbation above 0 is the seed of random changes of all weights by eps.
    """
    rng, signs = np.random.default_rng(0), np.random.default_rng(perturbation)
    net = models.build("se_resnet8", reduction=4, ops=ops, dtype=np.float64, rng=rng)
    if perturbation:
        for param in net.named_parameters().values():
            param *= 1 + EPS * signs.choice([-1, 1], param.shape)
    data = shapes10("train", n=50 * 8, seed=0)
    optimiser, losses = SGD(net, momentum=0.9, nesterov=True), []
    objective = SoftmaxCrossEntropy(ops)
    for step in range(50):
        rows = slice(8 * step, 8 * step + 8)
        x = data.images[rows].astype(np.float64) / 127.5 - 1
        batch = x, data.labels[rows]
        losses.append(train_step(net, objective, optimiser, [batch], 0.1)["loss"])
    return np.array(losses)


@pytest.mark.long
def test_fifty_losses_equal_the_references():
    """Training amplifies rounding errors; runs with weights perturbed by eps measure how much.

    These runs have one perturbation, a back end rounds in every sum of every step, in layers with
    up to 64 * 9 terms; both kinds of errors grow alike.
    """
    expected = loss_curve(reference)
    spread = np.max([abs(loss_curve(reference, seed) - expected) for seed in (1, 2, 3)], axis=0)
    amplified = np.maximum.accumulate(spread) + EPS
    assert amplified.max() < 1e-6  # a larger bound would prove nothing
    error = abs(loss_curve(jit) - expected)
    assert (error <= 64 * 9 * amplified).all()

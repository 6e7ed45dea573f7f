"""Compare a net with its PyTorch twin in float64: logits, running statistics and all gradients.

A twin is a torch.nn.Module, written from the paper, whose parameters and buffers have the names of
the net's; here they get the net's values. Dropout's masks are those of the net.
"""

import copy

import numpy as np
import pytest

from minise.nn import Dropout
from tests.nn.adapter import perturbed, with_typical_statistics

torch = pytest.importorskip("torch", reason="needs torch: pip install -e '.[oracle]'")

# Both sides sum the same products in different orders. A sum of n terms differs by about
# n * eps of the largest; n is at most about 1e5 (a weight's gradient), eps is 2e-16, and a net's
# normalisations and gates amplify it by less than 50.
REL_TOL = 1e-9


class Masked(torch.nn.Module):
    """Dropout with the mask that the net's layer draws in its next forward pass."""

    def __init__(self, layer):
        super().__init__()
        self.layer = copy.deepcopy(layer)

    def forward(self, x):
        if not self.training:
            return x
        return x * torch.tensor(self.layer.forward(np.ones(x.shape), True)[0])


def loaded(twin, net):
    """Return the twin in float64 with the net's parameters, statistics and masks."""
    drops = {
        name: layer for name, layer in net.named_layers().items() if isinstance(layer, Dropout)
    }
    for name, layer in drops.items():
        twin.set_submodule(name, Masked(layer))
    arrays = {**net.named_parameters(), **net.named_state()}
    masks = {f"{name}.{key}" for name in drops for key in ("seed", "draws")}
    counters = {k: v for k, v in twin.state_dict().items() if k.endswith("num_batches_tracked")}
    state = {name: torch.tensor(array) for name, array in arrays.items() if name not in masks}
    twin.double().load_state_dict(state | counters, strict=True)
    return twin


def assert_close(name, ours, theirs, scale=None):
    """Assert that two arrays differ by at most REL_TOL of the largest entry, or of scale's."""
    theirs = theirs.detach().numpy()
    assert ours.shape == theirs.shape, name
    error, largest = abs(ours - theirs).max(), abs(theirs if scale is None else scale).max()
    assert error <= REL_TOL * largest, f"{name}: {error:.1e} of {largest:.1e}"


def assert_twins(net, twin, images=(2, 3, 32, 32), cancelled=None):
    """Assert equal logits and gradients, in evaluation and training, and equal statistics.

    Biases whose names end with `cancelled` are subtracted by a later normalisation: in training
    their gradients are 0 but for rounding, on the scale of the gradient of the weight beside them.
    """
    rng = np.random.default_rng(1)
    net = with_typical_statistics(perturbed(net, rng), rng.standard_normal(images))
    twin = loaded(twin, net)
    for training in (False, True):
        twin.train(training).zero_grad()
        x = rng.standard_normal(images)
        leaf = torch.tensor(x, requires_grad=True)
        logits, cache = net.forward(x, training)
        expected = twin(leaf)
        assert_close("logits", logits, expected)
        dlogits = rng.standard_normal(logits.shape)
        dx, grads = net.backward(dlogits, cache)
        expected.backward(torch.tensor(dlogits))
        assert_close("x", dx, leaf.grad)
        named = dict(twin.named_parameters())
        assert grads.keys() == named.keys()
        nonzero = np.mean([gradient.any() for gradient in grads.values()])
        assert nonzero > 0.9, f"{nonzero:.0%} of the gradients are nonzero: the rest shows nothing"
        for name, gradient in grads.items():
            zero = training and cancelled is not None and name.endswith(cancelled)
            scale = grads[name.replace("bias", "weight")] if zero else None
            assert_close(name, gradient, named[name].grad, scale)
    buffers = dict(twin.named_buffers())
    for name, array in net.named_state().items():
        if name in buffers:
            assert_close(name, array, buffers[name])

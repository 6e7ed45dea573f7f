"""A layer as a pair of functions, and layers with generic parameters and statistics."""

import numpy as np

from minise import nn
from minise.gradcheck import adapters


def as_functions(layer, training):
    """Return forward(x, *params), backward(dout, cache) and the parameters' values."""
    forward, backward, params = adapters.layer(layer, training)
    return forward, backward, list(params.values())


def perturbed(layer, rng):
    """Perturb parameters and running statistics, initially 0 or 1, in place; return the layer."""
    for array in layer.named_parameters().values():
        array += 0.1 * rng.standard_normal(array.shape)
    for array in layer.named_state().values():
        if array.dtype.kind == "f":  # a counter is not changed
            array += np.abs(rng.standard_normal(array.shape))
    return layer


def with_typical_statistics(net, x):
    """Set running statistics to those of a batch, so that evaluation is like training.

    With others nearly every ReLU of a deep net is 0, and the logits do not depend on x.
    """
    norms = [layer for _, layer in net.layers() if isinstance(layer, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    net.forward(x, training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return net

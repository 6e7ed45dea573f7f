"""A layer seen as a pair of functions of its input and parameters, so that it can be checked."""

import numpy as np


def as_functions(layer, training):
    """Return forward(x, *params), backward(dout, cache) and the parameters' values.

    Every forward starts from the running statistics that the layer has now, in the dtype of x.
    """
    layers = layer.named_layers().values()
    slots = [(below, key) for below in layers for key in below.params]
    states = [(below, key, below.state[key].copy()) for below in layers for key in below.state]

    def forward(x, *params):
        for (below, key), value in zip(slots, params, strict=True):
            below.params[key] = value
        for below, key, value in states:
            below.state[key] = value.astype(x.dtype)
        return layer.forward(x, training), None

    def backward(dout, cache):
        dx = layer.backward(dout)
        return dx, *(below.grads[key] for below, key in slots)

    return forward, backward, [below.params[key] for below, key in slots]


def shaken(layer, rng):
    """Move every parameter and running statistic off its special start (0 or 1), in place."""
    for array in layer.named_parameters().values():
        array += 0.1 * rng.standard_normal(array.shape)
    for array in layer.named_state().values():
        array += np.abs(rng.standard_normal(array.shape))
    return layer

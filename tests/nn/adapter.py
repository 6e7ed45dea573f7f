"""A layer seen as a pair of functions, and moved off its special start."""

import numpy as np

from minise.gradcheck import adapters


def as_functions(layer, training):
    """Return forward(x, *params), backward(dout, cache) and the parameters' values."""
    forward, backward, params = adapters.layer(layer, training)
    return forward, backward, list(params.values())


def shaken(layer, rng):
    """Move parameters and running statistics off their special start (0 or 1), in place."""
    for array in layer.named_parameters().values():
        array += 0.1 * rng.standard_normal(array.shape)
    for array in layer.named_state().values():
        if array.dtype.kind == "f":  # a counter stays
            array += np.abs(rng.standard_normal(array.shape))
    return layer

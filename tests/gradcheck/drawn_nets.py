"""Random ReLU nets with a right backward, which a check must never call wrong."""

from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

RELUS = (
    lambda z: np.where(z.real > 0, z, 0),
    lambda z: np.maximum(z, 0),
    lambda z: z * (z > 0),
)


class Net(NamedTuple):
    """A net as forward and backward, with inputs and branches."""

    forward: Any
    backward: Any
    inputs: list[Any]
    names: list[str]
    branches: Any
    scale: float  # standard deviation of the weights
    ends_in_a_loss: bool  # False: out is logits


def drawn_net(seed: int, *, real: bool = False) -> Net:
    """Return a net of 2 to 8 layers with weights of size 1e-6 to 1 and zero or small biases.

    If real is True, forward drops imaginary parts, so that no complex step is possible.
    """
    rng = np.random.default_rng(seed)
    layers, scale = int(rng.integers(2, 9)), float(10 ** rng.uniform(-6, 0))
    bias = float(10 ** rng.uniform(-6, -1)) * int(rng.integers(2))
    N, widths = int(rng.integers(1, 5)), rng.integers(3, 25, layers + 1)
    ends_in_a_loss, relu = bool(rng.integers(2)), RELUS[rng.integers(3)]
    weights = [scale * rng.standard_normal(pair) for pair in pairwise(widths)]
    biases = [bias * rng.standard_normal(width) for width in widths[1:]]
    x, labels = rng.standard_normal((N, widths[0])), rng.integers(0, widths[-1], N)

    def forward(x, *parameters):
        if real:
            x, *parameters = (array.real for array in (x, *parameters))
        weights, biases = parameters[:layers], parameters[layers:]
        values = [x]
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            z = values[-1] @ weight + bias
            values.append(z if k == layers - 1 else relu(z))
        if not ends_in_a_loss:
            return values[-1], (values, weights, None)
        shifted = values[-1] - values[-1].max(axis=1, keepdims=True)
        logprob = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return np.asarray(-logprob[np.arange(N), labels].mean()), (values, weights, logprob)

    def backward(dout, cache):
        values, weights, logprob = cache
        dz = dout
        if ends_in_a_loss:
            dz = np.exp(logprob)
            dz[np.arange(N), labels] -= 1
            dz = dz * dout / N
        dweights, dbiases = [], []
        for k in reversed(range(layers)):
            dweights.insert(0, values[k].T @ dz)
            dbiases.insert(0, dz.sum(axis=0))
            dz = dz @ weights[k].T
            if k:
                dz = dz * (values[k] > 0)
        return dz, *dweights, *dbiases

    def branches(cache):
        values = cache[0]
        parts = [(value > 0).ravel() for value in values[1:-1]]
        return np.concatenate([*parts, values[-1].argmax(axis=1)]).astype(int)

    names = ["x", *(f"weight{k}" for k in range(layers)), *(f"bias{k}" for k in range(layers))]
    inputs = [x, *weights, *biases]
    return Net(forward, backward, inputs, names, branches, scale, ends_in_a_loss)

"""Stochastic gradient descent with (Nesterov) momentum and weight decay."""

import numpy as np

from minise.nn import Layer
from minise.ops.checks import Array


class SGD:
    """Updates the parameters of a net in place.

    Parameters
    ----------
    net : Layer
        Its named_parameters and named_grads are read at every step.
    momentum : float
        Share of the velocity that stays.
    nesterov : bool
        Whether to look one step of momentum ahead.
    weight_decay : float
        Strength of the pull of weights towards 0, added to the gradient.
    decay_all : bool
        Whether vectors (biases, and scales and shifts of normalisation) are decayed too, as He et
        al. did; by default only the weights of convolutions and dense layers are.

    Attributes
    ----------
    velocity : dict of str to ndarray
        By the names of the parameters; part of a checkpoint.
    """

    def __init__(
        self,
        net: Layer,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        decay_all: bool = False,
    ) -> None:
        self.net = net
        self.momentum, self.nesterov = momentum, nesterov
        self.weight_decay, self.decay_all = weight_decay, decay_all
        self.velocity: dict[str, Array] = {
            name: net.ops.asarray(np.zeros(param.shape), param.dtype)
            for name, param in net.named_parameters().items()
        }

    def step(self, rate: float) -> None:
        """Move every parameter against its gradient.

        Raises
        ------
        RuntimeError
            If a parameter has no gradient: backward has not run.
        """
        grads = self.net.named_grads()
        for name, param in self.net.named_parameters().items():
            if name not in grads:
                raise RuntimeError(f"SGD: {name} has no gradient, call net.backward(dout) first")
            decays = self.decay_all or param.ndim > 1
            self.net.ops.sgd_update(
                param,
                grads[name],
                self.velocity[name],
                rate=rate,
                momentum=self.momentum,
                nesterov=self.nesterov,
                weight_decay=self.weight_decay if decays else 0.0,
            )

"""Stochastic gradient descent with (Nesterov) momentum and weight decay."""

from collections.abc import Mapping

import numpy as np

from minise.checks import Array, check_flag, check_number
from minise.nn import Layer
from minise.nn.layer import Grads, Module

FROM_0 = "a number from 0 to 1e6"


class SGD:
    """Updates the parameters of a net in place.

    Parameters
    ----------
    net : Layer
        Its parameters are updated.
    momentum : float
        Share of the velocity that stays.
    nesterov : bool
        Whether to look one step of momentum ahead.
    weight_decay : float
        Factor of the L2 penalty's gradient, ``weight_decay * param``, which is added.
    decay_all : bool
        Whether vectors (biases, and scales and shifts of normalisation) are decayed too, as He et
        al. did; by default only the weights of convolutions and dense layers are.

    Attributes
    ----------
    velocity : dict of str to ndarray
        By the names of the parameters; part of a checkpoint.

    Raises
    ------
    ValueError, TypeError
        If net is no layer, or a setting is out of its range or no number.
    """

    def __init__(
        self,
        net: Layer,
        momentum: float = 0.9,
        nesterov: bool = False,
        weight_decay: float = 0.0,
        decay_all: bool = False,
    ) -> None:
        if not isinstance(net, Module):
            raise TypeError(f"SGD: net is a {type(net).__name__}, expected a layer: pass SGD(net)")
        check_flag("SGD", "nesterov", nesterov)
        check_flag("SGD", "decay_all", decay_all)
        self.net = net
        self.momentum = check_number("SGD", "momentum", momentum, "a number from 0 to 1", 0, 1)
        self.weight_decay = check_number("SGD", "weight_decay", weight_decay, FROM_0, 0, 1e6)
        self.nesterov, self.decay_all = nesterov, decay_all
        self.velocity: dict[str, Array] = {
            name: net.ops.asarray(np.zeros(param.shape), param.dtype)
            for name, param in net.named_parameters().items()
        }

    def step(self, grads: Grads, lr: float) -> None:
        """Move every parameter against its gradient.

        Parameters
        ----------
        grads : dict of str to ndarray
            As net.backward returns them; those of a parameter with several names are added.
        lr : float
            Learning rate.

        Raises
        ------
        ValueError, TypeError
            If a gradient is missing, has an unknown name, or another shape or dtype than its
            parameter, if the net has other parameters than SGD(net) saw, or if lr is no finite
            number of at least 0; then no parameter is moved.
        """
        lr = check_number("SGD", "lr", lr, FROM_0, 0, 1e6)
        params = self.net.named_parameters()
        summed = self._checked(grads, params)
        for name, param in params.items():
            decays = self.decay_all or param.ndim > 1
            self.net.ops.sgd_update(
                param,
                summed[name],
                self.velocity[name],
                rate=lr,
                momentum=self.momentum,
                nesterov=self.nesterov,
                weight_decay=self.weight_decay if decays else 0.0,
            )

    def _checked(self, grads: Grads, params: dict[str, Array]) -> Grads:
        """Return one gradient for each parameter, under its first name."""
        if not isinstance(grads, Mapping):
            raise TypeError(
                f"SGD: grads is a {type(grads).__name__}, expected a dict of gradients by name: "
                "pass grads of `_, grads = net.backward(dout, cache)`"
            )
        names = self.net.first_names()
        summed: Grads = {}
        for name, grad in grads.items():
            if name not in names:
                raise ValueError(f"SGD: {name} is no parameter of the net: of which are grads?")
            own = names[name]
            kind, wanted = getattr(grad, "dtype", f"a {type(grad).__name__}"), params[own].dtype
            if kind != wanted:
                raise TypeError(f"SGD: the gradient of {name} is {kind}, expected {wanted}")
            if grad.shape != params[own].shape:
                raise ValueError(
                    f"SGD: the gradient of {name} has shape {grad.shape}, expected "
                    f"{params[own].shape}: is it of another net?"
                )
            summed[own] = summed[own] + grad if own in summed else grad
        for name, param in params.items():
            velocity = self.velocity.get(name)
            if velocity is None or (velocity.shape, velocity.dtype) != (param.shape, param.dtype):
                raise ValueError(
                    f"SGD: {name} is new or changed, expected the parameters that the net had "
                    "when SGD(net) was called: call SGD(net) again after changing the net"
                )
        missing = [name for name in params if name not in summed]
        if missing:
            count = f"{len(missing)} of {len(params)} parameters"
            raise ValueError(
                f"SGD: {missing[0]} has no gradient ({count} lack theirs): pass what "
                "net.backward(dout, cache) returns"
            )
        return summed

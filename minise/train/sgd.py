"""Stochastic gradient descent with (Nesterov) momentum and weight decay."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from minise.checks import Array, check_flag, check_number
from minise.nn import Layer
from minise.nn.layer import Grads, Module
from minise.ops.backend import sgd_updates

RANGE = "a number from 0 to 1e6"


class SGD:
    """Stochastic gradient descent, which updates the parameters of a net in place.

    Parameters
    ----------
    net : Layer
        The net whose parameters are updated.
    momentum : float
        Fraction of the velocity that each step keeps.
    nesterov : bool
        Whether to use Nesterov momentum.
    weight_decay : float
        Factor of the L2 penalty: its gradient, ``weight_decay * param``, is added.
    decay_all : bool
        Whether weight decay applies to vectors (biases, and scales and shifts of normalisation),
        too, as in He et al.; by default it applies only to weights of convolutions and dense
        layers.

    Attributes
    ----------
    velocity : dict of str to ndarray
        Velocity of each parameter by name; part of a checkpoint.

    Raises
    ------
    ValueError, TypeError
        If net is not a layer, or a setting is not a number in its range.
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
        self.weight_decay = check_number("SGD", "weight_decay", weight_decay, RANGE, 0, 1e6)
        self.nesterov, self.decay_all = nesterov, decay_all
        self.velocity: dict[str, Array] = {
            name: net.ops.asarray(np.zeros(param.shape), param.dtype)
            for name, param in net.named_parameters().items()
        }

    def step(self, grads: Grads, lr: float) -> None:
        """Update every parameter by its gradient, in place.

        Parameters
        ----------
        grads : dict of str to ndarray
            Gradients as net.backward returns them; those of a shared parameter are summed.
        lr : float
            Learning rate.

        Raises
        ------
        ValueError, TypeError
            If a gradient is missing, has an unknown name, or differs in shape or dtype from its
            parameter, if the net's parameters have changed since SGD(net), or if lr is not a number
            from 0 to 1e6; then no parameter is updated.
        """
        lr = check_number("SGD", "lr", lr, RANGE, 0, 1e6)
        params, summed = self._checked(grads)
        arrays = list(params.values()), list(summed.values()), [self.velocity[k] for k in params]
        decays = [self.weight_decay if self.decay_all or p.ndim > 1 else 0.0 for p in arrays[0]]
        settings: Any = dict(rate=lr, momentum=self.momentum, nesterov=self.nesterov)
        sgd_updates(self.net.ops, *arrays, weight_decays=decays, **settings)

    def state(self) -> dict[str, Array]:
        """Return the arrays that a resumed run needs; see `optimiser_state`."""
        return {f"velocity/{name}": array for name, array in self.velocity.items()}

    def _checked(self, grads: Grads) -> tuple[dict[str, Array], Grads]:
        """Return the parameters, and one gradient for each, under its first name."""
        if not isinstance(grads, Mapping):
            raise TypeError(
                f"SGD: grads is a {type(grads).__name__}, expected a dict of gradients by name: "
                "pass grads of `_, grads = net.backward(dout, cache)`"
            )
        params, names = self.net.parameters_and_names()
        summed: Grads = {}
        for name, grad in grads.items():
            if name not in names:
                raise ValueError(
                    f"SGD: grads has {name}, expected names of the net's parameters: pass the "
                    "gradients of the net of SGD(net)"
                )
            first = names[name]
            kind, wanted = getattr(grad, "dtype", f"a {type(grad).__name__}"), params[first].dtype
            if kind != wanted:
                raise TypeError(f"SGD: the gradient of {name} is {kind}, expected {wanted}")
            if grad.shape != params[first].shape:
                raise ValueError(
                    f"SGD: the gradient of {name} has shape {grad.shape}, expected "
                    f"{params[first].shape}: is it from another net?"
                )
            summed[first] = summed[first] + grad if first in summed else grad
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
                f"SGD: {missing[0]} has no gradient (missing for {count}): pass all gradients that "
                "net.backward(dout, cache) returns"
            )
        return params, {name: summed[name] for name in params}


def optimiser_state(optimiser: Any) -> dict[str, Array]:
    """Return all arrays that an optimiser keeps from step to step, by name.

    They are what its method `state()` returns, or else the attribute velocity, a dict. A name is
    "role/NAME" for an array of the parameter NAME, such as "velocity/fc.weight", or any other name,
    such as "steps" for a counter of shape (). The optimiser updates its arrays in place: a
    checkpoint copies them, and a resumed run writes the saved numbers into them.
    """
    own = getattr(optimiser, "state", None)
    return dict(own() if callable(own) else SGD.state(optimiser))


def check_optimiser_state(where: str, optimiser: Any) -> None:
    """Raise an error if a checkpoint could not be written back into an optimiser's arrays."""
    arrays, again = optimiser_state(optimiser), optimiser_state(optimiser)
    remedy = "keep arrays of the optimiser, update them in place, and return these"
    for name, array in arrays.items():
        if not hasattr(array, "dtype") or not hasattr(array, "__setitem__"):
            raise TypeError(
                f"{where}: {name} of the optimiser's state() is a {type(array).__name__}, expected "
                f"an array, for a number one of shape (): {remedy}"
            )
        on_host = isinstance(array, np.ndarray) and array.size
        if on_host and not np.may_share_memory(array, again.get(name, ())):
            raise ValueError(
                f"{where}: {name} of the optimiser's state() is a copy, expected the array that "
                f"the optimiser updates: {remedy}"
            )

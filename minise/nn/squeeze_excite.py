"""The SE block as a layer, and the settings that say where and how a net uses it."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from minise.nn.init import LINEAR, RELU, constant, he_normal
from minise.nn.layer import Layer
from minise.nn.layers import BatchNorm2d
from minise.nn.streams import Rng, generator
from minise.ops import reference
from minise.ops.checks import Array, check_choice, check_flag, check_integer
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES

Site = Literal["standard", "pre", "post", "identity", "3x3"]
Squeeze = Literal["avg", "max", "none"]
Gate = Literal["sigmoid", "tanh", "relu", "hard_sigmoid"]
SITES = get_args(Site)


@dataclass(frozen=True)
class SE:
    """Where SE blocks stand in a residual unit, and of which kind they are.

    Parameters
    ----------
    reduction : int
        The paper's r; the gate has ``max(1, C // r)`` hidden units. CIFAR's narrow nets want 4.
    site : {"standard", "pre", "post", "identity", "3x3"}
        At the end of the residual branch, before the sum; on the branch before its first
        convolution; behind the sum and its ReLU; on the shortcut; or behind the (first) 3x3
        convolution, its normalisation and ReLU.
    squeeze : {"avg", "max", "none"}
        What the gate sees of an image.
    gate : {"sigmoid", "tanh", "relu", "hard_sigmoid"}
        Which function makes the gates.
    bias : bool
        Whether its two dense layers have biases: so in the authors' nets, not so in the paper's
        ablations.

    Notes
    -----
    Source: Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507, sections 3 and 6.
    """

    reduction: int = 16
    site: Site = "standard"
    squeeze: Squeeze = "avg"
    gate: Gate = "sigmoid"
    bias: bool = True

    def __post_init__(self) -> None:
        """Refuse what no SE block can be."""
        check_integer("SE", "reduction", self.reduction, 1)
        check_choice("SE", "site", self.site, SITES)
        check_choice("SE", "squeeze", self.squeeze, SQUEEZES)
        check_choice("SE", "gate", self.gate, GATES)
        check_flag("SE", "bias", self.bias)


class SEBlock(Layer):
    """Squeeze-and-excitation of `channels` channels.

    Parameters are `fc.0.weight` (R, C) and `fc.2.weight` (C, R), with bias also `fc.0.bias` and
    `fc.2.bias`: named by their places in the PyTorch twin, where a ReLU is between them. Both
    weights start with a variance by their fan-in, so that a gate starts near 1/2 whatever R is.
    """

    def __init__(
        self,
        channels: int,
        settings: SE | None = None,
        *,
        ops: Any = reference,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(ops)
        self.settings = SE() if settings is None else settings
        hidden = max(1, channels // self.settings.reduction)
        rng = generator("SEBlock", rng)
        self.params["fc.0.weight"] = he_normal((hidden, channels), RELU, ops, rng, dtype)
        self.params["fc.2.weight"] = he_normal((channels, hidden), LINEAR, ops, rng, dtype)
        if self.settings.bias:
            self.params["fc.0.bias"] = constant(0, hidden, ops, dtype)
            self.params["fc.2.bias"] = constant(0, channels, ops, dtype)

    def weights(self) -> tuple[Array, Array | None, Array, Array | None]:
        """Return the arrays w1, b1, w2, b2 of the op."""
        of = self.params
        return of["fc.0.weight"], of.get("fc.0.bias"), of["fc.2.weight"], of.get("fc.2.bias")

    def forward(self, x: Array, training: bool) -> Array:
        """Return an array of the shape of x."""
        out, cache = self.ops.squeeze_excite_forward(
            x,
            *self.weights(),
            squeeze=self.settings.squeeze,
            gate=self.settings.gate,
        )
        self._remember(cache)
        return out

    def backward(self, dout: Array) -> Array:
        """Return dx."""
        dx, dw1, db1, dw2, db2 = self.ops.squeeze_excite_backward(dout, self._recall())
        self.grads["fc.0.weight"], self.grads["fc.2.weight"] = dw1, dw2
        if db1 is not None:
            self.grads["fc.0.bias"], self.grads["fc.2.bias"] = db1, db2
        return dx

    def forward_tail(self, norm: BatchNorm2d, x: Array, shortcut: Array, training: bool) -> Array:
        """Return max(forward(norm.forward(x)) + shortcut, 0) as one op; the squeeze has to be avg.

        Nothing is left in norm but its running statistics.
        """
        out, cache = self.ops.se_block_tail_forward(
            x,
            norm.params["weight"],
            norm.params["bias"],
            *self.weights(),
            shortcut,
            gate=self.settings.gate,
            **norm.settings(training),
        )
        norm.update(cache)
        self._remember(cache)
        return out

    def backward_tail(self, norm: BatchNorm2d, dout: Array) -> tuple[Array, Array]:
        """Return dx and dshortcut, and leave the gradients of norm's parameters too."""
        gradients = self.ops.se_block_tail_backward(dout, self._recall())
        dx, dgamma, dbeta, dw1, db1, dw2, db2, dshortcut = gradients
        norm.grads["weight"], norm.grads["bias"] = dgamma, dbeta
        self.grads["fc.0.weight"], self.grads["fc.2.weight"] = dw1, dw2
        if db1 is not None:
            self.grads["fc.0.bias"], self.grads["fc.2.bias"] = db1, db2
        return dx, dshortcut

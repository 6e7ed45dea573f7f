"""The SE block as a layer, and the settings that say where and how a net uses it."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from minise.nn.inference import Steps
from minise.nn.init import LINEAR, RELU, constant, he_normal
from minise.nn.op_layer import OpLayer
from minise.nn.streams import Rng, generator
from minise.ops import reference
from minise.ops.backend import Backend
from minise.ops.checks import check_choice, check_flag, check_integer
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


class SEBlock(OpLayer):
    """Squeeze-and-excitation of `channels` channels; settings may be the reduction alone.

    Parameters are `fc.0.weight` (R, C) and `fc.2.weight` (C, R), with bias also `fc.0.bias` and
    `fc.2.bias`: named by their places in the PyTorch twin, where a ReLU is between them. Both
    weights start with a variance by their fan-in, so that a gate starts near 1/2 whatever R is.
    """

    op, keywords = "squeeze_excite", ("squeeze", "gate")
    arrays = ("fc.0.weight", "fc.0.bias", "fc.2.weight", "fc.2.bias")

    def __init__(
        self,
        channels: int,
        settings: SE | int | None = None,
        *,
        ops: Backend | str = reference,
        rng: Rng = None,
        dtype: Any = np.float32,
    ) -> None:
        super().__init__(ops)
        check_integer("SEBlock", "channels", channels, 1)
        if not isinstance(settings, SE):
            settings = SE() if settings is None else SE(reduction=settings)
        self.se, hidden = settings, max(1, channels // settings.reduction)
        self.squeeze, self.gate = settings.squeeze, settings.gate
        rng, ops = generator("SEBlock", rng), self.ops
        self.params["fc.0.weight"] = he_normal((hidden, channels), RELU, ops, rng, dtype)
        self.params["fc.2.weight"] = he_normal((channels, hidden), LINEAR, ops, rng, dtype)
        if settings.bias:
            self.params["fc.0.bias"] = constant(0, hidden, ops, dtype)
            self.params["fc.2.bias"] = constant(0, channels, ops, dtype)

    def folded(self, before: Steps) -> Steps:
        """Join a convolution, or a normalisation behind one, that stands before."""
        return before.joined(gate=self) or super().folded(before)

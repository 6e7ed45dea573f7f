"""The SE block as a layer, and the settings for its use in a net."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np

from minise.checks import check_choice, check_flag, check_integer
from minise.nn.inference import Steps
from minise.nn.init import LINEAR_GAIN, RELU_GAIN, constant, he_normal
from minise.nn.op_layer import OpLayer
from minise.nn.streams import Rng, generator
from minise.ops import reference
from minise.ops.backend import Backend
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES

UnitSite = Literal["standard", "pre", "post", "identity", "3x3"]  # of a residual unit
Site = Literal[UnitSite, "mix", "all"]
Squeeze = Literal["avg", "max", "none"]
Gate = Literal["sigmoid", "tanh", "relu", "hard_sigmoid"]
UNIT_SITES = get_args(UnitSite)


@dataclass(frozen=True)
class SE:
    """Position and settings of the SE blocks in residual units.

    Parameters
    ----------
    reduction : int
        The paper's r; the gate has max(1, C // r) hidden units. Use 4 for CIFAR's narrow nets.
    site : {"standard", "pre", "post", "identity", "3x3", "mix", "all"}
        standard: last on the residual branch, before the sum; pre: first on the branch; post: after
        the sum and its ReLU; identity: on the shortcut; 3x3: after the (first) 3x3 convolution,
        its normalisation and ReLU. In Shake-Shake, mix: after the mixture of the two branches. In
        Inception-ResNet-v2, all: also after the modules without a shortcut. A net without residual
        units has only the site standard.
    squeeze : {"avg", "max", "none"}
        Pooling before the gate: mean or maximum over the image, or none.
    gate : {"sigmoid", "tanh", "relu", "hard_sigmoid"}
        Function that computes the gates.
    bias : bool
        Whether the two dense layers have biases, as in the authors' nets; those of the paper's
        ablations have none.
    stages : tuple of int, optional
        Stages of the net that have SE blocks, by default all. A ResNet for ImageNet has the stages
        2 to 5 and one for CIFAR 2 to 4, because stage 1 is the stem; the page or file of each model
        numbers its stages.

    Notes
    -----
    Source: Hu et al., "Squeeze-and-Excitation Networks", arXiv:1709.01507, sections 3 and 6.
    """

    reduction: int = 16
    site: Site = "standard"
    squeeze: Squeeze = "avg"
    gate: Gate = "sigmoid"
    bias: bool = True
    stages: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        """Raise ValueError or TypeError if a setting is not valid."""
        # a NumPy integer of few bits would overflow in products with numbers of channels
        reduction = check_integer("SE", "reduction", self.reduction, 1)
        object.__setattr__(self, "reduction", reduction)
        check_choice("SE", "site", self.site, get_args(Site))
        check_choice("SE", "squeeze", self.squeeze, SQUEEZES)
        check_choice("SE", "gate", self.gate, GATES)
        check_flag("SE", "bias", self.bias)
        if self.stages is not None:
            if isinstance(self.stages, str | bytes) or not isinstance(self.stages, Iterable):
                raise TypeError(
                    f"SE: stages is {self.stages!r}, expected a tuple of integers such as (2, 3)"
                )
            stages = sorted({check_integer("SE", "stages", stage, 1) for stage in self.stages})
            if not stages:
                raise ValueError("SE: stages is (), expected at least one stage: None means all")
            object.__setattr__(self, "stages", tuple(stages))


class SEBlock(OpLayer):
    """Squeeze-and-excitation of `channels` channels; settings are an SE, or only its reduction.

    Parameters are `fc.0.weight` (R, C) and `fc.2.weight` (C, R), with bias also `fc.0.bias` and
    `fc.2.bias`: the names in the PyTorch twin, where `fc.1` is a ReLU. The initial variance of both
    weights depends on their fan-in, so that gates are initially near 1/2 for any R.
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
        self.params["fc.0.weight"] = he_normal((hidden, channels), RELU_GAIN, ops, rng, dtype)
        self.params["fc.2.weight"] = he_normal((channels, hidden), LINEAR_GAIN, ops, rng, dtype)
        if settings.bias:
            self.params["fc.0.bias"] = constant(0, hidden, ops, dtype)
            self.params["fc.2.bias"] = constant(0, channels, ops, dtype)

    def folded(self, before: Steps) -> Steps:
        """Fuse with the convolution before, which may have a normalisation."""
        return before.fused(gate=self) or super().folded(before)

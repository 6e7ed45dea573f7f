"""Inference: a net as a list of steps, each fused from as many layers as the back end allows.

A back end has two fused functions for inference (minise/ops/reference/inference.py):

    convolution      relu(squeeze_excite(norm(conv2d(x))) + shortcut)
    normalisation    relu(norm(x))

where all parts but the first are optional. Layers are folded in order: a convolution starts a step,
and a normalisation, an SE block, a sum and a ReLU after it are fused into that step, in this order.
A layer that cannot be fused starts a new step or runs its own forward. If a back end does not fold
(`ops.folds` is False), every layer runs its own forward.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

from minise.checks import Array
from minise.ops.backend import Backend

Inference: TypeAlias = Callable[..., Array]  # a function of x, or of x and the shortcut
FUSION_ORDER = ("norm", "gate", "add", "relu")  # of the parts after the first


class Fusible(Protocol):
    """A layer that can be fused into a step."""

    ops: Backend
    params: dict[str, Array]

    def inputs(self) -> list[Any]:
        """Return the parameters that the layer's op takes after x."""
        ...

    def settings(self, training: bool) -> dict[str, Any]:
        """Return the keyword arguments of the layer's op."""
        ...


class Norm(Fusible, Protocol):
    """A normalisation that can be fused into a step."""

    def statistics(self) -> dict[str, Any]:
        """Return running_mean, running_var and eps, which normalise in evaluation."""
        ...


class Step(Protocol):
    """One step of inference, which still refers to the net's arrays."""

    def prepare(self) -> Inference:
        """Return the step as a function with copies of the arrays that it needs."""
        ...


@dataclass(frozen=True)
class Steps:
    """Steps in sequence; without steps, the identity."""

    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> "Steps":
        """Return these steps and one more."""
        return Steps((*self.steps, step))

    def fused(self, **parts: Any) -> "Steps | None":
        """Return these steps with parts fused into the last, or None if that is impossible."""
        last = self.steps[-1] if self.steps else None
        step = last.fused(**parts) if isinstance(last, Convolution | Normalisation) else None
        return None if step is None else Steps((*self.steps[:-1], step))

    def prepare(self) -> Inference:
        """Return the steps as one function with copies of the arrays that it needs."""
        functions = [step.prepare() for step in self.steps]

        def run(x: Array) -> Array:
            for function in functions:
                x = function(x)
            return x

        return functions[0] if len(functions) == 1 else run


@dataclass(frozen=True)
class Unfolded:
    """A layer that runs its own forward."""

    layer: Any  # a Layer

    def prepare(self) -> Inference:
        """Return predict of a copy of the layer."""
        return copy.deepcopy(self.layer).predict


@dataclass(frozen=True)
class FusibleStep:
    """A step into which layers can be fused."""

    norm: Norm | None = None
    gate: Fusible | None = None
    add: bool = False
    relu: bool = False

    def fused(self, **parts: Any) -> Any:
        """Return the step with more parts, or None if it has a part that must come after them."""
        later = FUSION_ORDER[min(map(FUSION_ORDER.index, parts)) :]
        return None if any(getattr(self, part) for part in later) else replace(self, **parts)


@dataclass(frozen=True)
class Convolution(FusibleStep):
    """A convolution, and the layers fused into it."""

    conv: Fusible | None = None

    def prepare(self) -> Inference:
        """Return the step as a function, with the normalisation folded into the weight."""
        assert self.conv is not None
        ops, params = self.conv.ops, self.conv.params
        weight, bias = params["weight"], params.get("bias")
        if self.norm is not None:
            statistics = self.norm.statistics()
            weight, bias = ops.fold_batch_norm2d(weight, bias, *self.norm.inputs(), **statistics)
        gates, settings = [], self.conv.settings(False)
        if self.gate is not None:
            gates, settings = self.gate.inputs(), {**settings, **self.gate.settings(False)}
        prepared = ops.prepare_conv2d(weight, bias, *gates, **settings, relu=self.relu)
        return partial(ops.run_conv2d, prepared)


@dataclass(frozen=True)
class Normalisation(FusibleStep):
    """A normalisation without a convolution before it, and optionally a ReLU."""

    def fused(self, **parts: Any) -> Any:
        """Return the step with a ReLU; for any other part return None."""
        return super().fused(**parts) if parts.keys() == {"relu"} else None

    def prepare(self) -> Inference:
        """Return the step as a function."""
        assert self.norm is not None
        ops, statistics = self.norm.ops, self.norm.statistics()
        prepared = ops.prepare_batch_norm2d(*self.norm.inputs(), **statistics, relu=self.relu)
        return partial(ops.run_batch_norm2d, prepared)


@dataclass(frozen=True)
class Sum:
    """branch(x) + shortcut(x), and optionally a ReLU."""

    branch: Steps
    shortcut: Steps
    relu: bool
    ops: Backend

    def prepare(self) -> Inference:
        """Return the sum as a function, fused into the branch's last step if possible."""
        ops, shortcut = self.ops, self.shortcut.prepare()
        branch = self.branch.fused(add=True, relu=self.relu)
        if branch is not None:
            first, last = Steps(branch.steps[:-1]).prepare(), branch.steps[-1].prepare()
        else:
            first = self.branch.prepare()

            def last(y: Array, shortcut: Array) -> Array:
                out, _ = ops.add_forward(y, shortcut)
                return ops.relu_forward(out)[0] if self.relu else out

        def run(x: Array) -> Array:
            skip = shortcut(x)
            return last(first(x), skip)

        return run


@dataclass(frozen=True)
class Parallel:
    """Branches with the same input, and the function that merges their outputs."""

    branches: tuple[Steps, ...]
    merge: Callable[..., Array]

    def prepare(self) -> Inference:
        """Return the branches and their merge as one function."""
        functions = [branch.prepare() for branch in self.branches]
        return lambda x: self.merge(*(function(x) for function in functions))

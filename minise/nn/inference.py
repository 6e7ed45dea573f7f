"""Inference: a net as steps, each of which does as much as its back end can do at once.

A back end has two steps for inference (minise/ops/reference/inference.py):

    convolution      relu(squeeze_excite(norm(conv2d(x))) + shortcut)
    normalisation    relu(norm(x))

in which the parts behind the first may be absent. Layers are folded one after another: a
convolution opens a step, and a normalisation, an SE block, a sum and a ReLU behind it join that
step, in this order. What cannot join opens a step of its own or is evaluated as it is. Where a back
end does not fold (`ops.folds` is False) every layer is evaluated.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, TypeAlias

from minise.ops.backend import Backend
from minise.ops.checks import Array

Inference: TypeAlias = Callable[..., Array]  # of x, and for some steps of a shortcut too
ORDER = ("norm", "gate", "add", "relu")  # in which parts can join a step


class Part(Protocol):
    """What a step asks of a layer whose work it does."""

    ops: Backend
    params: dict[str, Array]

    def inputs(self) -> list[Any]:
        """Return the parameters as its op takes them."""
        ...

    def settings(self, training: bool) -> dict[str, Any]:
        """Return what its op takes by keyword."""
        ...


class Norm(Part, Protocol):
    """A normalisation."""

    def statistics(self) -> dict[str, Any]:
        """Return running_mean, running_var and eps, which it normalises by in evaluation."""
        ...


class Step(Protocol):
    """Something to do with x, without the arrays that it takes from the net."""

    def ready(self) -> Inference:
        """Return the function, with copies of all arrays that it needs."""
        ...


@dataclass(frozen=True)
class Steps:
    """Steps one after another; with none, the identity."""

    steps: tuple[Step, ...] = ()

    def then(self, step: Step) -> "Steps":
        """Return these steps and one more."""
        return Steps((*self.steps, step))

    def joined(self, **parts: Any) -> "Steps | None":
        """Return these steps with more parts in the last one, or None where it cannot have them."""
        last = self.steps[-1] if self.steps else None
        step = last.joined(**parts) if isinstance(last, Convolution | Normalisation) else None
        return None if step is None else Steps((*self.steps[:-1], step))

    def ready(self) -> Inference:
        """Return the steps as one function."""
        functions = [step.ready() for step in self.steps]

        def run(x: Array) -> Array:
            for function in functions:
                x = function(x)
            return x

        return functions[0] if len(functions) == 1 else run


@dataclass(frozen=True)
class Evaluated:
    """A layer that is evaluated as it is."""

    layer: Any  # a Layer

    def ready(self) -> Inference:
        """Return predict of a copy."""
        return copy.deepcopy(self.layer).predict


@dataclass(frozen=True)
class Open:
    """A step that parts can still join."""

    norm: Norm | None = None
    gate: Part | None = None
    add: bool = False
    relu: bool = False

    def joined(self, **parts: Any) -> Any:
        """Return the step with more parts, or None where one that must come later is in it."""
        later = ORDER[min(map(ORDER.index, parts)) :]
        return None if any(getattr(self, part) for part in later) else replace(self, **parts)


@dataclass(frozen=True)
class Convolution(Open):
    """A convolution, and what joined it."""

    conv: Part | None = None

    def ready(self) -> Inference:
        """Return the step, with the normalisation folded into the weight."""
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
class Normalisation(Open):
    """A normalisation that no convolution precedes, and a ReLU."""

    def joined(self, **parts: Any) -> Any:
        """Return the step with a ReLU; nothing else can join it."""
        return super().joined(**parts) if parts.keys() == {"relu"} else None

    def ready(self) -> Inference:
        """Return the step."""
        assert self.norm is not None
        ops, statistics = self.norm.ops, self.norm.statistics()
        prepared = ops.prepare_batch_norm2d(*self.norm.inputs(), **statistics, relu=self.relu)
        return partial(ops.run_batch_norm2d, prepared)


@dataclass(frozen=True)
class Sum:
    """branch(x) + shortcut(x), and a ReLU."""

    branch: Steps
    shortcut: Steps
    relu: bool
    ops: Backend

    def ready(self) -> Inference:
        """Return the sum, done by the branch's last step where that is a convolution."""
        ops, shortcut = self.ops, self.shortcut.ready()
        branch = self.branch.joined(add=True, relu=self.relu)
        if branch is not None:
            first, last = Steps(branch.steps[:-1]).ready(), branch.steps[-1].ready()
        else:
            first = self.branch.ready()

            def last(y: Array, shortcut: Array) -> Array:
                out, _ = ops.add_forward(y, shortcut)
                return ops.relu_forward(out)[0] if self.relu else out

        def run(x: Array) -> Array:
            past = shortcut(x)
            return last(first(x), past)

        return run


@dataclass(frozen=True)
class Parallel:
    """Several functions of one x, and what merges their results."""

    branches: tuple[Steps, ...]
    merge: Callable[..., Array]

    def ready(self) -> Inference:
        """Return the merged results as one function."""
        functions = [branch.ready() for branch in self.branches]
        return lambda x: self.merge(*(function(x) for function in functions))

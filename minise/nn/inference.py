"""Layers as functions of x alone: a net made ready to predict fast.

A normalisation in evaluation folds into the convolution before it, and what follows the sum of
both, an SE block, a shortcut, a ReLU, is done in the same step (minise/ops/reference/inference.py).
Where none of that can be, a layer is copied and run in evaluation mode.

A class says how it is folded by a method `folded` beside its forward; those that hold no other
layers are in the table below. Both are asked only where they belong to the very forward that the
layer runs: a subclass with a forward of its own is copied.
"""

import copy
from collections.abc import Sequence
from functools import partial
from typing import Any

from minise.nn.layer import Inference, Layer
from minise.nn.layers import BatchNorm2d, Conv2d, Dropout, ReLU, Sequential
from minise.nn.squeeze_excite import SEBlock
from minise.ops.checks import Array


def inference_of(layer: Layer) -> Inference:
    """Return what layer.inference() returns."""
    if hasattr(layer.ops, "run_conv2d"):
        if type(layer) is Conv2d:
            return convolution(layer)
        if type(layer) is BatchNorm2d:
            return normalisation(layer)
        if type(layer) is Dropout:
            return identity
        if type(layer) is Sequential:
            return chain(*_folded_sequence(layer.layers))
        if _has_its_own(layer):
            return layer.folded()
    return snapshot(layer)


def snapshot(layer: Layer) -> Inference:
    """Return a copy of a layer as a function; the copy shares back ends, and keeps no cache."""
    memo: dict[int, Any] = {}
    for below in layer.named_layers().values():
        memo |= {id(below.ops): below.ops, id(below._cache): None, id(below.grads): {}}
    own = copy.deepcopy(layer, memo)
    for below in own.named_layers().values():
        below.keeps_cache = False
    return partial(own.forward, training=False)


def convolution(
    conv: Layer, norm: Layer | None = None, se: Layer | None = None, *, relu: bool = False
) -> Inference:
    """Return relu(se(norm(conv(x))) + shortcut) as a function of x, and where it comes a shortcut.

    It is one step if the layers are of minise's own classes, whose forward is known.
    """
    kinds = Conv2d, BatchNorm2d, SEBlock
    pairs = zip((conv, norm, se), kinds, strict=True)
    if not hasattr(conv.ops, "run_conv2d") or not all(
        layer is None or type(layer) is kind for layer, kind in pairs
    ):
        return _one_after_another([conv, norm, se], relu)
    assert isinstance(conv, Conv2d)
    weight, bias = conv.params["weight"], conv.params.get("bias")
    if isinstance(norm, BatchNorm2d):
        gamma, beta = norm.params["weight"], norm.params["bias"]
        weight, bias = conv.ops.fold_batch_norm2d(
            weight, bias, gamma, beta, **norm.state, eps=norm.eps
        )
    gates: dict[str, Any] = {}
    if isinstance(se, SEBlock):
        names = zip(("w1", "b1", "w2", "b2"), se.weights(), strict=True)
        gates = {**dict(names), "squeeze": se.settings.squeeze, "gate": se.settings.gate}
    where = {name: getattr(conv, name) for name in ("stride", "padding", "dilation", "groups")}
    prepared = conv.ops.prepare_conv2d(weight, bias, **where, **gates, relu=relu)
    return partial(conv.ops.run_conv2d, prepared)


def normalisation(norm: Layer, *, relu: bool = False) -> Inference:
    """Return relu(norm(x)) as a function of x, for a normalisation that no convolution precedes."""
    if type(norm) is not BatchNorm2d or not hasattr(norm.ops, "run_batch_norm2d"):
        return _one_after_another([norm], relu)
    prepared = norm.ops.prepare_batch_norm2d(
        norm.params["weight"], norm.params["bias"], **norm.state, eps=norm.eps, relu=relu
    )
    return partial(norm.ops.run_batch_norm2d, prepared)


def identity(x: Array) -> Array:
    """Return x."""
    return x


def chain(*steps: Inference) -> Inference:
    """Return one function after the other as one."""
    used = [step for step in steps if step is not identity]
    if len(used) <= 1:
        return used[0] if used else identity

    def run(x: Array) -> Array:
        for step in used:
            x = step(x)
        return x

    return run


def _folded_sequence(layers: Sequence[Layer]) -> list[Inference]:
    """Return the steps of layers in a row; a normalisation and a ReLU join what is before them."""
    steps: list[Inference] = []
    rest = list(layers)
    while rest:
        layer = rest.pop(0)
        if type(layer) is Conv2d:
            norm = _taken(rest, BatchNorm2d)
            steps.append(convolution(layer, norm, relu=_taken(rest, ReLU) is not None))
        elif type(layer) is BatchNorm2d:
            steps.append(normalisation(layer, relu=_taken(rest, ReLU) is not None))
        else:
            steps.append(layer.inference())
    return steps


def _taken(rest: list[Layer], kind: type[Layer]) -> Layer | None:
    """Take the next layer if it is of a kind."""
    return rest.pop(0) if rest and type(rest[0]) is kind else None


def _one_after_another(layers: Sequence[Layer | None], relu: bool) -> Inference:
    """Return layers, a sum with a shortcut and a ReLU as the ops that they are."""
    given = [layer for layer in layers if layer is not None]
    ops, steps = given[0].ops, chain(*(layer.inference() for layer in given))

    def run(x: Array, shortcut: Array | None = None) -> Array:
        y = steps(x)
        if shortcut is not None:
            y, _ = ops.add_forward(y, shortcut)
        if relu:
            y, _ = ops.relu_forward(y)
        return y

    return run


def _has_its_own(layer: Layer) -> bool:
    """Tell whether a layer's `folded` was written for its forward, and not for a base class's."""
    kinds = (vars(kind) for kind in type(layer).__mro__)
    return next("folded" in kind for kind in kinds if "folded" in kind or "forward" in kind)

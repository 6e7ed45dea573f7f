"""Inference, compiled: one kernel a step, and before it as little as possible.

The steps are in minise/ops/reference/inference.py. Of one image a kernel takes some microseconds,
and what Python does before it takes as long. So a prepared convolution keeps its filters as its
algorithm reads them (conv.py), and for each shape of x that came the function that fills out:
another x of that shape is looked up, not checked and measured again.

Bias, shortcut and ReLU are the kernel's own (convolution/finish.py). An SE block needs the whole
image before its first pixel is done, so it follows as a kernel of its own
(normalisation/gating.py), in place.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from minise.ops.checks import Array, Pair, as_pairs, check_arrays
from minise.ops.jit.activation import relu_forward
from minise.ops.jit.combine import add_forward
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.conv import correlation_of, filters_of
from minise.ops.jit.convolution.algorithm import algorithm_of, chosen
from minise.ops.jit.convolution.finish import NO_SHORTCUT, Correlation
from minise.ops.jit.convolution.geometry import windows_in
from minise.ops.jit.norm import NOTHING
from minise.ops.jit.normalisation.gates import frozen_weights
from minise.ops.jit.normalisation.gating import gate_images
from minise.ops.jit.normalisation.passes import blocks_of, normalise
from minise.ops.jit.squeeze_excite import squeeze_excite_forward
from minise.ops.jit.vector.layout import frozen, images_of, pixels_of, rows_of
from minise.ops.jit.vector.memory import empty
from minise.ops.reference import inference as reference
from minise.ops.reference.conv import Conv2dCache
from minise.ops.reference.gates import GATES
from minise.ops.reference.inference import IMAGES, OUT, check_images

SHAPES = 256  # of x, of which a prepared convolution remembers how it is done


class Plan(NamedTuple):
    """How a convolution is done for one shape of x."""

    shape: tuple[int, ...]  # (N, OH, OW, K) of out
    correlate: Correlation


class PreparedConv2d:
    """A convolution and what follows it, with what was found out about it so far."""

    def __init__(self, plain: reference.PreparedConv2d) -> None:
        self.plain = plain
        self.dtype, self.relu = plain.weight.dtype, plain.relu
        self.nothing = NO_SHORTCUT[self.dtype]
        self.gates: tuple[Any, ...] | None = None  # of an SE block that squeezes by the mean
        if plain.gates is not None and plain.se_settings["squeeze"] == "avg":
            code = GATES.index(plain.se_settings["gate"])
            self.gates = *frozen_weights(*plain.gates), code
        self.filters: dict[str, Array] = {}  # by algorithm
        self.plans: dict[tuple[Any, str], Plan] = {}  # by the shape of x, and what is asked for

    def plan(self, x: Array) -> Plan:
        """Check x, and find out how the convolution is done for its shape."""
        check_images(self.plain, x)
        weight, bias, settings = self.plain.weight, self.plain.bias, self.plain.settings
        pairs = (settings[name] for name in ("stride", "padding", "dilation"))
        stride, padding, dilation = as_pairs(*pairs)
        cache = Conv2dCache(x, weight, bias, stride, padding, dilation, settings["groups"])
        algorithm = algorithm_of(cache)
        if algorithm not in self.filters:
            self.filters[algorithm] = filters_of(algorithm, weight, cache.groups)
        correlate = correlation_of(algorithm, cache, self.filters[algorithm])
        plan = Plan((len(x), *windows_in(cache).grid, len(weight)), correlate)
        if len(self.plans) == SHAPES:
            self.plans.clear()
        self.plans[x.shape, chosen.get()] = plan
        return plan

    def follow(self, y: Array, shortcut: Array | None) -> Array:
        """Return relu(squeeze_excite(y) + shortcut), one op after the other."""
        assert self.plain.gates is not None
        y, _ = squeeze_excite_forward(y, *self.plain.gates, **self.plain.se_settings)
        if shortcut is not None:
            y, _ = add_forward(y, shortcut)
        return relu_forward(y)[0] if self.relu else y


class PreparedBatchNorm2d(NamedTuple):
    """A batch normalisation in evaluation, as (x - mean) * scale + shift."""

    arrays: tuple[Array, Array, Array]  # (C,), and twice (1, C)
    relu: bool


def prepare_conv2d(
    weight: Array,
    bias: Array | None = None,
    w1: Array | None = None,
    b1: Array | None = None,
    w2: Array | None = None,
    b2: Array | None = None,
    *,
    stride: Pair = (1, 1),
    padding: Pair = (0, 0),
    dilation: Pair = (1, 1),
    groups: int = 1,
    squeeze: str = "avg",
    gate: str = "sigmoid",
    relu: bool = False,
) -> Any:
    """See minise.ops.reference.prepare_conv2d."""
    plain = reference.prepare_conv2d(
        weight,
        bias,
        w1,
        b1,
        w2,
        b2,
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        squeeze=squeeze,
        gate=gate,
        relu=relu,
    )
    return PreparedConv2d(plain)


def run_conv2d(prepared: Any, x: Array, shortcut: Array | None = None) -> Array:
    """See minise.ops.reference.run_conv2d; out is channels-last in memory."""
    plan = prepared.plans.get((getattr(x, "shape", None), chosen.get()))
    if plan is None or x.dtype != prepared.dtype:
        plan = prepared.plan(x)
    out = empty(plan.shape, prepared.dtype)
    images: Array = out.transpose(0, 3, 1, 2)
    added = prepared.nothing
    if shortcut is not None:
        if getattr(shortcut, "shape", None) != images.shape or shortcut.dtype != prepared.dtype:
            check_arrays("run_conv2d", OUT, images, shortcut)
        added = pixels_of(shortcut)
    if prepared.plain.gates is None:
        plan.correlate(pixels_of(x), added, prepared.relu, out)
        return images
    plan.correlate(pixels_of(x), prepared.nothing, False, out)
    if prepared.gates is None:
        return prepared.follow(images, shortcut)
    gate_images(*prepared.gates, added, prepared.relu, out)
    return images


def prepare_batch_norm2d(
    gamma: Array,
    beta: Array,
    *,
    running_mean: Array,
    running_var: Array,
    eps: float = 1e-5,
    relu: bool = False,
) -> Any:
    """See minise.ops.reference.prepare_batch_norm2d."""
    plain = reference.prepare_batch_norm2d(
        gamma, beta, running_mean=running_mean, running_var=running_var, eps=eps, relu=relu
    )
    rstd = 1 / np.sqrt(running_var.astype(float) + plain.settings["eps"])
    scale = (gamma * rstd).astype(gamma.dtype)
    arrays = frozen(running_mean.copy()), frozen(scale[None]), frozen(beta.copy()[None])
    return PreparedBatchNorm2d(arrays, plain.relu)


def run_batch_norm2d(prepared: Any, x: Array) -> Array:
    """See minise.ops.reference.run_batch_norm2d; out is channels-last in memory."""
    check_arrays("run_batch_norm2d", IMAGES, x, prepared.arrays[0])
    blocks = blocks_of(rows_of(x))
    out = empty(blocks.shape, x.dtype)
    _normalise(blocks, *prepared.arrays, NOTHING[x.dtype], prepared.relu, out)
    N, C, H, W = x.shape
    return images_of(out.reshape(N, H * W, C), H, W)


@kernel
def _normalise(x, mean, scale, shift, nothing, relu, out):
    for block in prange(len(x)):
        normalise(block, x, mean, scale, shift, nothing, relu, out)

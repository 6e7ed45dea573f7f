"""Inference, compiled: one kernel per step, with little work in Python before it.

The steps are in minise/ops/reference/inference.py. For one image a kernel takes some microseconds,
and the Python code before it would take as long. So a prepared convolution caches its filters in
the layout of its algorithm (conv.py), and for each shape of x the function that fills out: the next
x of that shape needs a lookup only, no checks.

Bias, shortcut and ReLU are the epilogue of the kernel (convolution/epilogue.py). An SE block needs
the complete image before it can scale the first pixel, so it is a separate kernel, in place
(normalisation/gating.py).
"""

from typing import Any, NamedTuple

import numpy as np
from numba import prange

from minise.checks import Array, Pair, as_pairs
from minise.ops.jit.activation import relu_forward
from minise.ops.jit.combine import add_forward
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.conv import correlation_of, filters_of
from minise.ops.jit.convolution.algorithm import algorithm_of, current_algorithm
from minise.ops.jit.convolution.epilogue import NO_SHORTCUT, Correlation
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
from minise.ops.shapes import check_arrays

MAX_CACHED_SHAPES = 256  # of x, per prepared convolution


class Plan(NamedTuple):
    """The shape of out and the function that fills it, for one shape of x."""

    shape: tuple[int, ...]  # (N, OH, OW, K) of out
    correlate: Correlation


class PreparedConv2d:
    """A convolution with its epilogue and SE block, and the plans for the shapes of x so far."""

    def __init__(self, base: reference.PreparedConv2d) -> None:
        self.base = base
        self.dtype, self.relu = base.weight.dtype, base.relu
        self.no_shortcut = NO_SHORTCUT[self.dtype]
        self.gates: tuple[Any, ...] | None = None  # of an SE block with squeeze="avg"
        if base.gates is not None and base.se_settings["squeeze"] == "avg":
            code = GATES.index(base.se_settings["gate"])
            self.gates = *frozen_weights(*base.gates), code
        self.filters: dict[str, Array] = {}  # by algorithm
        self.plans: dict[tuple[Any, str], Plan] = {}  # by the shape of x and the algorithm setting

    def plan(self, x: Array) -> Plan:
        """Check x, and return and cache the plan for its shape."""
        check_images(self.base, x)
        weight, bias, settings = self.base.weight, self.base.bias, self.base.settings
        pairs = (settings[name] for name in ("stride", "padding", "dilation"))
        stride, padding, dilation = as_pairs(*pairs)
        cache = Conv2dCache(x, weight, bias, stride, padding, dilation, settings["groups"])
        algorithm = algorithm_of(cache)
        if algorithm not in self.filters:
            self.filters[algorithm] = filters_of(algorithm, cache)
        correlate = correlation_of(algorithm, cache, self.filters[algorithm])
        plan = Plan((len(x), *windows_in(cache).grid, len(weight)), correlate)
        if len(self.plans) == MAX_CACHED_SHAPES:
            self.plans.clear()
        self.plans[x.shape, current_algorithm.get()] = plan
        return plan

    def apply_se_block(self, y: Array, shortcut: Array | None) -> Array:
        """Return relu(squeeze_excite(y) + shortcut), op by op."""
        assert self.base.gates is not None
        y, _ = squeeze_excite_forward(y, *self.base.gates, **self.base.se_settings)
        if shortcut is not None:
            y, _ = add_forward(y, shortcut)
        return relu_forward(y)[0] if self.relu else y


class PreparedBatchNorm2d(NamedTuple):
    """A batch normalisation in evaluation, as (x - mean) * scale + shift."""

    arrays: tuple[Array, Array, Array]  # mean (C,), scale (1, C), shift (1, C)
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
    base = reference.prepare_conv2d(
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
    return PreparedConv2d(base)


def run_conv2d(prepared: Any, x: Array, shortcut: Array | None = None) -> Array:
    """See minise.ops.reference.run_conv2d; out is channels-last in memory."""
    plan = prepared.plans.get((getattr(x, "shape", None), current_algorithm.get()))
    if plan is None or x.dtype != prepared.dtype:
        plan = prepared.plan(x)
    out = empty(plan.shape, prepared.dtype)
    images: Array = out.transpose(0, 3, 1, 2)
    added = prepared.no_shortcut
    if shortcut is not None:
        if getattr(shortcut, "shape", None) != images.shape or shortcut.dtype != prepared.dtype:
            check_arrays("run_conv2d", OUT, images, shortcut)
        added = pixels_of(shortcut)
    if prepared.base.gates is None:
        plan.correlate(pixels_of(x), added, prepared.relu, out)
        return images
    plan.correlate(pixels_of(x), prepared.no_shortcut, False, out)
    if prepared.gates is None:
        return prepared.apply_se_block(images, shortcut)
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
    base = reference.prepare_batch_norm2d(
        gamma, beta, running_mean=running_mean, running_var=running_var, eps=eps, relu=relu
    )
    rstd = 1 / np.sqrt(running_var.astype(float) + base.settings["eps"])
    scale = (gamma * rstd).astype(gamma.dtype)
    arrays = frozen(running_mean.copy()), frozen(scale[None]), frozen(beta.copy()[None])
    return PreparedBatchNorm2d(arrays, base.relu)


def run_batch_norm2d(prepared: Any, x: Array) -> Array:
    """See minise.ops.reference.run_batch_norm2d; out is channels-last in memory."""
    check_arrays("run_batch_norm2d", IMAGES, x, prepared.arrays[0])
    blocks = blocks_of(rows_of(x))
    out = empty(blocks.shape, x.dtype)
    _normalise(blocks, *prepared.arrays, NOTHING[x.dtype], prepared.relu, out)
    N, C, H, W = x.shape
    return images_of(out.reshape(N, H * W, C), H, W)


@kernel
def _normalise(x, mean, scale, shift, no_shortcut, relu, out):
    for block in prange(len(x)):
        normalise(block, x, mean, scale, shift, no_shortcut, relu, out)

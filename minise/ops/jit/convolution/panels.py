"""Filters as panels: the layout in which register tiles read them.

A tile multiplies by a vector of filters in each step, one step for each weight of a filter. In a
panel these vectors are adjacent in memory, in the order of the steps: in the array of the weight
they would be a power of two apart, where they compete for the same cache sets.

The weights of a vector of filters are rows of a matrix, whose transpose is the panel; so are, for
each filter, the weights of a vector of channels. Blocks of these matrices are transposed in
registers (vector/transpose.py).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import prange

from minise.checks import Array
from minise.ops.jit.compiler.compile import kernel
from minise.ops.jit.convolution.geometry import MAX_CACHED_SIZES
from minise.ops.jit.vector.layout import frozen
from minise.ops.jit.vector.memory import empty
from minise.ops.jit.vector.simd import lanes_of, load, store
from minise.ops.jit.vector.transpose import transpose

MATRICES_PER_TASK = 16  # so that the cache lines of a weight are read by few tasks


class Matrices(NamedTuple):
    """The matrices of a weight, for each group and vector."""

    number: int
    stride: int  # from one matrix to the next, in elements
    row_stride: int
    rows: int  # of all vectors of a group


def forward_panels(weight: Array, groups: int) -> Array:
    """Return weight (K, C // groups, KH, KW) as panels of filters, for out.

    The panels have shape (groups, vectors, taps * C // groups, lanes): vectors of K // groups
    filters, padded with zeros.
    """
    K, C, KH, KW = weight.shape
    steps = _steps_of(C, KH * KW)
    return _panels(weight, steps, len(steps), Matrices(1, 0, C * KH * KW, K // groups), groups)


@lru_cache(MAX_CACHED_SIZES)
def _steps_of(C: int, taps: int) -> Array:
    """Return the step of each weight of a filter (C, taps): taps are outermost."""
    return frozen(np.arange(C * taps).reshape(taps, C).T.reshape(-1))


def backward_panels(weight: Array, groups: int, tap_indices: Array) -> Array:
    """Return weight (K, C // groups, KH, KW) as panels of channels, for dx.

    The panels have shape (groups, vectors, taps * K // groups, lanes): vectors of C // groups
    channels, padded with zeros, for the taps of tap_indices, in this order.
    """
    K, C, KH, KW = weight.shape
    filters, taps = K // groups, KH * KW
    steps = np.full(taps, -1, np.intp)
    steps[tap_indices] = np.arange(len(tap_indices)) * filters
    matrices = Matrices(filters, C * taps, taps, C)
    return _panels(weight, steps, len(tap_indices) * filters, matrices, groups)


def _panels(weight: Array, steps: Array, count: int, matrices: Matrices, groups: int) -> Array:
    """Return panels of `count` steps; steps has the step of each column of the first matrix."""
    lanes = lanes_of(weight.dtype)
    panels = empty((groups, -(-matrices.rows // lanes), count, lanes), weight.dtype)
    _fill(frozen(weight).reshape(groups, -1), frozen(steps), tuple(matrices), panels)
    return frozen(panels)


@kernel
def _fill(weight, steps, matrices, panels):
    """Transpose some matrices of one group at a time; column j of matrix m is step steps[j] + m."""
    (count, stride, row_stride, rows), lanes = matrices, lanes_of(panels.dtype)
    groups, vectors, all_steps, _ = panels.shape
    together = MATRICES_PER_TASK if count > 1 else 1
    parts = -(-count // together) if count > 1 else vectors
    for task in prange(groups * parts):
        g, part = task // parts, task % parts
        weights, flat, block = (
            weight[g],
            panels[g].reshape(-1),
            np.empty(lanes * lanes, panels.dtype),
        )
        for v in range(0 if count > 1 else part, vectors if count > 1 else part + 1):
            inside = min(lanes, rows - v * lanes)
            for m in range(part * together if count > 1 else 0, min(count, (part + 1) * together)):
                begin = m * stride + v * lanes * row_stride
                for column in range(0, len(steps), lanes):
                    j = max(0, min(column, len(steps) - lanes))
                    at = begin + j
                    if inside == lanes and row_stride == 1:
                        store(load(weights, at), block, 0)
                    elif inside == lanes and at + (lanes - 1) * row_stride + lanes <= len(weights):
                        transpose(weights, at, row_stride, block, 0)
                    else:
                        for i in range(min(lanes, len(steps))):
                            for lane in range(lanes):
                                number = at + lane * row_stride + i
                                block[i * lanes + lane] = weights[number] if lane < inside else 0
                    for i in range(min(lanes, len(steps))):
                        if steps[j + i] >= 0:
                            to = (v * all_steps + steps[j + i] + m) * lanes
                            store(load(block, i * lanes), flat, to)

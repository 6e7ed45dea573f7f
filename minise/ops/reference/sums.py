"""Sums that are as exact in one memory layout as in another.

NumPy adds up numbers that are neighbours in memory in pairs of pairs, so that the error hardly
grows with their count. Along any other axis it adds one after another: once the total is large,
each float32 that is added loses its last digits. The mean of 2^20 pixels of 0.1 is then 0.101 in
images whose memory is (N, H, W, C), and 0.1 in the same images in C order. BLAS, too, adds up
one after another in some shapes and strides. So every long sum of the reference is one of these:

    sum_over(x, axes)              sum of x over the axes
    mean_over(x, axes)             mean of x over the axes
    einsum("nc,nr->cr", a, b)      sums of products, by the names of the axes
    matmul(a, b)                   a @ b

Each accumulates in double precision and rounds once, to the dtype of its arrays. M numbers of
float32 are then off by at most half a digit of the result and M * 2^-53 of the sum of their
absolute values, which is below 1e-9 of it up to 2^22 numbers. Up to 2^29 equal numbers add up
without any rounding (24 + 29 bits), and their mean is the number itself: minus its mean, a constant
channel is exactly 0.

float64 is accumulated in float64, with no digit to spare: in C order in pairs, along slow axes one
after another, off by at most M * 2^-53 of the sum of absolute values. complex128 is like float64.

Convolution's products alone are BLAS's, in the dtype of its arrays. What its weights add up runs
over N * OH * OW numbers, along rows that are contiguous whatever the layout: see conv.py.
"""

from typing import Any

import numpy as np

from minise.checks import Array


def sum_over(x: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """Return the sum of x over one axis or more, in the dtype of x."""
    total = x.sum(axis=axes, dtype=double(x.dtype), keepdims=keepdims)
    return total.astype(x.dtype, copy=False)


def mean_over(x: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """Return the mean of x over one axis or more, in the dtype of x."""
    mean = x.mean(axis=axes, dtype=double(x.dtype), keepdims=keepdims)
    return mean.astype(x.dtype, copy=False)


def einsum(subscripts: str, *arrays: Array) -> Array:
    """Return the sums of products that np.einsum returns, in the dtype of the arrays."""
    dtype = np.result_type(*[array.dtype for array in arrays])
    total: Array = np.einsum(subscripts, *arrays, dtype=double(dtype))
    return total.astype(dtype, copy=False)


def matmul(a: Array, b: Array) -> Array:
    """Return a @ b in the dtype of a and b."""
    dtype = np.result_type(a.dtype, b.dtype)
    product = a.astype(double(dtype), copy=False) @ b.astype(double(dtype), copy=False)
    return product.astype(dtype, copy=False)


def double(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the double precision of a dtype, in which its sums are made: float64 or complex128."""
    return np.result_type(dtype, np.float64)

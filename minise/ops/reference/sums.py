"""Sums whose precision does not depend on the memory layout.

NumPy sums adjacent elements pairwise, so that the error hardly grows with their number. Along any
other axis it sums sequentially: once the total is large, each float32 term loses its last digits.
The mean of 2^20 pixels of 0.1 is then 0.101 for images with the memory layout (N, H, W, C), and 0.1
for the same images in C order. BLAS, too, sums sequentially for some shapes and strides. So every
long sum of the reference calls one of these functions:

    sum_over(x, axes)              sum of x over the axes
    mean_over(x, axes)             mean of x over the axes
    einsum("nc,nr->cr", a, b)      sums of products, by the names of the axes
    matmul(a, b)                   a @ b

Each accumulates in double precision and rounds once, to the dtype of its arrays. The error of a sum
of M float32 numbers is then at most half a unit in the last place of the result plus M * 2^-53
times the sum of absolute values, below 1e-9 of it up to M = 2^22. Sums of up to 2^29 equal numbers
are exact (24 + 29 bits), and so is their mean: a constant channel minus its mean is exactly 0.

float64 is accumulated in float64, without extra digits: pairwise in C order, sequentially along
slow axes, with an error of at most M * 2^-53 times the sum of absolute values; complex128 likewise.

Only the matrix products of convolution are BLAS's, in the dtype of its arrays. The sums of its
weight gradient have N * OH * OW terms, in rows that are contiguous for every layout: see conv.py.
"""

from typing import Any

import numpy as np

from minise.checks import Array


def sum_over(x: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """Return the sum of x over one or more axes, in the dtype of x."""
    total = x.sum(axis=axes, dtype=double(x.dtype), keepdims=keepdims)
    return total.astype(x.dtype, copy=False)


def mean_over(x: Array, axes: int | tuple[int, ...], keepdims: bool = False) -> Array:
    """Return the mean of x over one or more axes, in the dtype of x."""
    mean = x.mean(axis=axes, dtype=double(x.dtype), keepdims=keepdims)
    return mean.astype(x.dtype, copy=False)


def einsum(subscripts: str, *arrays: Array) -> Array:
    """Return np.einsum(subscripts, *arrays) in the dtype of the arrays."""
    dtype = np.result_type(*[array.dtype for array in arrays])
    total: Array = np.einsum(subscripts, *arrays, dtype=double(dtype))
    return total.astype(dtype, copy=False)


def matmul(a: Array, b: Array) -> Array:
    """Return a @ b in the dtype of a and b."""
    dtype = np.result_type(a.dtype, b.dtype)
    product = a.astype(double(dtype), copy=False) @ b.astype(double(dtype), copy=False)
    return product.astype(dtype, copy=False)


def double(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype in which sums accumulate: float64, or complex128 for complex dtypes."""
    return np.result_type(dtype, np.float64)

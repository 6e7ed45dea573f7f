"""The depthwise kernels: unrolled and other taps, overlapping vectors, guards, threads, NaN."""

import numba
import numpy as np
import pytest

from minise.ops import jit, reference
from minise.ops.jit.vector.simd import lanes_of
from tests.ops.jit.guards import guarded

NHWC = (0, 2, 3, 1)
SETTINGS = {  # size, kernel, settings
    "3x3": ((9, 14), (3, 3), {"padding": (1, 1)}),
    "3x3, stride 2": ((10, 13), (3, 3), {"padding": (1, 1), "stride": (2, 2)}),
    "3x3, stride 3": ((10, 13), (3, 3), {"padding": (1, 1), "stride": (3, 3)}),
    "3x3, stride (1, 2)": ((10, 13), (3, 3), {"stride": (1, 2)}),
    "3x3, dilation 2": ((9, 14), (3, 3), {"padding": (2, 2), "dilation": (2, 2)}),
    "3x3, dilation 2, stride 2": ((9, 14), (3, 3), {"dilation": (2, 2), "stride": (2, 2)}),
    "3x3, padding 4": ((3, 2), (3, 3), {"padding": (4, 4)}),
    "3x3, one column": ((7, 1), (3, 3), {"padding": (1, 1)}),
    "5x5": ((8, 9), (5, 5), {"padding": (2, 2)}),
    "5x5, image smaller": ((2, 3), (5, 5), {"padding": (2, 2), "stride": (2, 1)}),
    "2x2, stride 3": ((8, 9), (2, 2), {"stride": (3, 3)}),  # dx has pixels that no window reads
    "1x3": ((6, 9), (1, 3), {"padding": (0, 1)}),
    "3x1": ((6, 9), (3, 1), {"padding": (1, 0)}),
}
over_settings = pytest.mark.parametrize("name", SETTINGS)
over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def case(name, dtype, C, N=2):
    """Return integer arrays (x, weight, bias), and the settings of a convolution."""
    size, kernel, settings = SETTINGS[name]
    rng = np.random.default_rng(C)
    shapes = (N, C, *size), (C, 1, *kernel), (C,)
    arrays = [rng.integers(-3, 4, shape).astype(dtype) for shape in shapes]
    return arrays, {**settings, "groups": C}


@over_dtypes
@over_settings
@pytest.mark.parametrize("more", [0, 1, "half", "last"])
def test_equals_the_reference_between_guard_bands(dtype, name, more):
    lanes = lanes_of(np.dtype(dtype))
    C = lanes + {"half": lanes // 2, "last": lanes - 1}.get(more, more)
    arrays, settings = case(name, dtype, C)
    out, cache = reference.conv2d_forward(*arrays, **settings)
    rng = np.random.default_rng(0)
    dout = rng.integers(-3, 4, out.shape).astype(dtype)
    plus = rng.integers(-3, 4, arrays[0].shape).astype(dtype)
    expected = reference.conv2d_backward(dout, cache, plus=plus)
    with guarded() as guards:
        x, dout, plus = (guards.array(array, NHWC) for array in (arrays[0], dout, plus))
        computed, cache = jit.conv2d_forward(x, *map(guards.array, arrays[1:]), **settings)
        np.testing.assert_array_equal(computed, out, strict=True)
        gradients = jit.conv2d_backward(dout, cache, plus=plus)
    for gradient, wanted in zip(gradients, expected, strict=True):
        np.testing.assert_array_equal(gradient, wanted, strict=True)


@pytest.mark.parametrize("name", ["3x3", "3x3, stride 2", "5x5"])
@pytest.mark.parametrize("C", [60, 272])
def test_bit_identical_for_any_number_of_threads(name, C):
    (x, weight, bias), settings = case(name, np.float32, C, N=3)
    x += np.random.default_rng(1).standard_normal(x.shape, np.float32)  # sums are rounded
    results = []
    for threads in range(1, numba.config.NUMBA_NUM_THREADS + 1):
        ops = jit.using(threads=threads)
        out, cache = ops.conv2d_forward(x, weight, bias, **settings)
        results.append((out, *ops.conv2d_backward(out, cache)))
    for others in results[1:]:
        for array, first in zip(others, results[0], strict=True):
            np.testing.assert_array_equal(array, first, strict=True)


@over_settings
def test_nan_reaches_the_windows_that_read_it_and_no_others(name):
    (x, weight, bias), settings = case(name, np.float32, 20)
    x[1, 17, -1, 0] = np.nan
    expected, cache = reference.conv2d_forward(x, weight, bias, **settings)
    out, _ = jit.conv2d_forward(x, weight, bias, **settings)
    np.testing.assert_array_equal(out, expected)
    dout = np.ones_like(out)
    dout[0, 3, 0, -1] = np.nan
    pairs = zip(
        jit.conv2d_backward(dout, cache), reference.conv2d_backward(dout, cache), strict=True
    )
    for gradient, wanted in pairs:
        np.testing.assert_array_equal(gradient, wanted)

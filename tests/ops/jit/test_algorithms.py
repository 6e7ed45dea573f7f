"""Each convolution algorithm gives the bits of the reference on small integers.

tests/ops/test_conv.py draws shapes of all kinds, for which the algorithm is nearly always direct;
the shapes here have other algorithms. test_winograd.py tests Winograd's.
"""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.ops import jit, reference
from minise.ops.jit.conv import merged, unmerged
from minise.ops.jit.convolution.algorithm import algorithm_of, current_algorithm, merged_groups
from minise.ops.jit.convolution.scatter import scatter_applies
from minise.ops.jit.vector.layout import pixels_of
from minise.ops.jit.vector.simd import lanes_of
from minise.ops.jit.vector.tile import ROWS
from tests.ops.cases import SEEDS, few
from tests.ops.jit.backward_settings import check_settings
from tests.ops.jit.guards import guarded

NHWC = (0, 2, 3, 1)


@pytest.fixture(autouse=True)
def exact():
    """Use direct convolutions, which are exact on small integers; Winograd's are not."""
    before = current_algorithm.set("direct")
    yield
    current_algorithm.reset(before)


over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
PAIRS = st.tuples(st.integers(1, 3), st.integers(1, 3))


def compare(algorithm, dtype, seed, N, C, K, size, kernel, bias, **settings):
    """Compare forward and backward with the reference, and assert that the algorithm is chosen."""
    rng = np.random.default_rng(seed)

    def integers(*shape):
        return rng.integers(-3, 4, shape).astype(dtype)

    groups = settings.get("groups", 1)
    given_bias = integers(K) if bias else None
    arrays = integers(N, C, *size), integers(K, C // groups, *kernel), given_bias
    out, cache = jit.conv2d_forward(*arrays, **settings)
    assert algorithm_of(cache) == algorithm
    expected, _ = reference.conv2d_forward(*arrays, **settings)
    np.testing.assert_array_equal(out, expected, strict=True)
    dout = integers(*out.shape)
    grads = jit.conv2d_backward(dout, cache)
    for grad, expected_grad in zip(grads, reference.conv2d_backward(dout, cache), strict=True):
        assert (grad is None) == (expected_grad is None)
        if expected_grad is not None:
            np.testing.assert_array_equal(grad, expected_grad, strict=True)
    check_settings(dout, cache, grads, integers(*arrays[0].shape))


@over_dtypes
@few
@given(
    vectors=st.integers(1, 2),
    N=st.integers(1, 3),
    size=st.tuples(st.integers(3, 9), st.integers(3, 9)),
    kernel=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    bias=st.booleans(),
    seed=SEEDS,
)
def test_depthwise(dtype, vectors, N, size, kernel, stride, padding, bias, seed):
    C = vectors * lanes_of(np.dtype(dtype))
    where = {"stride": stride, "padding": padding, "groups": C}
    compare("depthwise", dtype, seed, N, C, C, size, kernel, bias, **where)


@over_dtypes
def test_depthwise_dilated(dtype):
    C = lanes_of(np.dtype(dtype))
    where = {"stride": (2, 1), "padding": (2, 3), "dilation": (2, 3), "groups": C}
    compare("depthwise", dtype, 0, 2, C, C, (9, 8), (3, 2), True, **where)


@over_dtypes
@few
@given(
    tiles=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    N=st.integers(1, 3),
    size=st.tuples(st.integers(8, 11), st.integers(8, 11)),
    bias=st.booleans(),
    seed=SEEDS,
)
def test_pointwise(dtype, tiles, N, size, bias, seed):
    """Also with pixel counts that do not fill a tile."""
    compare("pointwise", dtype, seed, N, tiles[0] * ROWS, tiles[1] * ROWS, size, (1, 1), bias)


@over_dtypes
def test_pointwise_of_many_pixels(dtype):
    """Several blocks of pixels, whose last tiles overlap the previous ones, and several parts."""
    compare("pointwise", dtype, 0, 5, 8 * ROWS, 2 * ROWS, (23, 31), (1, 1), True)


@over_dtypes
@few
@given(
    groups=st.sampled_from([2, 3, 4, 6, 8]),
    each=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    size=st.tuples(st.integers(3, 7), st.integers(3, 7)),
    kernel=PAIRS,
    stride=PAIRS,
    bias=st.booleans(),
    seed=SEEDS,
)
def test_merged_groups(dtype, groups, each, size, kernel, stride, bias, seed):
    C, K = groups * each[0], groups * each[1]
    if each == (1, 1) and groups % lanes_of(np.dtype(dtype)) == 0:
        return  # depthwise, above
    where = {"stride": stride, "padding": (1, 1), "groups": groups}

    compare("direct", dtype, seed, 2, C, K, size, kernel, bias, **where)


@pytest.mark.parametrize("groups", [1, 2, 4, 6, 12])
def test_unmerged_is_the_inverse_of_merged(groups):
    weight = np.arange(24.0 * 5 * 2).reshape(24, 5, 2, 1)
    dense, fewer = merged(weight, groups)
    assert fewer == merged_groups(weight, groups)
    assert groups % fewer == 0
    assert np.count_nonzero(dense) == np.count_nonzero(weight)
    np.testing.assert_array_equal(unmerged(dense, fewer, groups), weight)


def test_merging_fills_a_vector():
    lanes = lanes_of(np.dtype(np.float32))
    weight = np.zeros((4 * lanes, 4, 3, 3), np.float32)  # groups of 4 filters
    assert merged_groups(weight, lanes) == 4
    assert merged_groups(np.zeros((64, 4, 3, 3), np.float32), 1) == 1


@over_dtypes
@few
@given(
    channels=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    groups=st.integers(1, 2),
    N=st.integers(1, 3),
    size=st.tuples(st.integers(5, 24), st.integers(5, 24)),
    kernel=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(0, 2), st.integers(0, 2)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    seed=SEEDS,
)
def test_gathered_and_scattered_dx(dtype, channels, groups, N, size, seed, **where):
    """dx is scattered with a stride or few channels, otherwise gathered; NaN is around arrays."""
    rng, (each, filters), kernel = np.random.default_rng(seed), channels, where.pop("kernel")
    x, weight = (
        rng.integers(-3, 4, shape).astype(dtype)
        for shape in ((N, groups * each, *size), (groups * filters, each, *kernel))
    )
    out, cache = reference.conv2d_forward(x, weight, None, groups=groups, **where)
    dout = rng.integers(-3, 4, out.shape).astype(dtype)
    expected, *_ = reference.conv2d_backward(dout, cache)
    with guarded() as guards:
        laid = cache._replace(x=guards.array(x, NHWC), weight=guards.array(weight))
        dout, plus = (
            guards.array(dout, NHWC),
            guards.array(rng.integers(-3, 4, x.shape).astype(dtype), NHWC),
        )
        dx, *params = jit.conv2d_backward(dout, laid)
        np.testing.assert_array_equal(dx, expected)
        check_settings(dout, laid, (dx, *params), plus)


LANES = lanes_of(np.dtype(np.float32))


@pytest.mark.parametrize(
    ("C", "stride", "scattered"),
    [
        (LANES // 2, (1, 1), True),
        (LANES // 2 + 1, (1, 1), False),
        (LANES // 2 + 1, (1, 2), True),
        (4 * LANES, (2, 2), True),
    ],
)
def test_which_dx_is_scattered(C, stride, scattered):
    x, weight = np.zeros((1, C, 4, 4), np.float32), np.zeros((5, C, 1, 1), np.float32)
    _, cache = jit.conv2d_forward(x, weight, stride=stride)
    assert scatter_applies(cache, 1) == scattered


@over_dtypes
@pytest.mark.parametrize("shape", [(2, 3, 9, 11), (1, 17, 5, 1), (3, 1, 1, 70), (0, 3, 2, 2)])
def test_channels_are_moved_to_the_end(dtype, shape):
    images = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    pixels = pixels_of(images)
    assert pixels.flags.c_contiguous
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(pixels, images.transpose(0, 2, 3, 1), strict=True)

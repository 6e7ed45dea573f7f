"""Each convolution algorithm gives the bits of the reference on small integers.

tests/ops/test_conv.py draws shapes of all kinds, for which the algorithm is nearly always direct;
the shapes here have other algorithms. test_winograd.py tests Winograd's.
"""

from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.ops import jit, reference
from minise.ops.jit.conv import merged, unmerged
from minise.ops.jit.convolution.algorithm import algorithm_of, current_algorithm, merged_groups
from minise.ops.jit.vector.layout import pixels_of
from minise.ops.jit.vector.simd import AS_LOOPS, lanes_of
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
slow_as_python = partial(pytest.param, marks=pytest.mark.skipif(AS_LOOPS, reason="slow as Python"))
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
    more=st.integers(0, 15),
    N=st.integers(1, 3),
    size=st.tuples(st.integers(1, 11), st.integers(1, 11)),
    kernel=PAIRS,
    stride=PAIRS,
    padding=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    bias=st.booleans(),
    seed=SEEDS,
)
def test_depthwise(dtype, vectors, more, N, size, kernel, bias, seed, **where):
    """Also with channels that do not fill vectors, and with windows wider than an image."""
    lanes = lanes_of(np.dtype(dtype))
    C = vectors * lanes + more % lanes
    if any(
        length + 2 * pad <= (taps - 1) * step
        for length, pad, taps, step in zip(
            size, where["padding"], kernel, where["dilation"], strict=True
        )
    ):
        return  # the kernel is larger than the padded image
    compare("depthwise", dtype, seed, N, C, C, size, kernel, bias, groups=C, **where)


@over_dtypes
@pytest.mark.parametrize("C", [slow_as_python(300), 272])
def test_depthwise_of_many_channels(dtype, C):
    """Several ranges of channels, blocks of rows, and parts of dweight."""
    where = {"stride": (2, 1), "padding": (2, 3), "dilation": (2, 3), "groups": C}
    compare("depthwise", dtype, 0, 5, C, C, (29, 18), (3, 2), True, **where)


@over_dtypes
@pytest.mark.parametrize(
    ("C", "K", "size", "kernel", "where"),
    [
        # weights in pieces
        slow_as_python(600, 40, (7, 7), (3, 3), {"stride": (2, 2), "padding": (1, 1)}),
        (40, 330, (5, 6), (1, 1), {}),  # images together, filters split
        # blocks of channels and filters
        slow_as_python(530, 270, (9, 9), (1, 1), {"stride": (2, 2)}),
        # several blocks of rows
        slow_as_python(3, 40, (70, 60), (7, 7), {"stride": (2, 2), "padding": (3, 3)}),
        (128, 128, (20, 20), (3, 3), {"stride": (2, 2), "padding": (1, 1), "groups": 32}),
        (240, 60, (11, 9), (1, 1), {"groups": 3}),
        (16, 24, (6, 30), (1, 7), {"padding": (0, 3)}),
        (16, 24, (30, 6), (7, 1), {"padding": (3, 0)}),
    ],
)
def test_direct_in_several_tasks(dtype, C, K, size, kernel, where):
    compare("direct", dtype, 0, 3, C, K, size, kernel, True, **where)


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
    if each == (1, 1) and groups >= lanes_of(np.dtype(dtype)):
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
def test_direct_between_guard_bands(dtype, channels, groups, N, size, seed, **where):
    """NaN is around arrays, and where results are not written."""
    rng, (each, filters), kernel = np.random.default_rng(seed), channels, where.pop("kernel")
    x, weight = (
        rng.integers(-3, 4, shape).astype(dtype)
        for shape in ((N, groups * each, *size), (groups * filters, each, *kernel))
    )
    where["groups"] = groups
    out, cache = reference.conv2d_forward(x, weight, None, **where)
    dout = rng.integers(-3, 4, out.shape).astype(dtype)
    expected, *expected_params = reference.conv2d_backward(dout, cache)
    with guarded() as guards:
        laid = cache._replace(x=guards.array(x, NHWC), weight=guards.array(weight))
        dout, plus = (
            guards.array(dout, NHWC),
            guards.array(rng.integers(-3, 4, x.shape).astype(dtype), NHWC),
        )
        dx, *params = jit.conv2d_backward(dout, laid)
        np.testing.assert_array_equal(dx, expected)
        for param, wanted in zip(params, expected_params, strict=True):
            if wanted is not None:
                np.testing.assert_array_equal(param, wanted)
        np.testing.assert_array_equal(jit.conv2d_forward(laid.x, laid.weight, **where)[0], out)
        check_settings(dout, laid, (dx, *params), plus)


@over_dtypes
@pytest.mark.parametrize("shape", [(2, 3, 9, 11), (1, 17, 5, 1), (3, 1, 1, 70), (0, 3, 2, 2)])
def test_channels_are_moved_to_the_end(dtype, shape):
    images = np.arange(np.prod(shape)).astype(dtype).reshape(shape)
    pixels = pixels_of(images)
    assert pixels.flags.c_contiguous
    assert not pixels.flags.writeable
    np.testing.assert_array_equal(pixels, images.transpose(0, 2, 3, 1), strict=True)

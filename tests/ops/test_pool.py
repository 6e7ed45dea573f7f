"""Pooling: by hand, against loops, by its properties, and its messages."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given

from tests.ops.cases import (
    BACKENDS,
    SEEDS,
    STRATEGIES,
    all_equal,
    direction,
    draw,
    few,
)
from tests.ops.loops import each

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
BOTH = pytest.mark.parametrize("op", ["max_pool2d", "avg_pool2d"])
SCALE = 12**2  # a multiple of all divisors of 1x1 to 4x4 windows, so that shares are integers


def starts(size, k, step, pad, ceil_mode):
    """Return the start of each window along an axis, in pixels of the image."""
    result = list(range(-pad, size + pad - k + 1, step))
    after = -pad + len(result) * step
    if ceil_mode and result[-1] + k < size + pad and after < size:
        result.append(after)
    return result


def windows(x, kernel, stride, padding, ceil_mode):
    """Yield (p, q), the window's pixels in the image, and its number of padding pixels."""
    sizes = x.shape[2:]
    each = zip(sizes, kernel, stride or kernel, padding, strict=True)
    rows, columns = (list(enumerate(starts(*args, ceil_mode))) for args in each)
    for (p, top), (q, left) in itertools.product(rows, columns):
        framed = [
            (h, w)
            for h in range(top, min(top + kernel[0], sizes[0] + padding[0]))
            for w in range(left, min(left + kernel[1], sizes[1] + padding[1]))
        ]
        pixels = [(h, w) for h, w in framed if 0 <= h < sizes[0] and 0 <= w < sizes[1]]
        yield (p, q), pixels, len(framed) - len(pixels)


def max_loops(x, dout_of, *, kernel, stride, padding, ceil_mode):
    """Return out, dout, dx."""
    all_windows = list(windows(x, kernel, stride, padding, ceil_mode))
    out = np.zeros((*x.shape[:2], *(1 + i for i in all_windows[-1][0])), x.dtype)
    dout, dx = dout_of(out), np.zeros_like(x)
    for n, c in np.ndindex(x.shape[:2]):
        for index, pixels, _ in all_windows:
            best = pixels[0]
            for pixel in pixels[1:]:
                if x[n, c][pixel] > x[n, c][best]:
                    best = pixel
            out[n, c][index] = x[n, c][best]
            dx[n, c][best] += dout[n, c][index]
    return out, dout, dx


def avg_loops(x, dout_of, *, kernel, stride, padding, ceil_mode, count_include_pad):
    """Return out, dout, dx."""
    all_windows = list(windows(x, kernel, stride, padding, ceil_mode))
    out = np.zeros((*x.shape[:2], *(1 + i for i in all_windows[-1][0])), x.dtype)
    dout, dx = dout_of(out), np.zeros_like(x)
    for n, c in np.ndindex(x.shape[:2]):
        for index, pixels, padded in all_windows:
            divisor = len(pixels) + (padded if count_include_pad else 0)
            out[n, c][index] = sum(x[n, c][pixel] for pixel in pixels) / divisor
            for pixel in pixels:
                dx[n, c][pixel] += dout[n, c][index] / divisor
    return out, dout, dx


def image(rows):
    return np.array([[rows]], float)


# Maximum


@over_backends
def test_max_by_hand(ops):
    x = image([[1, 5, 2], [4, 3, 6]])
    out, cache = ops.max_pool2d_forward(x, kernel=(2, 2), stride=(1, 1))
    assert out.tolist() == [[[[5, 6]]]]
    (dx,) = ops.max_pool2d_backward(np.array([[[[10.0, 100.0]]]]), cache)
    assert dx.tolist() == [[[[0, 10, 0], [0, 0, 100]]]]
    assert ops.max_pool2d_branches(cache).tolist() == [[[[0 * 3 + 1, 1 * 3 + 2]]]]


@over_backends
def test_a_maximum_of_two_windows_adds_up(ops):
    x = image([[1, 5, 2]])
    out, cache = ops.max_pool2d_forward(x, kernel=(1, 2), stride=(1, 1))
    assert out.tolist() == [[[[5, 5]]]]
    (dx,) = ops.max_pool2d_backward(np.array([[[[10.0, 100.0]]]]), cache)
    assert dx.tolist() == [[[[0, 110, 0]]]]


@over_backends
@pytest.mark.parametrize("value", [0.0, -3.0, -np.inf])
def test_the_first_of_tied_maxima_wins(ops, value):
    x = np.full((1, 1, 4, 6), value)
    out, cache = ops.max_pool2d_forward(x, kernel=(2, 3))
    np.testing.assert_array_equal(out, np.full((1, 1, 2, 2), value))
    (dx,) = ops.max_pool2d_backward(np.array([[[[1.0, 2.0], [3.0, 4.0]]]]), cache)
    expected = np.zeros((4, 6))
    expected[0, 0], expected[0, 3], expected[2, 0], expected[2, 3] = 1, 2, 3, 4
    np.testing.assert_array_equal(dx[0, 0], expected)


@over_backends
@each("ceil_mode", [False, True])
@each("value", [-1.0, -1e30, -np.inf])
def test_padding_never_wins(ops, value, ceil_mode):
    x = np.full((1, 2, 5, 7), value)
    setting = dict(kernel=(3, 3), stride=(2, 3), padding=(1, 1), ceil_mode=ceil_mode)
    out, cache = ops.max_pool2d_forward(x, **setting)
    assert (out == value).all()
    (dx,) = ops.max_pool2d_backward(np.ones_like(out), cache)
    assert dx.sum() == out.size  # no gradient is in the padding
    argmax = ops.max_pool2d_branches(cache)
    assert argmax.min() == 0
    assert argmax.max() < 5 * 7


@over_backends
def test_argmax_counts_pixels_of_the_image(ops):
    x = np.arange(20.0).reshape(1, 1, 4, 5)  # the last pixel of a window is its maximum
    _, cache = ops.max_pool2d_forward(x, kernel=(2, 2), stride=(2, 2), padding=(1, 1))
    rows, columns = [0, 2, 3], [0, 2, 4]
    expected = [[h * 5 + w for w in columns] for h in rows]
    assert ops.max_pool2d_branches(cache)[0, 0].tolist() == expected


@over_backends
@few
@given(case=STRATEGIES["max_pool2d"], seed=SEEDS)
def test_max_against_loops(ops, case, seed):
    rng = np.random.default_rng(seed)
    (x,), keywords = draw(case, rng, np.float32, integers=True)  # seven values: many ties
    out, cache = ops.max_pool2d_forward(x, **keywords)
    expected, dout, dx = max_loops(x, lambda out: direction(out, rng, integers=True), **keywords)
    np.testing.assert_array_equal(out, expected)
    all_equal(ops.max_pool2d_backward(dout, cache), [dx])
    assert dx.sum() == dout.sum()


@over_backends
@few
@given(case=STRATEGIES["max_pool2d"], seed=SEEDS)
def test_dx_sums_to_the_sum_of_dout(ops, case, seed):
    """Every window adds its dout to one pixel, even if all pixels are -inf."""
    (x,), keywords = draw(case, np.random.default_rng(seed))
    x = np.full_like(x, -np.inf)
    out, cache = ops.max_pool2d_forward(x, **keywords)
    dout = direction(out, np.random.default_rng(seed), integers=True)
    (dx,) = ops.max_pool2d_backward(dout, cache)
    assert dx.sum() == dout.sum()


@over_backends
def test_nan_is_the_largest(ops):
    x = image([[1, np.nan, 7, 2], [3, 4, np.nan, 9]])
    out, cache = ops.max_pool2d_forward(x, kernel=(2, 2))
    assert np.isnan(out).all()
    assert ops.max_pool2d_branches(cache).tolist() == [[[[1, 4 + 2]]]]
    out, cache = ops.global_max_pool2d_forward(x)
    assert np.isnan(out).all()
    assert ops.global_max_pool2d_branches(cache).tolist() == [[1]]


@over_backends
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_bad_dout_reaches_only_its_maximum(ops, bad):
    """The gradient is selected, not multiplied: other pixels of the window get 0, not 0 * NaN."""
    x = image([[1, 5, 2, 3]])
    _, cache = ops.max_pool2d_forward(x, kernel=(1, 2), stride=(1, 2))
    (dx,) = ops.max_pool2d_backward(np.array([[[[bad, 7.0]]]]), cache)
    np.testing.assert_array_equal(dx, [[[[0, bad, 0, 7]]]])
    _, cache = ops.global_max_pool2d_forward(x)
    (dx,) = ops.global_max_pool2d_backward(np.array([[bad]]), cache)
    np.testing.assert_array_equal(dx, [[[[0, bad, 0, 0]]]])


# Mean


@over_backends
def test_avg_by_hand(ops):
    x = image([[1, 5, 2], [4, 3, 6]])
    out, cache = ops.avg_pool2d_forward(x, kernel=(2, 2), stride=(1, 1))
    assert out.tolist() == [[[[(1 + 5 + 4 + 3) / 4, (5 + 2 + 3 + 6) / 4]]]]
    (dx,) = ops.avg_pool2d_backward(np.array([[[[4.0, 40.0]]]]), cache)
    assert dx.tolist() == [[[[1, 1 + 10, 10], [1, 1 + 10, 10]]]]


@over_backends
@pytest.mark.parametrize(
    ("ceil_mode", "count_include_pad", "divisors"),
    [
        (False, True, [3, 3]),
        (False, False, [2, 3]),
        (True, True, [3, 3, 2]),  # pixel 5 and one of padding; positions beyond never count
        (True, False, [2, 3, 1]),
    ],
)
def test_divisors(ops, ceil_mode, count_include_pad, divisors):
    """Windows of 3 at -1, 2 and in ceil mode 5, over six pixels with one of padding."""
    x = image([[1, 2, 4, 8, 16, 32]])
    out, cache = ops.avg_pool2d_forward(
        x,
        kernel=(1, 3),
        stride=(1, 3),
        padding=(0, 1),
        ceil_mode=ceil_mode,
        count_include_pad=count_include_pad,
    )
    sums = [1 + 2, 4 + 8 + 16, 32][: len(divisors)]
    assert out.tolist() == [[[[s / d for s, d in zip(sums, divisors, strict=True)]]]]
    (dx,) = ops.avg_pool2d_backward(np.full_like(out, 6), cache)
    shares = [6 / d for d in (*divisors, np.inf)]
    assert dx.tolist() == [[[[shares[i] for i in (0, 0, 1, 1, 1, 2)]]]]


@over_backends
@few
@given(case=STRATEGIES["avg_pool2d"], seed=SEEDS)
def test_avg_against_loops(ops, case, seed):
    rng = np.random.default_rng(seed)
    (x,), keywords = draw(case, rng, np.float32, integers=True)
    out, cache = ops.avg_pool2d_forward(x, **keywords)
    expected, dout, dx = avg_loops(
        x, lambda out: direction(out, rng, integers=True, scale=SCALE), **keywords
    )
    np.testing.assert_array_equal(out, expected)
    all_equal(ops.avg_pool2d_backward(dout, cache), [dx])


# Shapes of both


@over_backends
@BOTH
@each(
    "size, kernel, stride, padding, floor, ceil",
    [
        (112, 3, 2, 0, 55, 56),  # the stem of the Caffe nets
        (112, 3, 2, 1, 56, 57),
        (32, 2, 2, 0, 16, 16),
        (7, 2, 2, 0, 3, 4),
        (6, 3, 3, 1, 2, 3),  # the third window starts at row 5, the last of the image: kept
        (5, 2, 3, 1, 2, 2),  # a third would start at row 5, in the lower padding: dropped
        (1, 1, 5, 0, 1, 1),
    ],
)
def test_sizes(ops, op, size, kernel, stride, padding, floor, ceil):
    forward = getattr(ops, f"{op}_forward")
    setting = dict(kernel=(kernel, 1), stride=(stride, 1), padding=(padding, 0))
    x = np.ones((1, 1, size, 1))
    assert forward(x, **setting)[0].shape[2] == floor
    assert forward(x, **setting, ceil_mode=True)[0].shape[2] == ceil


@over_backends
@BOTH
def test_stride_is_the_kernel_by_default(ops, op):
    forward = getattr(ops, f"{op}_forward")
    x = np.random.default_rng(0).standard_normal((1, 2, 6, 9))
    out, cache = forward(x, kernel=(2, 3))
    assert cache.stride == (2, 3)
    np.testing.assert_array_equal(out, forward(x, kernel=(2, 3), stride=(2, 3))[0])


@over_backends
@BOTH
def test_pixels_outside_all_windows_get_no_gradient(ops, op):
    x = np.ones((1, 1, 5, 5))
    out, cache = getattr(ops, f"{op}_forward")(x, kernel=(2, 2))
    (dx,) = getattr(ops, f"{op}_backward")(np.ones_like(out), cache)
    assert not dx[..., 4, :].any()
    assert not dx[..., 4].any()
    assert dx.sum() == 4


# Global


@over_backends
def test_global_by_hand(ops):
    x = image([[1, 5, 2], [4, 5, 1]])
    out, cache = ops.global_avg_pool2d_forward(x)
    assert out.tolist() == [[(1 + 5 + 2 + 4 + 5 + 1) / 6]]
    (dx,) = ops.global_avg_pool2d_backward(np.array([[12.0]]), cache)
    assert dx.tolist() == [[[[2] * 3] * 2]]
    out, cache = ops.global_max_pool2d_forward(x)
    assert out.tolist() == [[5]]
    (dx,) = ops.global_max_pool2d_backward(np.array([[12.0]]), cache)
    assert dx.tolist() == [[[[0, 12, 0], [0, 0, 0]]]]


@over_backends
@few
@given(case=STRATEGIES["global_avg_pool2d"], seed=SEEDS)
def test_global_against_loops(ops, case, seed):
    rng = np.random.default_rng(seed)
    (x,), _ = draw(case, rng, integers=True)
    size = x[0, 0].size
    mean, mean_cache = ops.global_avg_pool2d_forward(x)
    top, top_cache = ops.global_max_pool2d_forward(x)
    dout = direction(mean, rng, integers=True)
    (dmean,) = ops.global_avg_pool2d_backward(dout, mean_cache)
    (dtop,) = ops.global_max_pool2d_backward(dout, top_cache)
    for n, c in np.ndindex(x.shape[:2]):
        pixels = x[n, c].ravel().tolist()
        assert mean[n, c] == math.fsum(pixels) / size
        assert top[n, c] == max(pixels)
        first = pixels.index(max(pixels))
        assert dmean[n, c].ravel().tolist() == [dout[n, c] / size] * size
        assert dtop[n, c].ravel().tolist() == [dout[n, c] * (i == first) for i in range(size)]


# Messages


@over_backends
@BOTH
@each(
    "setting, kind, message",
    [
        (dict(kernel=2), TypeError, r"kernel is 2, expected a pair \(rows, columns\): pass \(2, 2"),
        (dict(kernel=(0, 1)), ValueError, r"kernel \(rows\) is 0, expected at least 1"),
        (dict(kernel=(2, 2), stride=2), TypeError, "stride is 2, expected a pair"),
        (dict(kernel=(2, 2), stride=(1, 0)), ValueError, r"stride \(columns\) is 0, expected at"),
        (dict(kernel=(2, 2), padding=1), TypeError, "padding is 1, expected a pair"),
        (dict(kernel=(2, 2), padding=(-1, 0)), ValueError, r"padding \(rows\) is -1, expected at"),
        (dict(kernel=(2, 3), padding=(2, 1)), ValueError, "padding is 2 rows, expected at most ha"),
        (dict(kernel=(2, 3), padding=(1, 2)), ValueError, "padding is 2 columns, expected at most"),
        (dict(kernel=(2, 2), ceil_mode=1), TypeError, "ceil_mode is 1, expected True or False"),
        (dict(kernel=(5, 1)), ValueError, "the kernel spans 5 rows, expected at most 4, the rows"),
        (dict(kernel=(2, 9), padding=(1, 1)), ValueError, "spans 9 columns, expected at most 7"),
    ],
)
def test_settings_that_are_refused(ops, op, setting, kind, message):
    with pytest.raises(kind, match=f"^{op}: .*{message}"):
        getattr(ops, f"{op}_forward")(np.ones((1, 1, 4, 5)), **setting)


@over_backends
def test_flag_of_the_mean(ops):
    message = "^avg_pool2d: count_include_pad is None, expected True or False"
    with pytest.raises(TypeError, match=message):
        ops.avg_pool2d_forward(np.ones((1, 1, 4, 5)), kernel=(2, 2), count_include_pad=None)


@over_backends
@pytest.mark.parametrize("op", ["global_avg_pool2d", "global_max_pool2d"])
def test_images_that_are_refused(ops, op):
    with pytest.raises(ValueError, match=rf"^{op}: x has shape \(2, 3\), .* 4 axes, not 2"):
        getattr(ops, f"{op}_forward")(np.ones((2, 3)))
    with pytest.raises(ValueError, match=rf"^{op}: x has shape \(2, 3, 0, 1\), .* at least 1"):
        getattr(ops, f"{op}_forward")(np.ones((2, 3, 0, 1)))

"""Batch norm: by hand, against loops, by its properties, and its messages."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ops.cases import (
    BACKENDS,
    CASES,
    EPS,
    SEEDS,
    STRATEGIES,
    Case,
    all_close,
    all_equal,
    count_of,
    direction,
    draw,
    few,
    magnitudes,
)
from tests.ops.loops import each

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
TRAINING = STRATEGIES["batch_norm2d"].filter(lambda case: case.settings["training"])
FRESH = dict(running_mean=np.zeros(1), running_var=np.ones(1))


def loops(x, gamma, beta, dout, *, running_mean, running_var, training, momentum, eps):
    """Return out, dx, dgamma, dbeta and the running statistics, by the textbook formulas."""
    out, dx, dgamma, dbeta = np.zeros_like(x), np.zeros_like(x), *np.zeros((2, len(gamma)))
    new_mean, new_var = running_mean.copy(), running_var.copy()
    for c in range(len(gamma)):
        pixels, d = x[:, c].ravel().tolist(), dout[:, c].ravel().tolist()
        M = len(pixels)
        mean, var = running_mean[c], running_var[c]
        if training:
            mean = math.fsum(pixels) / M
            squares = math.fsum((p - mean) ** 2 for p in pixels)
            var = squares / M
            new_mean[c] = (1 - momentum) * running_mean[c] + momentum * mean
            new_var[c] = (1 - momentum) * running_var[c] + momentum * squares / (M - 1)
        sd = math.sqrt(var + eps)
        xhat = [(p - mean) / sd for p in pixels]
        dbeta[c] = math.fsum(d)
        dgamma[c] = math.fsum(a * b for a, b in zip(d, xhat, strict=True))
        centred = [a - dbeta[c] / M - h * dgamma[c] / M for a, h in zip(d, xhat, strict=True)]
        out[:, c].flat = [gamma[c] * h + beta[c] for h in xhat]
        dx[:, c].flat = [gamma[c] / sd * a for a in (centred if training else d)]
    return out, dx, dgamma, dbeta, new_mean, new_var


@over_backends
def test_training_by_hand(ops):
    x = np.array([[[[-3.0, 1.0, 1.0, 1.0]]]]) + 7  # mean 7, variance (9 + 1 + 1 + 1) / 4 = 3
    out, cache = ops.batch_norm2d_forward(
        x, np.array([10.0]), np.array([100.0]), **FRESH, training=True, eps=1.0, momentum=0.25
    )  # rstd = 1 / sqrt(3 + 1) = 1/2
    assert out.tolist() == [[[[100 - 15, 100 + 5, 100 + 5, 100 + 5]]]]
    assert cache.running_mean.tolist() == [0.75 * 0 + 0.25 * 7]
    assert cache.running_var.tolist() == [0.75 * 1 + 0.25 * (9 + 1 + 1 + 1) / 3]  # unbiased
    dx, dgamma, dbeta = ops.batch_norm2d_backward(np.array([[[[4.0, 0.0, 0.0, 0.0]]]]), cache)
    assert dbeta.tolist() == [4]
    assert dgamma.tolist() == [4 * -3 / 2]
    direct, mean, slope = 4, 4 / 4, 4 * -3 / 2 / 4  # dx = gamma rstd (dout - mean - xhat slope)
    first, other = direct - mean + 3 / 2 * slope, -mean - 1 / 2 * slope
    assert dx.tolist() == [[[[5 * first, 5 * other, 5 * other, 5 * other]]]]


@over_backends
def test_evaluation_by_hand(ops):
    x = np.array([[[[5.0, 9.0]]]])
    out, cache = ops.batch_norm2d_forward(
        x,
        np.array([10.0]),
        np.array([100.0]),
        running_mean=np.array([7.0]),
        running_var=np.array([3.0]),
        training=False,
        eps=1.0,
    )
    assert out.tolist() == [[[[100 - 10 * 2 / 2, 100 + 10 * 2 / 2]]]]
    assert (cache.running_mean.tolist(), cache.running_var.tolist()) == ([7], [3])
    dx, dgamma, dbeta = ops.batch_norm2d_backward(np.array([[[[1.0, 3.0]]]]), cache)
    assert dx.tolist() == [[[[10 / 2 * 1, 10 / 2 * 3]]]]
    assert dgamma.tolist() == [1 * -1 + 3 * 1]
    assert dbeta.tolist() == [1 + 3]


@over_backends
@pytest.mark.parametrize("training", [True, False])
@few
@given(
    sizes=st.sampled_from([(1, 1, 4), (4, 1, 1), (2, 2, 1), (2, 4, 2), (1, 2, 8), (4, 2, 4)]),
    C=st.integers(1, 4),
    momentum=st.sampled_from([0.0, 0.25, 1.0]),
    seed=SEEDS,
)
def test_integers_against_loops(ops, training, sizes, C, momentum, seed):
    """With rstd = 1/2 and 2^k pixels only new_var is rounded, because of M - 1."""
    rng = np.random.default_rng(seed)
    N, H, W = sizes
    setting = dict(training=training, momentum=momentum, eps=1.0)
    case = Case("batch_norm2d", dict(N=N, C=C, H=H, W=W), setting)
    inputs, keywords = draw(case, rng, integers=True)
    out, cache = ops.batch_norm2d_forward(*inputs, **keywords)
    dout = direction(out, rng, integers=True)
    expected = loops(*inputs, dout, **keywords)
    gradients = ops.batch_norm2d_backward(dout, cache)
    all_equal([out, *gradients, cache.running_mean], expected[:5])
    np.testing.assert_allclose(cache.running_var, expected[5], rtol=8 * EPS)  # eight roundings


@over_backends
@few
@given(case=STRATEGIES["batch_norm2d"], seed=SEEDS)
def test_against_loops(ops, case, seed):
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng)
    out, cache = ops.batch_norm2d_forward(*inputs, **keywords)
    dout = direction(out, rng)
    expected = loops(*inputs, dout, **keywords)
    ours = [out, *ops.batch_norm2d_backward(dout, cache)]
    count = count_of(inputs, out)
    all_close(ours, expected[:4], magnitudes("batch_norm2d", inputs, keywords, dout), count)
    x, mean, var = inputs[0], keywords["running_mean"], keywords["running_var"]
    level = abs(x).max() + abs(mean)
    all_close(
        [cache.running_mean, cache.running_var],
        expected[4:],
        [level, var + 2 * level**2],  # M / (M - 1) is at most 2
        count,
    )


@over_backends
@few
@given(case=TRAINING, seed=SEEDS)
def test_dx_is_orthogonal_to_ones_and_xhat(ops, case, seed):
    """In training, up to eps."""
    rng = np.random.default_rng(seed)
    (x, gamma, beta), keywords = draw(case, rng)
    keywords["eps"] = 1e-300
    out, cache = ops.batch_norm2d_forward(x, gamma, beta, **keywords)
    dout = direction(out, rng)
    dx, _, _ = ops.batch_norm2d_backward(dout, cache)
    xhat = (x - cache.mean[:, None, None]) * cache.rstd[:, None, None]
    _, terms, _, _ = magnitudes("batch_norm2d", (x, gamma, beta), keywords, dout)
    count = count_of((x, gamma, beta), out)
    sums = dx.sum(axis=(0, 2, 3)), (dx * xhat).sum(axis=(0, 2, 3))
    weights = np.ones_like(x), abs(xhat)
    bounds = [(terms * w).sum(axis=(0, 2, 3)) for w in weights]
    all_close(sums, [np.zeros_like(gamma)] * 2, bounds, count)


@over_backends
def test_ones_and_xhat_as_dout_give_no_dx(ops):
    """So a gradient check with dout = ones would pass for any backward."""
    rng = np.random.default_rng(0)
    inputs, keywords = draw(CASES["batch_norm2d"]["training"], rng, integers=True)
    keywords["eps"] = 1e-300  # rstd = 1 / sqrt(3): only sums over xhat are rounded
    out, cache = ops.batch_norm2d_forward(*inputs, **keywords)
    dx, _, _ = ops.batch_norm2d_backward(np.ones_like(out), cache)
    assert abs(dx).max() <= count_of(inputs, out) * EPS * 9  # |gamma| xhat**2 <= 3 * 3


@over_backends
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("level", [1e3, -1e5])
def test_the_error_grows_linearly_with_the_mean(ops, dtype, level):
    """E[x**2] - E[x]**2 would lose level**2 * eps; centred squares lose level * eps."""
    rng = np.random.default_rng(0)
    x = (level + rng.standard_normal((4, 2, 8, 8))).astype(dtype)
    ones, zeros = np.ones(2, dtype), np.zeros(2, dtype)
    setting = dict(running_mean=zeros, running_var=ones, training=True, momentum=1)
    out, cache = ops.batch_norm2d_forward(x, ones, zeros, **setting)
    exact = x.astype(np.longdouble)
    centred = exact - exact.mean(axis=(0, 2, 3), keepdims=True)
    var = (centred**2).mean(axis=(0, 2, 3))
    M = x.size // 2
    # rounding errors in a sum of M numbers of this level change the mean by at most M eps level
    shift = M * np.finfo(dtype).eps * abs(level)
    assert (abs(cache.mean - exact.mean(axis=(0, 2, 3))) <= shift).all()
    # the variance gains the square of this shift; means of parts, rounded to the level's last
    # digit, differ from the total mean by at most as much as the numbers do
    digit = np.finfo(dtype).eps * abs(level)
    error = shift**2 + 2 * digit * np.sqrt(var) + (M + 4) * np.finfo(dtype).eps * var
    assert (abs(cache.running_var - var * M / (M - 1)) <= 2 * error).all()
    if shift < 1:
        assert (
            abs(out - centred / np.sqrt(var + 1e-5)[:, None, None]) <= 4 * (shift + error)[0]
        ).all()


@over_backends
def test_statistics_of_float32_keep_their_digits(ops):
    """The case of gradients.md: at mean 1000 in float32, E[x**2] - E[x]**2 has no correct digit."""
    x = np.float32(1000) + np.resize(np.float32([-1, 1]), (4, 1, 8, 8))
    ones = np.ones(1, np.float32)
    _, cache = ops.batch_norm2d_forward(
        x, ones, ones, running_mean=ones, running_var=ones, training=True, momentum=1
    )
    assert cache.running_mean.tolist() == [1000]  # integers below 2**24: every sum is exact
    assert cache.running_var.tolist() == [np.float32(256 / 255)]
    naive_var = np.float32((x * x).mean() - x.mean() ** 2)
    assert abs(naive_var - 1) > 0.05 or naive_var == 1  # exact only by chance


@over_backends
@pytest.mark.parametrize("running", [0, 1, 1e4])
def test_with_momentum_1_the_running_statistics_are_the_batchs(ops, running):
    """A variance of 2^-14 keeps its precision if the previous running_var is far larger."""
    x = np.resize(np.float32([-1, 1]), (4, 1, 8, 8)) * np.float32(2**-7)
    ones, before = np.ones(1, np.float32), np.full(1, running, np.float32)
    _, cache = ops.batch_norm2d_forward(
        x, ones, ones, running_mean=before, running_var=before, training=True, momentum=1
    )
    assert cache.running_mean.tolist() == [0]
    # unbiased = var * (256 / 255): one rounding of the factor, one of the product
    np.testing.assert_allclose(cache.running_var, 2**-14 * 256 / 255, rtol=2 * 2**-24)


@over_backends
@few
@given(case=STRATEGIES["batch_norm2d"], seed=SEEDS)
def test_evaluation_reads_no_batch(ops, case, seed):
    """An image alone has the same result as in a batch, and the statistics do not change."""
    inputs, keywords = draw(case, np.random.default_rng(seed))
    keywords["training"] = False
    x, gamma, beta = inputs
    out, cache = ops.batch_norm2d_forward(x, gamma, beta, **keywords)
    for n in range(len(x)):
        alone, _ = ops.batch_norm2d_forward(x[n : n + 1], gamma, beta, **keywords)
        np.testing.assert_array_equal(alone[0], out[n])
    np.testing.assert_array_equal(cache.running_mean, keywords["running_mean"])
    np.testing.assert_array_equal(cache.running_var, keywords["running_var"])


@over_backends
def test_training_reads_no_running_statistics(ops):
    inputs, keywords = draw(CASES["batch_norm2d"]["training"], np.random.default_rng(0))
    out, _ = ops.batch_norm2d_forward(*inputs, **keywords)
    keywords["running_mean"] = keywords["running_mean"] + 9
    keywords["running_var"] = keywords["running_var"] * 9
    np.testing.assert_array_equal(ops.batch_norm2d_forward(*inputs, **keywords)[0], out)


@over_backends
def test_nan_in_the_statistics(ops):
    inputs, keywords = draw(CASES["batch_norm2d"]["evaluation"], np.random.default_rng(0))
    for name in ("running_mean", "running_var"):
        poisoned = keywords[name].copy()
        poisoned[1] = np.nan
        out, _ = ops.batch_norm2d_forward(*inputs, **{**keywords, name: poisoned})
        assert np.isnan(out[:, 1]).all()
        assert not np.isnan(out[:, [0, 2, 3]]).any()


@over_backends
def test_nan_in_a_batch_reaches_its_channel_and_its_statistics(ops):
    inputs, keywords = draw(CASES["batch_norm2d"]["training"], np.random.default_rng(0))
    inputs[0][0, 1, 2, 3] = np.nan
    out, cache = ops.batch_norm2d_forward(*inputs, **keywords)
    assert np.isnan(out[:, 1]).all()
    assert np.isnan([cache.running_mean[1], cache.running_var[1]]).all()
    assert not np.isnan(out[:, [0, 2, 3]]).any()


@over_backends
@each(
    "setting, kind, message",
    [
        (dict(training=1), TypeError, r"training is 1, expected True or False: pass bool\(...\)"),
        (dict(momentum=1.5), ValueError, "momentum is 1.5, expected a number from 0 to 1"),
        (dict(momentum=None), ValueError, "momentum is None, expected a number from 0 to 1"),
        (dict(momentum="0.1"), ValueError, "momentum is '0.1', expected a number from 0 to 1"),
        (dict(eps=0), ValueError, "eps is 0, expected a small number above 0, such as 1e-5"),
        (dict(eps=-1e-5), ValueError, "eps is -1e-05, expected a small number above 0"),
        (dict(running_mean=np.ones(3)), ValueError, r"running_mean has shape \(3,\), .* C = 2"),
        (dict(running_var=np.ones((2, 1))), ValueError, "running_var has shape .* 1 axes, not 2"),
        (dict(running_var=None), TypeError, "running_var is a NoneType, expected an array"),
        (
            dict(running_mean=np.ones(2, np.float32)),
            TypeError,
            "running_mean has dtype float32, expected float64",
        ),
    ],
)
def test_settings_that_are_refused(ops, setting, kind, message):
    good = dict(running_mean=np.zeros(2), running_var=np.ones(2), training=True)
    with pytest.raises(kind, match=f"^batch_norm2d: {message}"):
        ops.batch_norm2d_forward(
            np.ones((2, 2, 3, 4)), np.ones(2), np.ones(2), **{**good, **setting}
        )


@over_backends
def test_one_value_per_channel(ops):
    x, ones = np.ones((1, 2, 1, 1)), np.ones(2)
    setting = dict(running_mean=ones, running_var=ones)
    with pytest.raises(
        ValueError,
        match=r"^batch_norm2d: x has shape \(1, 2, 1, 1\), expected N \* H \* W above 1 in train",
    ):
        ops.batch_norm2d_forward(x, ones, ones, **setting, training=True)
    out, _ = ops.batch_norm2d_forward(x, ones, ones, **setting, training=False)
    assert out.tolist() == x.tolist()
    with pytest.raises(
        ValueError, match=r"^batch_norm2d: gamma has shape \(1,\), .* C = 2 as in x"
    ):
        ops.batch_norm2d_forward(x, ones[:1], ones, **setting, training=False)
    with pytest.raises(ValueError, match=r"^batch_norm2d: x has shape \(1, 2\), .* 4 axes, not 2"):
        ops.batch_norm2d_forward(x[:, :, 0, 0], ones, ones, **setting, training=False)

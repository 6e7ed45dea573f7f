"""Add, concat, channel scale, shuffle, dropout, shake: by hand, against loops, and messages."""

import itertools
from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.gradcheck import check
from minise.ops import jit, reference
from tests.ops.cases import BACKENDS, SEEDS, STRATEGIES, direction, draw, few
from tests.ops.loops import each

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)


def drawn(case, seed):
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng, np.float32, integers=True)
    return inputs, keywords, rng


# Add


@over_backends
def test_add_by_hand(ops):
    out, cache = ops.add_forward(np.array([1.0, 2.0]), np.array([10.0, 20.0]))
    assert out.tolist() == [11, 22]
    da, db = ops.add_backward(np.array([3.0, 4.0]), cache)
    assert da.tolist() == db.tolist() == [3, 4]


@over_backends
@few
@given(case=STRATEGIES["add"], seed=SEEDS)
def test_add(ops, case, seed):
    (a, b), _, rng = drawn(case, seed)
    out, cache = ops.add_forward(a, b)
    assert np.ravel(out).tolist() == [p + q for p, q in zip(a.flat, b.flat, strict=True)]
    dout = direction(out, rng)
    for gradient in ops.add_backward(dout, cache):
        np.testing.assert_array_equal(gradient, dout)


@over_backends
def test_a_number_added_to_itself(ops):
    a = np.array([1.0, 2.0])
    out, cache = ops.add_forward(a, a)
    assert out.tolist() == [2, 4]
    da, db = ops.add_backward(np.ones(2), cache)
    assert (da + db).tolist() == [2, 2]


@over_backends
def test_nothing_is_broadcast(ops):
    for a, b in itertools.permutations([np.array(1.0), np.ones(1), np.ones(3), np.ones((1, 3))], 2):
        with pytest.raises(ValueError, match="^add: b has shape .* of a: change one of them"):
            ops.add_forward(a, b)


# Concat


@over_backends
def test_concat_by_hand(ops):
    a, b = np.array([[[[1.0]], [[2.0]]]]), np.array([[[[3.0]]]])
    out, cache = ops.concat_forward(a, b)
    assert out.ravel().tolist() == [1, 2, 3]
    da, db = ops.concat_backward(np.array([[[[10.0]], [[20.0]], [[30.0]]]]), cache)
    assert (da.ravel().tolist(), db.ravel().tolist()) == ([10, 20], [30])


@over_backends
@few
@given(case=STRATEGIES["concat"], seed=SEEDS)
def test_concat(ops, case, seed):
    xs, _, rng = drawn(case, seed)
    out, cache = ops.concat_forward(*xs)
    dout = direction(out, rng)
    gradients = ops.concat_backward(dout, cache)
    channel = 0
    for x, dx in zip(xs, gradients, strict=True):
        for c in range(x.shape[1]):
            np.testing.assert_array_equal(out[:, channel], x[:, c])
            np.testing.assert_array_equal(dx[:, c], dout[:, channel])
            channel += 1
    assert channel == out.shape[1]


@over_backends
def test_concat_messages(ops):
    x = np.ones((2, 3, 4, 5))
    with pytest.raises(
        ValueError, match="^concat: received no array, expected one or more: pass xs"
    ):
        ops.concat_forward()
    with pytest.raises(ValueError, match=r"^concat: xs\[2\] has shape .* N = 2 as in xs\[0\]"):
        ops.concat_forward(x, x, x[:1])
    with pytest.raises(
        ValueError, match=r"^concat: xs\[1\] has shape .* 4 axes, not 3: reshape it"
    ):
        ops.concat_forward(x, x[0])
    with pytest.raises(TypeError, match=r"^concat: xs\[1\] has dtype float32, expected float64"):
        ops.concat_forward(x, x.astype(np.float32))
    _, cache = ops.concat_forward(x, x)
    with pytest.raises(ValueError, match=r"^concat: dout has shape .*, expected \(2, 6, 4, 5\) as"):
        ops.concat_backward(x, cache)


# Channel scale


@over_backends
def test_channel_scale_by_hand(ops):
    x, s = np.array([[[[1.0, 2.0]], [[3.0, 4.0]]]]), np.array([[10.0, 100.0]])
    out, cache = ops.channel_scale_forward(x, s)
    assert out.tolist() == [[[[10, 20]], [[300, 400]]]]
    dx, ds = ops.channel_scale_backward(np.array([[[[1.0, 2.0]], [[3.0, 5.0]]]]), cache)
    assert dx.tolist() == [[[[1 * 10, 2 * 10]], [[3 * 100, 5 * 100]]]]
    assert ds.tolist() == [[1 * 1 + 2 * 2, 3 * 3 + 5 * 4]]


@over_backends
@few
@given(case=STRATEGIES["channel_scale"], seed=SEEDS)
def test_channel_scale(ops, case, seed):
    (x, s), _, rng = drawn(case, seed)
    out, cache = ops.channel_scale_forward(x, s)
    dout = direction(out, rng, integers=True)
    dx, ds = ops.channel_scale_backward(dout, cache)
    expected = np.zeros_like(s)
    for n, c, i, j in np.ndindex(x.shape):
        assert out[n, c, i, j] == x[n, c, i, j] * s[n, c]
        assert dx[n, c, i, j] == dout[n, c, i, j] * s[n, c]
        expected[n, c] += dout[n, c, i, j] * x[n, c, i, j]
    np.testing.assert_array_equal(ds, expected)


@over_backends
def test_channel_scale_messages(ops):
    x = np.ones((2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"^channel_scale: s has shape \(2, 4\), .* C = 3 as in x"):
        ops.channel_scale_forward(x, np.ones((2, 4)))
    with pytest.raises(ValueError, match=r"^channel_scale: s has shape .* 2 axes, not 4"):
        ops.channel_scale_forward(x, np.ones((2, 3, 1, 1)))


# Channel shuffle


@over_backends
def test_channel_shuffle_by_hand(ops):
    x = np.arange(6.0).reshape(1, 6, 1, 1)  # two groups: 0 1 2 and 3 4 5
    out, cache = ops.channel_shuffle_forward(x, groups=2)
    assert out.ravel().tolist() == [0, 3, 1, 4, 2, 5]
    (dx,) = ops.channel_shuffle_backward(x, cache)
    assert dx.ravel().tolist() == [0, 2, 4, 1, 3, 5]


@over_backends
@few
@given(case=STRATEGIES["channel_shuffle"], seed=SEEDS)
def test_channel_shuffle(ops, case, seed):
    (x,), keywords, _ = drawn(case, seed)
    groups = keywords["groups"]
    out, cache = ops.channel_shuffle_forward(x, groups=groups)
    each = x.shape[1] // groups
    for g, k in np.ndindex(groups, each):
        np.testing.assert_array_equal(out[:, k * groups + g], x[:, g * each + k])
    np.testing.assert_array_equal(ops.channel_shuffle_backward(out, cache)[0], x)
    back, _ = ops.channel_shuffle_forward(out, groups=each)  # the inverse permutation
    np.testing.assert_array_equal(back, x)


@over_backends
def test_channel_shuffle_messages(ops):
    x = np.ones((1, 6, 1, 1))
    message = "^channel_shuffle: groups is 4, expected a divisor of C = 6"
    with pytest.raises(ValueError, match=message):
        ops.channel_shuffle_forward(x, groups=4)
    with pytest.raises(ValueError, match="^channel_shuffle: groups is 0, expected at least 1"):
        ops.channel_shuffle_forward(x, groups=0)
    with pytest.raises(TypeError, match="^channel_shuffle: groups is 2.0, expected an integer"):
        ops.channel_shuffle_forward(x, groups=2.0)
    with pytest.raises(ValueError, match="^channel_shuffle: x has shape .* 4 axes, not 2"):
        ops.channel_shuffle_forward(x[:, :, 0, 0], groups=2)


# Dropout


@over_backends
def test_dropout_by_hand(ops):
    x, mask = np.array([1.0, 2.0, 3.0]), np.array([True, False, True])
    out, cache = ops.dropout_forward(x, mask, p=0.75)
    assert out.tolist() == [4, 0, 12]
    dx, dmask = ops.dropout_backward(np.array([1.0, 1.0, -1.0]), cache)
    assert dx.tolist() == [4, 0, -4]
    assert dmask is None


@over_backends
@few
@given(case=STRATEGIES["dropout"], seed=SEEDS)
def test_dropout(ops, case, seed):
    (x, mask), keywords, rng = drawn(case, seed)
    out, cache = ops.dropout_forward(x, mask, **keywords)
    dout = direction(out, rng)
    dx, _ = ops.dropout_backward(dout, cache)
    keep = np.float32(1 - keywords["p"])
    for v, m, y, d, g in zip(x.flat, mask.flat, out.flat, dout.flat, dx.flat, strict=True):
        assert y == (v / keep if m else 0)
        assert g == (d / keep if m else 0)


@over_backends
@given(p=st.sampled_from([0.1, 0.5]), seed=SEEDS)
def test_dropout_keeps_the_mean(ops, p, seed):
    mask = np.random.default_rng(seed).random(10_000) >= p
    out, _ = ops.dropout_forward(np.ones(10_000), mask, p=p)
    assert out.mean() == pytest.approx(mask.mean() / (1 - p), rel=1e-12)  # 10,000 eps is 2e-12


@over_backends
def test_dropped_values_do_not_propagate(ops):
    """Selected, not multiplied: a dropped NaN or infinity is 0."""
    x, mask = np.array([np.nan, np.inf, np.nan]), np.array([False, False, True])
    out, cache = ops.dropout_forward(x, mask, p=0.5)
    assert out[:2].tolist() == [0, 0]
    assert np.isnan(out[2])
    dx, _ = ops.dropout_backward(x, cache)
    assert dx[:2].tolist() == [0, 0]


@over_backends
@each("p", [-0.1, 1, 1.0, 1.5, np.nan, None, "0.5"])
def test_dropout_refuses_shares(ops, p):
    message = f"^dropout: p is {p!r}, expected a number from 0 to below 1"
    with pytest.raises(ValueError, match=message):
        ops.dropout_forward(np.ones(3), np.ones(3, bool), p=p)


@over_backends
def test_dropout_messages(ops):
    with pytest.raises(
        TypeError, match="^dropout: mask has dtype float64, expected bool: pass mas"
    ):
        ops.dropout_forward(np.ones(3), np.ones(3), p=0.5)
    with pytest.raises(ValueError, match=r"^dropout: mask has shape \(1, 3\), .* \(3,\) of x"):
        ops.dropout_forward(np.ones(3), np.ones((1, 3), bool), p=0.5)
    with pytest.raises(
        ValueError, match=r"^dropout: mask has shape \(1,\), .* the shape \(\) of x"
    ):
        ops.dropout_forward(np.array(1.0), np.ones(1, bool), p=0.5)


# Shake


@over_backends
def test_shake_by_hand(ops):
    x1, x2 = np.array([[[[8.0, 4.0]]], [[[12.0, 0.0]]]]), np.array([[[[0.0, 8.0]]], [[[4.0, 4.0]]]])
    shares = dict(alpha=np.array([0.25, 1.0]), beta=np.array([0.5, 0.125]))
    out, cache = ops.shake_forward(x1, x2, **shares)
    assert out.ravel().tolist() == [0.25 * 8, 0.25 * 4 + 0.75 * 8, 12, 0]
    dx1, dx2 = ops.shake_backward(np.array([[[[2.0, 4.0]]], [[[8.0, 16.0]]]]), cache)
    assert dx1.ravel().tolist() == [1, 2, 1, 2]
    assert dx2.ravel().tolist() == [1, 2, 7, 14]


@over_backends
@few
@given(case=STRATEGIES["shake"], seed=SEEDS)
def test_shake(ops, case, seed):
    rng = np.random.default_rng(seed)
    (x1, x2), shares = draw(case, rng, np.float32, integers=True, independent=True)
    alpha, beta = shares["alpha"], shares["beta"]
    out, cache = ops.shake_forward(x1, x2, **shares)
    dout = direction(out, rng, integers=True)
    dx1, dx2 = ops.shake_backward(dout, cache)
    for n, c, i, j in np.ndindex(x1.shape):
        at = n, c, i, j
        assert out[at] == alpha[n] * x1[at] + (1 - alpha[n]) * x2[at]
        assert dx1[at] == beta[n] * dout[at]
        assert dx2[at] == (1 - beta[n]) * dout[at]


@pytest.mark.parametrize("ops", [reference, jit], ids=["reference", "jit"])
def test_shakes_backward_is_the_derivative_only_where_beta_is_alpha(ops):
    rng = np.random.default_rng(0)
    images = [rng.standard_normal((2, 3, 2, 2)) for _ in range(2)]
    alpha = np.array([0.2, 0.9])
    for beta, verdict in ((alpha, "right"), (np.array([0.2, 0.8]), "wrong"), (1 - alpha, "wrong")):
        forward = partial(ops.shake_forward, alpha=alpha, beta=beta)
        report = check(forward, ops.shake_backward, images, rng)
        assert {argument.verdict for argument in report.arguments} == {verdict}


@over_backends
def test_shake_passes_nan_on_from_a_branch_without_a_share(ops):
    """Multiplied, not selected: a share of 0 does not hide a branch that has diverged."""
    x1, x2 = np.full((1, 1, 1, 2), np.nan), np.ones((1, 1, 1, 2))
    for first, second, alpha in ((x1, x2, 0.0), (x2, x1, 1.0)):
        share = np.array([alpha])
        out, _ = ops.shake_forward(first, second, alpha=share, beta=share)
        assert np.isnan(out).all()


@over_backends
def test_shake_messages(ops):
    x, share = np.ones((2, 3, 4, 5)), np.ones(2)
    with pytest.raises(ValueError, match=r"^shake: x2 has shape .* H = 4 as in x1: change one"):
        ops.shake_forward(x, x[:, :, :2], alpha=share, beta=share)
    with pytest.raises(ValueError, match=r"^shake: beta has shape \(3,\), .* N = 2 as in x1: ch"):
        ops.shake_forward(x, x, alpha=share, beta=np.ones(3))
    with pytest.raises(ValueError, match=r"^shake: alpha has shape .* 1 axes, not 4: reshape it"):
        ops.shake_forward(x, x, alpha=np.ones((2, 1, 1, 1)), beta=share)
    with pytest.raises(TypeError, match="^shake: alpha has dtype float32, expected float64 as the"):
        ops.shake_forward(x, x, alpha=share.astype(np.float32), beta=share)

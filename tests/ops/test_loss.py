"""Softmax cross-entropy: by hand, against math, by its properties, and its messages."""

import math

import numpy as np
import pytest
from hypothesis import given

from tests.ops.cases import (
    BACKENDS,
    EPS,
    SEEDS,
    STRATEGIES,
    all_close,
    count_of,
    direction,
    draw,
    few,
    magnitudes,
)
from tests.ops.loops import each

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
CHECKED = {name: BACKENDS[name] for name in ("reference", "jit")}  # back ends that check labels
UNCHECKED = {name: ops for name, ops in BACKENDS.items() if name not in CHECKED}
ONE = np.array(1.0)


def by_math(logits, labels, dout, *, label_smoothing):
    """Return the loss and dlogits, sample by sample."""
    N, K = logits.shape
    losses, dlogits = [], np.zeros_like(logits)
    for n, label in enumerate(labels.tolist()):
        row = logits[n].tolist()
        total = math.fsum(math.exp(a) for a in row)
        target = [label_smoothing / K + (1 - label_smoothing) * (k == label) for k in range(K)]
        losses.append(
            -math.fsum(w * math.log(math.exp(a) / total) for w, a in zip(target, row, strict=True))
        )
        for k in range(K):
            dlogits[n, k] = (math.exp(row[k]) / total - target[k]) / N * dout
    return math.fsum(losses) / N, dlogits


@over_backends
def test_by_hand(ops):
    logits = np.log([[1.0, 3.0], [1.0, 1.0]])  # probabilities 1/4, 3/4 and 1/2, 1/2
    loss, cache = ops.softmax_cross_entropy_forward(logits, np.array([1, 0]))
    assert isinstance(loss, np.ndarray)
    assert loss.shape == ()
    np.testing.assert_array_max_ulp(loss, np.array((math.log(4 / 3) + math.log(2)) / 2), 4)
    dlogits, dlabels = ops.softmax_cross_entropy_backward(np.array(8.0), cache)
    expected = np.array([[1 / 4, 3 / 4 - 1], [1 / 2 - 1, 1 / 2]]) / 2 * 8
    np.testing.assert_array_max_ulp(dlogits, expected, 8)
    assert dlabels is None


@over_backends
def test_smoothing_by_hand(ops):
    logits = np.log([[1.0, 3.0]])
    loss, cache = ops.softmax_cross_entropy_forward(logits, np.array([1]), label_smoothing=0.5)
    hit, miss = math.log(3 / 4), math.log(1 / 4)
    np.testing.assert_array_max_ulp(loss, np.array(-3 / 4 * hit - 1 / 4 * miss), 8)
    dlogits, _ = ops.softmax_cross_entropy_backward(np.array(8.0), cache)
    assert abs(dlogits).max() <= 8 * 8 * EPS  # 1/4 and 3/4 are the target


@over_backends
def test_equal_logits(ops):
    loss, cache = ops.softmax_cross_entropy_forward(np.full((3, 10), 7.0), np.array([0, 4, 9]))
    np.testing.assert_array_max_ulp(loss, np.array(math.log(10)), 4)
    dlogits, _ = ops.softmax_cross_entropy_backward(ONE, cache)
    np.testing.assert_allclose(dlogits, (1 / 10 - np.eye(10)[[0, 4, 9]]) / 3, atol=8 * EPS)


@over_backends
@few
@given(case=STRATEGIES["softmax_cross_entropy"], seed=SEEDS)
def test_against_math(ops, case, seed):
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng)
    loss, cache = ops.softmax_cross_entropy_forward(*inputs, **keywords)
    dout = direction(loss, rng)
    ours = [loss, *ops.softmax_cross_entropy_backward(dout, cache)]
    theirs = [*by_math(*inputs, dout, **keywords), None]
    terms = magnitudes("softmax_cross_entropy", inputs, keywords, dout)
    all_close(ours, theirs, terms, 4 + count_of(inputs, loss))  # exp and log: four roundings more


@over_backends
@few
@given(case=STRATEGIES["softmax_cross_entropy"], seed=SEEDS)
def test_rows_of_dlogits_add_up_to_zero(ops, case, seed):
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng)
    _, cache = ops.softmax_cross_entropy_forward(*inputs, **keywords)
    dlogits, _ = ops.softmax_cross_entropy_backward(ONE, cache)
    N, K = inputs[0].shape
    assert (abs(dlogits.sum(axis=1)) <= 8 * K * EPS / N).all()  # K terms, each at most 1 / N


@over_backends
@few
@given(case=STRATEGIES["softmax_cross_entropy"], seed=SEEDS)
def test_a_batch_twice(ops, case, seed):
    """The loss is a mean: a repeated batch has the same loss and half the gradient per sample."""
    (logits, labels), keywords = draw(case, np.random.default_rng(seed))
    loss, cache = ops.softmax_cross_entropy_forward(logits, labels, **keywords)
    once, _ = ops.softmax_cross_entropy_backward(ONE, cache)
    twice_loss, cache = ops.softmax_cross_entropy_forward(
        np.concatenate([logits, logits]), np.concatenate([labels, labels]), **keywords
    )
    twice, _ = ops.softmax_cross_entropy_backward(ONE, cache)
    assert abs(twice_loss - loss) <= 2 * 2 * len(labels) * EPS * abs(loss)  # one longer sum
    np.testing.assert_allclose(2 * twice, np.concatenate([once, once]), rtol=8 * EPS, atol=8 * EPS)


@over_backends
@few
@given(case=STRATEGIES["softmax_cross_entropy"], seed=SEEDS)
def test_a_constant_changes_nothing(ops, case, seed):
    rng = np.random.default_rng(seed)
    (logits, labels), keywords = draw(case, rng, integers=True)
    loss, _ = ops.softmax_cross_entropy_forward(logits, labels, **keywords)
    shift = rng.integers(-100, 100, (len(logits), 1))  # integers: the shift is exact
    shifted, _ = ops.softmax_cross_entropy_forward(logits + shift, labels, **keywords)
    assert shifted == loss


@over_backends
@each("dtype", [np.float32, np.float64])
@each("size", [1e4, 1e30])
@each("label_smoothing", [0.0, 0.1])
def test_large_logits_stay_finite(ops, dtype, size, label_smoothing):
    logits = np.array([[size, 0, -size], [-size, size, 0]], dtype)
    loss, cache = ops.softmax_cross_entropy_forward(
        logits, np.array([0, 0]), label_smoothing=label_smoothing
    )
    at_label = (0 + 2 * size) / 2
    spread = ((1 + 2) / 3 * size + (2 + 1) / 3 * size) / 2
    expected = (1 - label_smoothing) * at_label + label_smoothing * spread
    assert loss == pytest.approx(expected, rel=8 * float(np.finfo(dtype).eps))
    dlogits, _ = ops.softmax_cross_entropy_backward(np.array(1, dtype), cache)
    e = label_smoothing
    target = np.array([[1 - e + e / 3, e / 3, e / 3]] * 2)
    hit = np.array([[1, 0, 0], [0, 1, 0]])
    np.testing.assert_allclose(dlogits, (hit - target) / 2, atol=8 * np.finfo(dtype).eps)


@over_backends
def test_a_masked_class(ops):
    """A logit of -inf excludes a class; without smoothing the loss stays finite."""
    logits = np.array([[0.0, -np.inf, 0.0]])
    loss, cache = ops.softmax_cross_entropy_forward(logits, np.array([0]))
    np.testing.assert_array_max_ulp(loss, np.array(math.log(2)), 2)
    dlogits, _ = ops.softmax_cross_entropy_backward(ONE, cache)
    np.testing.assert_allclose(dlogits, [[-1 / 2, 0, 1 / 2]], rtol=4 * EPS)


@over_backends
def test_small_losses_keep_their_digits(ops):
    """For a probability near 1, the loss is a small number with full precision."""
    loss, _ = ops.softmax_cross_entropy_forward(np.array([[0.0, -30.0]]), np.array([0]))
    assert abs(loss - math.log1p(math.exp(-30))) <= EPS  # 1 + exp(-30) is rounded at 1


@over_backends
@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64, np.uint64])
def test_labels_of_any_integer(ops, dtype):
    logits = np.random.default_rng(0).standard_normal((4, 3))
    labels = np.array([0, 2, 1, 2])
    expected, _ = ops.softmax_cross_entropy_forward(logits, labels)
    loss, cache = ops.softmax_cross_entropy_forward(logits, labels.astype(dtype))
    assert loss == expected
    assert ops.softmax_cross_entropy_backward(ONE, cache)[0].dtype == np.float64


@pytest.mark.parametrize("ops", CHECKED.values(), ids=CHECKED)
def test_labels_out_of_range_are_refused(ops):
    forward, op = ops.softmax_cross_entropy_forward, "softmax_cross_entropy"
    with pytest.raises(
        ValueError, match=rf"^{op}: labels\[1\] is 3, expected 0..2 as logits has 3"
    ):
        forward(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(ValueError, match=rf"^{op}: labels\[0\] is -1, expected 0..2"):
        forward(np.zeros((2, 3)), np.array([-1, 2]))


@pytest.mark.parametrize("ops", UNCHECKED.values(), ids=UNCHECKED)
@pytest.mark.parametrize("labels", [[0, 3], [-1, 2]])
def test_labels_out_of_range_make_the_loss_nan(ops, labels):
    """A check would wait for the GPU; training handles this like any other NaN."""
    loss, _ = ops.softmax_cross_entropy_forward(np.zeros((2, 3)), np.array(labels))
    assert np.isnan(loss)


@over_backends
def test_messages(ops):
    logits, labels = np.ones((2, 3)), np.array([0, 2])
    forward, op = ops.softmax_cross_entropy_forward, "softmax_cross_entropy"
    with pytest.raises(TypeError, match=f"^{op}: labels has dtype float64, expected int: pass lab"):
        forward(logits, labels * 1.0)
    with pytest.raises(TypeError, match=f"^{op}: labels is a list, expected an array"):
        forward(logits, [0, 2])
    with pytest.raises(ValueError, match=rf"^{op}: labels has shape \(1,\), .* N = 2 as in logits"):
        forward(logits, labels[:1])
    one_hot = rf"^{op}: labels has shape \(2, 3\), expected \(N,\), .* one-hot, pass labels.argmax"
    for dtype in (int, float):
        with pytest.raises(ValueError, match=one_hot):
            forward(logits, np.eye(3, dtype=dtype)[:2])
    with pytest.raises(
        TypeError, match=r"labels has dtype <U1, .*: pass np.unique\(labels, return"
    ):
        forward(logits, np.array(["b", "a"]))
    with pytest.raises(ValueError, match=rf"^{op}: logits has shape \(2,\), .* 2 axes, not 1"):
        forward(logits[:, 0], labels)
    with pytest.raises(ValueError, match=rf"^{op}: logits has shape \(2, 0\), .* at least 1"):
        forward(logits[:, :0], labels)
    for e in (-0.1, 1.1, None, "0.1"):
        message = f"^{op}: label_smoothing is {e!r}, expected a number from 0 to 1"
        with pytest.raises(ValueError, match=message):
            forward(logits, labels, label_smoothing=e)
    _, cache = forward(logits, labels)
    with pytest.raises(ValueError, match=rf"^{op}: dout has shape \(2,\), expected \(\) as out"):
        ops.softmax_cross_entropy_backward(np.ones(2), cache)

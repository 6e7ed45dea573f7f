"""The checker passes right pairs, fails wrong ones, and names the wrong argument and entries."""

import json
import re
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minise import nn
from minise.gradcheck import adapters, assert_gradients, check
from minise.gradcheck.report import RIGHT, UNCHECKED, WRONG
from minise.gradcheck.slopes.differences import STEPS
from minise.ops import reference

MODES = ["auto", "directional", "complex_step", "jacobian"]
over_modes = pytest.mark.parametrize("mode", MODES)


def forward(a, b):
    """Compute a smooth nonlinear function, different in its two arguments."""
    return a * a * b + np.exp(b), (a, b)


def backward(dout, cache):
    a, b = cache
    return dout * 2 * a * b, dout * (a * a + np.exp(b))


def inputs(shape=(3, 4)):
    rng = np.random.default_rng(5)
    return [rng.standard_normal(shape), rng.standard_normal(shape)]


def wrong_in(k, change):
    """Return a backward whose k-th gradient is changed."""

    def wrong(dout, cache):
        gradients = list(backward(dout, cache))
        gradients[k] = change(gradients[k])
        return tuple(gradients)

    return wrong


def at(index, factor):
    """Return a change of one entry."""

    def change(gradient):
        gradient = gradient.copy()
        gradient[index] *= factor
        return gradient

    return change


# Right and wrong


@over_modes
def test_right_pairs_pass(mode):
    report = assert_gradients(forward, backward, inputs(), mode=mode)
    assert report.ok
    assert [argument.verdict for argument in report.arguments] == [RIGHT, RIGHT]
    assert [argument.name for argument in report.arguments] == ["a", "b"]
    assert report.failures == ()


@over_modes
@pytest.mark.parametrize("k", [0, 1])
@pytest.mark.parametrize(
    "change",
    [
        lambda g: -g,
        lambda g: g * 0,
        lambda g: g * 2,
        lambda g: g + 1e-3,
        lambda g: g[::-1],
        at((2, 3), 1.5),
        lambda g: g * (1 + 1e-6),
    ],
    ids=["sign", "zero", "twice", "offset", "reversed", "one entry", "a millionth"],
)
def test_wrong_pairs_fail(mode, k, change):
    name = "ab"[k]
    message = (
        rf"^input {k} \({name}\): directional derivative is .* from backward, expected .* from "
        r"forward: difference \d\.\de[+-]\d+, tolerance \d\.\de-\d+\n"
    )
    with pytest.raises(AssertionError, match=message):
        assert_gradients(forward, wrong_in(k, change), inputs(), mode=mode)


def test_a_complex_step_sees_twelve_digits():
    assert check(forward, backward, inputs(), mode="complex_step").ok
    for factor in (1 + 1e-11, 1 - 1e-11):
        wrong = wrong_in(1, partial(np.multiply, factor))
        assert not check(forward, wrong, inputs(), mode="complex_step").ok


@over_modes
def test_only_the_wrong_argument_is_blamed(mode):
    report = check(forward, wrong_in(1, np.negative), inputs(), mode=mode)
    assert [argument.verdict for argument in report.arguments] == [RIGHT, WRONG]
    (failure,) = report.failures
    assert (failure.index, failure.name, failure.shape) == (1, "b", (3, 4))
    assert failure.diagnosis.kind == "sign"
    assert failure.wrong_share == 1
    assert failure.error == abs(failure.exact - failure.numeric)
    assert failure.ratio == pytest.approx(-1)


def test_one_entry_of_a_thousand():
    big = inputs((10, 100))
    for mode in ("directional", "complex_step"):
        report = check(forward, wrong_in(0, at((7, 31), 1.01)), big, mode=mode)
        (failure,) = report.failures
        assert failure.entries[0].index == (7, 31)
        assert failure.wrong_share == 1 / 1000


@settings(max_examples=50)
@given(
    shape=st.lists(st.integers(1, 4), max_size=3).map(tuple),
    seed=st.integers(0, 2**32 - 1),
    mode=st.sampled_from(MODES[1:]),
)
def test_any_shape(shape, seed, mode):
    rng = np.random.default_rng(seed)
    values = [np.asarray(rng.standard_normal(shape)) + 2 for _ in range(2)]
    assert_gradients(forward, backward, values, rng, mode=mode)
    with pytest.raises(AssertionError):
        assert_gradients(forward, wrong_in(0, lambda g: g * 1.01), values, rng, mode=mode)


# Directions


def first_dout(**arguments):
    seen = []

    def spy(dout, cache):
        seen.append(dout.copy())
        return backward(dout, cache)

    assert check(forward, spy, inputs(), **arguments).ok
    return seen[0]


def test_dout_is_random_and_reproducible():
    """With dout all ones, wrong gradients of batch norm and softmax would pass."""
    first = first_dout()
    assert len(np.unique(first)) == first.size
    np.testing.assert_array_equal(first, first_dout(rng=np.random.default_rng(0)))
    assert not np.array_equal(first, first_dout(rng=np.random.default_rng(1)))


@pytest.mark.parametrize("seed", [0, 1])
def test_dout_differs_from_inputs_of_the_same_seed(seed):
    """With dout equal to x, the gradient of a normalisation is nearly zero."""
    seen = []

    def spy(dout, x):
        seen.append(dout)
        return (dout,)

    x = np.random.default_rng(seed).standard_normal(5)
    for rng in (None, np.random.default_rng(seed)):
        assert check(lambda x: (x, x), spy, [x], rng).ok
        assert not np.isin(seen[-1], x).any()


def test_a_gradient_that_ones_would_let_pass():
    def softmax(x):
        e = np.exp(x)
        return e / e.sum(), e / e.sum()

    def zero(dout, s):
        return (np.zeros_like(s),)

    def right(dout, s):
        return (s * (dout - (dout * s).sum()),)

    x = [np.arange(4.0)]
    assert check(softmax, right, x).ok
    assert abs(right(np.ones(4), softmax(*x)[1])[0]).max() <= 4 * np.finfo(float).eps
    assert not check(softmax, zero, x).ok


def test_inputs_are_not_written():
    values = inputs()
    copies = [value.copy() for value in values]
    for mode in MODES:
        check(forward, backward, values, mode=mode)
    for value, copy in zip(values, copies, strict=True):
        np.testing.assert_array_equal(value, copy)
        value.flags.writeable = False
    assert check(forward, backward, values).ok


def test_modes_are_chosen():
    x = [np.ones((2, 3)), np.ones((4, 3)), None]
    assert check(reference.linear_forward, reference.linear_backward, x).mode == "complex_step"
    held = partial(reference.dropout_forward, p=0.5)
    mask = [np.ones(3), np.ones(3, bool)]
    assert check(held, reference.dropout_backward, mask).mode == "complex_step"
    x, ones = np.random.default_rng(0).standard_normal((2, 3, 2, 2)), np.ones(3)
    running = dict(running_mean=ones, running_var=ones, training=True)
    held = partial(reference.batch_norm2d_forward, **running)
    report = check(held, reference.batch_norm2d_backward, [x, ones, ones])
    assert (report.mode, report.ok) == ("complex_step", True)
    assert check(forward, backward, inputs()).mode == "directional"


# Kinks

RELU = reference.relu_forward, reference.relu_backward


@pytest.mark.parametrize("mode", ["directional", "jacobian"])
def test_a_step_never_crosses_a_kink(mode):
    x = np.array([-1.0, 1.0, 2.0**-20, -(2.0**-20)])  # kinks closer than the first steps
    report = check(*RELU, [x], mode=mode, branches=reference.relu_branches)
    assert report.ok
    assert 0 < report.crossed_share < 1
    if mode == "directional":  # mode jacobian reports the step of the worst entry
        assert report.arguments[0].step < 2.0**-20
    assert f"{report.crossed_share:.0%} of the steps crossed a kink" in str(report)
    far = check(*RELU, [np.array([-1.0, 1.0])], mode=mode, branches=reference.relu_branches)
    assert far.crossed_share == 0
    assert far.arguments[0].step == STEPS[0]


@pytest.mark.parametrize("mode", ["directional", "jacobian"])
@pytest.mark.parametrize("branches", [reference.relu_branches, None], ids=["known", "detected"])
def test_on_a_kink(mode, branches):
    """At 0 no slope exists: the gradient could not be checked."""
    report = check(*RELU, [np.array([-1.0, 0.0, 1.0])], mode=mode, branches=branches)
    assert not report.ok
    assert report.arguments[0].verdict == UNCHECKED
    message = r"^input 0 \(x\): could not be checked: forward has a kink or a jump too close to"
    assert "0 of 1 gradients wrong, 1 could not be checked" in str(report)
    with pytest.raises(AssertionError, match=message):
        assert_gradients(*RELU, [np.array([0.0])], mode=mode, branches=branches)


def test_a_mistake_beside_a_kink_is_a_mistake():
    def everywhere(dout, cache):
        return (dout,)

    x = np.array([-1.0, 2.0**-20, 1.0])
    report = check(RELU[0], everywhere, [x], mode="directional", branches=reference.relu_branches)
    assert report.arguments[0].verdict == WRONG
    assert report.failures[0].diagnosis.kind == "wrong mask"


@pytest.mark.parametrize("beside", [2.0**-12.5, -(2.0**-14.5), 2.0**-15.5])
def test_a_weak_kink_near_the_input_is_no_mistake(beside):
    """The jump is above the first step's error bound, and hidden by the curvature of the line.

    Steps longer than the distance of the kink agree with each other, but not with the gradient.
    """
    for jump in 10.0 ** np.arange(-8, -5, 0.25):

        def forward(x, jump=jump):
            d = x - 1
            return 50 + 2e-4 * d + 2e-3 * d**2 + jump * np.maximum(d - beside, 0), d

        def backward(dout, d, jump=jump):
            return (dout * (2e-4 + 4e-3 * d + jump * (d > beside)),)

        def wrong(dout, d, jump=jump):
            return (1.01 * backward(dout, d)[0],)

        for seed in range(8):
            report = check(forward, backward, [np.ones(1)], seed, mode="directional")
            assert report.arguments[0].verdict in (RIGHT, UNCHECKED)
            report = check(forward, wrong, [np.ones(1)], seed, mode="directional")
            assert not report.ok


def test_a_complex_step_takes_the_side_of_forward():
    assert check(*RELU, [np.array([0.0, -0.0, 1e-300, -1e-300])], mode="complex_step").ok


# None, integers and malformed gradients


def test_none_for_none():
    x, weight = np.ones((2, 3)), np.ones((4, 3))
    report = check(reference.linear_forward, reference.linear_backward, [x, weight, None])
    assert report.ok
    assert report.arguments[2].shape == ()

    def too_much(dout, cache):
        return dout @ weight, dout.T @ x, dout.sum(axis=0)

    with pytest.raises(AssertionError, match=r"^input 2 \(bias\): gradient is an array, expect"):
        assert_gradients(reference.linear_forward, too_much, [x, weight, None])


def test_none_for_labels():
    pair = reference.softmax_cross_entropy_forward, reference.softmax_cross_entropy_backward
    values = [np.eye(3), np.array([0, 1, 2])]
    assert check(*pair, values).ok

    def both(dout, cache):
        return pair[1](dout, cache)[0], np.zeros(3)

    with pytest.raises(AssertionError, match=r"^input 1 \(labels\): gradient is an array, expect"):
        assert_gradients(pair[0], both, values)


@pytest.mark.parametrize(
    ("gradients", "message"),
    [
        (
            lambda d, c: (backward(d, c)[0], None),
            r"^input 1 \(b\): gradient is None, expected an array of shape \(3, 4\)",
        ),
        (
            lambda d, c: (d[0], d),
            r"^input 0 \(a\): gradient has shape \(4,\), expected \(3, 4\)",
        ),
        (lambda d, c: (d * np.nan, d), r"^input 0 \(a\): gradient has NaN or infinity"),
        (lambda d, c: (d, d / 0), r"^input .*"),
        (lambda d, c: (d,), "^backward returns 1 gradient for 2 inputs, expected one"),
        (lambda d, c: None, "^backward returned None, expected .*: is the return missing"),
        (lambda d, c: (d, d, d), "^backward returns 3 gradients for 2 inputs, expected one"),
        (lambda d, c: {"da": d, "dc": d}, "^backward returns dc, expected keys of da, db"),
    ],
)
def test_malformed_gradients(gradients, message):
    with (
        pytest.raises(AssertionError, match=message),
        np.errstate(all="ignore"),
    ):
        assert_gradients(forward, gradients, inputs())


def test_gradients_by_name_in_a_list_or_alone():
    for collect in (
        list,
        lambda g: {"db": g[1], "da": g[0]},
        lambda g: {"a": g[0], "b": g[1]},
    ):
        assert check(forward, lambda d, c, f=collect: f(backward(d, c)), inputs()).ok
    assert check(lambda x: (x * x, x), lambda d, x: 2 * x * d, [np.ones((2, 3))]).ok


def test_a_dict_for_a_forward_with_a_default():
    def there(x, gamma, eps=1.0):
        return x * gamma + eps, (x, gamma)

    def back(dout, cache):
        return {"dgamma": dout * cache[0], "dx": dout * cache[1]}

    assert check(there, back, inputs()).ok
    report = check(there, lambda d, c: {"dx": back(d, c)["dx"]}, inputs())
    assert report.failures[0].sentence() == (
        "input 1 (gamma): gradient is None, expected an array of shape (3, 4)"
    )


# Pairs that cannot be checked


def draws(x):
    mask = np.random.default_rng().random(x.shape) < 0.5
    return x * mask, mask


def test_a_random_forward_is_refused():
    for mode in ("directional", "jacobian"):
        report = check(draws, lambda d, mask: (-3 * d * mask,), inputs()[:1], mode=mode)
        assert not report
        assert "forward returns different results for the same inputs, with " in report.problem

    def cached(x):
        return x * x, np.random.default_rng().random(x.shape)

    report = check(cached, lambda d, drawn: (d * drawn,), inputs()[:1])
    assert "backward returns different results for the same inputs" in report.problem


def test_a_loss_that_is_a_plain_float():
    report = check(lambda x: (float((x * x).sum()), x), lambda d, x: (2 * d * x,), inputs()[:1])
    assert report.ok


def test_changes_in_place_are_refused():
    def doubled_dout(dout, cache):
        dout *= 2
        return backward(dout, cache)

    values = inputs()
    assert "backward changes dout in place" in check(forward, doubled_dout, values).problem

    def doubled_input(a, b):
        a *= 2
        return forward(a, b)

    assert "forward changes its input a in place" in check(doubled_input, backward, values).problem

    def doubled_cache(dout, cache):
        cache[1][...] = 0
        return backward(dout, cache)

    assert (
        "backward changes its input b in place" in check(forward, doubled_cache, inputs()).problem
    )


def test_forwards_of_another_form_are_refused():
    message = r"^check: forward returned a ndarray, expected \(out, cache\): for a forward without"
    with pytest.raises(TypeError, match=message):
        check(lambda x: x * x, lambda d, c: (d,), [np.ones((2, 3))])
    message = "^check: forward's out is real for complex inputs, expected complex in mode complex_"
    with pytest.raises(TypeError, match=message):
        check(lambda x: (abs(x), x), lambda d, x: (d,), [np.ones(3)], mode="complex_step")
    message = "^check: forward's out has dtype float32, expected float64 like its inputs: in sing"
    with pytest.raises(TypeError, match=message):
        check(lambda x: (x.astype(np.float32), x), lambda d, x: (d,), [np.ones(3)])


# Several outputs


class Both(NamedTuple):
    total: np.ndarray
    product: np.ndarray


@over_modes
@pytest.mark.parametrize("kind", [tuple, Both._make], ids=["tuple", "named"])
def test_several_outputs(mode, kind):
    def there(a, b):
        return kind((a.sum(axis=0), a * b)), (a, b)

    def back(dout, cache):
        a, b = cache
        dtotal, dproduct = dout
        return dtotal + dproduct * b, dproduct * a

    def without_the_first(dout, cache):
        a, b = cache
        return dout[1] * b, dout[1] * a

    assert check(there, back, inputs(), mode=mode).ok
    report = check(there, without_the_first, inputs(), mode=mode)
    assert [argument.verdict for argument in report.arguments] == [WRONG, RIGHT]


# Settings


def test_linear_arguments_take_a_step_of_one():
    def there(x, weight):
        return np.tanh(x) @ weight, (x, weight)

    def back(dout, cache):
        x, weight = cache
        return dout @ weight.T * (1 - np.tanh(x) ** 2), np.tanh(x).T @ dout

    values = [np.ones((2, 3)), np.ones((3, 4))]
    for linear in (["weight"], [1], "weight"):
        report = check(there, back, values, mode="directional", linear=linear)
        assert report.ok
        assert [argument.step for argument in report.arguments] == [STEPS[0], 1.0]
    assert not check(there, back, values, mode="directional", linear=["x"]).ok  # it is not linear


def test_refusals():
    with pytest.raises(ValueError, match="^check: mode is 'fast', expected one of auto, direct"):
        check(forward, backward, inputs(), mode="fast")
    with pytest.raises(TypeError, match="^check: inputs is a ndarray, expected a list of arrays"):
        check(forward, backward, inputs()[0])
    with pytest.raises(TypeError, match="^check: inputs is empty, expected a list of arrays"):
        check(forward, backward, [])
    with pytest.raises(ValueError, match="^check: names has 1 names, expected 2, one for each"):
        check(forward, backward, inputs(), names=["a"])
    with pytest.raises(ValueError, match=r"^check: a has shape \(0, 4\), expected no axis of"):
        check(forward, backward, [np.ones((0, 4)), np.ones((0, 4))])
    with pytest.raises(ValueError, match="^check: linear names 'c', expected any of a, b"):
        check(forward, backward, inputs(), linear=["c"])
    with pytest.raises(TypeError, match="^check: b has dtype float32, expected float64: finite d"):
        check(forward, backward, [inputs()[0], inputs()[1].astype(np.float32)])
    with pytest.raises(ValueError, match="^check: a has NaN or infinity, expected finite numbers"):
        check(forward, backward, [inputs()[0] * np.nan, inputs()[1]])
    with pytest.raises(TypeError, match=r"^check: a is a list, expected an array: pass np.asarray"):
        check(forward, backward, [[1.0], np.ones(1)])


# Rounding errors of right pairs


@pytest.mark.parametrize("op", ["sigmoid", "tanh"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("x", [2.5, 10.0, 20.0])
def test_cancellation_in_backward_is_no_mistake(op, mode, x):
    """1 - s with s nearly 1 has few correct digits: a rounding error, not a mistake."""
    pair = getattr(reference, f"{op}_forward"), getattr(reference, f"{op}_backward")
    for seed in range(5):
        assert_gradients(*pair, [np.array([x])], np.random.default_rng(seed), mode=mode)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("gap", [5, 12, 20])
def test_a_confident_softmax(mode, gap):
    """The loss is a small difference of large numbers: its size hides its rounding error."""
    pair = reference.softmax_cross_entropy_forward, reference.softmax_cross_entropy_backward
    for seed in range(10):
        rng = np.random.default_rng(seed)
        values = [rng.standard_normal((2, 5)) + gap * np.eye(5)[:2], np.arange(2)]
        report = check(*pair, values, rng, mode=mode)
        assert WRONG not in [argument.verdict for argument in report.arguments]
        twice = check(pair[0], lambda d, c: (2 * pair[1](d, c)[0], None), values, rng, mode=mode)
        assert not twice.ok


def test_cancellation_inside_of_forward():
    """Adding and subtracting 1e9 leaves seven digits, so rounding must be measured."""

    def there(x):
        return np.sin(x) + 1e9 - 1e9, x

    for mode in ("directional", "jacobian"):
        assert check(there, lambda d, x: (d * np.cos(x),), [np.arange(1.0, 4.0)], mode=mode).ok
        assert not check(there, lambda d, x: (d * np.sin(x),), [np.arange(1.0, 4.0)], mode=mode).ok


def test_numbers_of_any_size():
    def product(a, b):
        return a * b, (a, b)

    for scale in (1e-12, 1e-3, 1e3, 1e6, 1e12):
        values = [value * scale for value in inputs()]
        assert check(product, lambda d, c: (d * c[1], d * c[0]), values).ok
        assert not check(product, lambda d, c: (d * c[1], d * c[0] * 1.001), values).ok


# The report


def test_a_report_as_text_and_as_json():
    report = check(forward, wrong_in(0, at((0, 1), 3)), inputs(), mode="jacobian")
    text = str(report)
    assert text.startswith("forward, mode jacobian: 1 of 2 gradients wrong\n  a  (3, 4)  WRONG\n")
    assert re.search(
        r"\n    entry furthest beyond its tolerance: backward .*, forward .*, ratio 3\n", text
    )
    assert re.search(r"entry \[0, 1\]: backward .*, forward .*, ratio 3\n", text)
    right = r"right, relative error \de-\d+, detection limit \de-\d+"
    assert re.search(rf"\n  b +\(3, 4\) +{right}$", text)
    data = json.loads(report.to_json())
    assert (data["ok"], data["name"], data["mode"]) == (False, "forward", "jacobian")
    a, b = data["arguments"]
    assert (a["name"], a["verdict"], b["verdict"]) == ("a", "wrong", "right")
    assert a["entries"][0]["index"] == a["entries"][0]["place"] == [0, 1]
    assert a["wrong_share"] == 1 / 12
    right = check(forward, backward, inputs())
    assert str(right).startswith("forward, mode directional: all gradients right\n")
    assert json.loads(right.to_json())["ok"]


# Adapters


def test_a_layer_with_its_state():
    layer = nn.BatchNorm2d(3, dtype=np.float64)
    layer.params["weight"][...] = [1.0, 2.0, -3.0]
    before = {name: array.copy() for name, array in layer.state.items()}
    there, back, params = adapters.layer(layer, training=True)
    x = np.random.default_rng(0).standard_normal((4, 3, 2, 5))
    report = assert_gradients(there, back, [x, *params.values()])
    assert report.mode == "complex_step"
    for name, array in before.items():
        np.testing.assert_array_equal(layer.state[name], array)
    assert list(params) == ["weight", "bias"]


def test_pairs_without_a_cache():
    pair = adapters.without_cache(lambda a, b: a * b, lambda d, a, b: (d * b, d * a))
    report = assert_gradients(*pair, inputs())
    assert [argument.name for argument in report.arguments] == ["a", "b"]
    swapped = adapters.without_cache(lambda a, b: a * b, lambda d, a, b: (d * a, d * b))
    failures = check(*swapped, inputs()).failures
    assert [failure.diagnosis.kind for failure in failures] == ["swapped", "swapped"]

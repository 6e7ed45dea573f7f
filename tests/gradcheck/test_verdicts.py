"""Verdicts: right, wrong, and could not be checked where rounding or a kink hides the gradient."""

import json
from collections import Counter

import numpy as np
import pytest

from minise.gradcheck import assert_gradients, check
from minise.gradcheck.report import KINK, NOT_ANALYTIC, RIGHT, ROUNDING, UNCHECKED, WRONG
from tests.gradcheck.biased_normalisation import normalised, normalised_backward
from tests.gradcheck.drawn_nets import drawn_net
from tests.gradcheck.drawn_pairs import drawn_pair

X = np.random.default_rng(0).standard_normal((3, 4))


def real(function):
    """Return the function with imaginary parts dropped, so that no complex step is possible."""
    return lambda x: function(np.real(x))


def argument_report(forward, backward, x=X, **settings):
    (argument,) = check(lambda x: (forward(x), x), backward, [x], **settings).arguments
    return argument


# Hidden gradients


@pytest.mark.parametrize("factor", [1, -1, 0.5, 2])
def test_a_gradient_below_the_rounding_of_forward(factor):
    """1e16 + sin(x) is rounded to an even integer, which hides the slope of sin."""

    def backward(dout, x):
        return (factor * dout * np.cos(x),)

    report = argument_report(real(lambda x: 1e16 + np.sin(x)), backward)
    assert report.verdict == UNCHECKED
    assert report.reason == ROUNDING
    assert report.resolved > 2.0**-10
    # a complex step resolves it, as addition is exact in the imaginary part
    report = argument_report(lambda x: 1e16 + np.sin(x), backward)
    assert report.verdict == (RIGHT if factor == 1 else WRONG)


@pytest.mark.parametrize("function", [lambda x: 1e6 + 1e-6 * x, real(lambda x: 1e6 + 1e-6 * x)])
@pytest.mark.parametrize("factor", [-1, 0, 0.5, 1.1])
def test_a_small_slope_beside_a_large_constant(function, factor):
    """Longer steps resolve the slope of a linear forward; a wrong gradient is not called right."""
    assert argument_report(function, lambda d, x: (1e-6 * d,)).verdict == RIGHT
    report = argument_report(function, lambda d, x: (factor * 1e-6 * d,))
    assert report.verdict in (WRONG, UNCHECKED)


@pytest.mark.parametrize("mode", ["auto", "directional", "jacobian", "complex_step"])
@pytest.mark.parametrize("size", [1e-150, 1e-80, 1e-20, 1e-6, 1e6, 1e20, 1e80, 1e150])
def test_half_a_gradient_at_any_size(size, mode):
    """A tolerance that overflows would let everything pass, and so would a constant 1e-16."""
    for shape in ((), (5,), (3, 4)):
        x = np.asarray(size * np.random.default_rng(1).uniform(1, 2, shape))
        for factor, expected in ((2, RIGHT), (1, WRONG)):

            def backward(dout, x, factor=factor):
                return (factor * dout * x,)

            report = argument_report(lambda x: x * x, backward, x, mode=mode)
            assert report.verdict == expected


def test_zero_against_zero_is_right():
    """A dead unit, and a bias before a normalisation, whose gradient is zero up to rounding."""
    dead = -abs(X) - 1
    report = argument_report(lambda x: np.maximum(x, 0), lambda d, x: (d * (x > 0),), dead)
    assert report.verdict == RIGHT

    for mode in ("auto", "directional", "complex_step"):
        report = assert_gradients(normalised, normalised_backward, [X, X[0]], mode=mode)
        assert abs(report.arguments[1].exact) < 1e-14
        assert "right, zero" in str(report)


def test_a_zero_that_hides_a_slope():
    """Differences cannot change 1e30, but a complex step resolves the slope."""
    assert argument_report(lambda x: 1e30 + np.sin(x), lambda d, x: (0 * x,)).verdict != RIGHT


def test_no_slope_exists_at_a_tie():
    x = np.array([-1.0, 0.0, 2.0])
    for function in (lambda x: np.maximum(x, 0), lambda x: x * (x > 0), abs):
        report = argument_report(function, lambda d, x: (d * (x > 0),), x)
        assert (report.verdict, report.reason) == (UNCHECKED, KINK)


# Trust in complex steps


def test_abs_is_not_analytic():
    """x * |x| by a complex step has the slope |x|: half a gradient would agree with it."""
    half, right = (lambda d, x, f=f: (f * d * abs(x),) for f in (1, 2))
    for forward in (lambda x: x * abs(x), lambda x: x * np.sqrt(np.real(x * np.conj(x)))):
        assert argument_report(forward, half).verdict == WRONG
        assert argument_report(forward, right).verdict == RIGHT
        for backward in (half, right):
            report = argument_report(forward, backward, mode="complex_step")
            assert (report.verdict, report.reason) == (UNCHECKED, NOT_ANALYTIC)


def test_small_activations_are_resolved_by_a_complex_step():
    """A net with a gradient of 1e-40, which no difference of its loss can resolve."""
    net = drawn_net(1)
    tiny = [net.inputs[0], *(1e-6 * array for array in net.inputs[1:])]
    report = check(net.forward, net.backward, tiny, names=net.names)
    assert not report.wrong
    hidden = drawn_net(1, real=True)
    report = check(hidden.forward, hidden.backward, tiny, names=net.names)
    assert not report.wrong
    assert report.unchecked


# The report


def test_unchecked_is_not_ok_unless_allowed():
    pair = lambda x: (abs(x), x), lambda d, x: (d * np.sign(x),)
    x = [np.array([0.0, 1.0])]
    report = check(*pair, x)
    assert not report.ok
    assert not report
    assert report.failures == report.unchecked
    with pytest.raises(AssertionError, match=r"^input 0 \(x\): could not be checked: .*branches="):
        assert_gradients(*pair, x)
    assert assert_gradients(*pair, x, allow_unchecked=True).unchecked
    wrong = lambda d, x: (-d * np.sign(x),)  # noqa: E731
    with pytest.raises(AssertionError, match=r"^input 0 \(x\): directional derivative is"):
        assert_gradients(pair[0], wrong, [X], allow_unchecked=True)


def test_the_detection_limit_is_printed():
    report = check(lambda x: (np.sin(x), x), lambda d, x: (d * np.cos(x),), [X])
    assert 0 < report.arguments[0].resolved < 1e-9
    text = f"detection limit {report.arguments[0].resolved:.0e}"
    assert text in str(report)
    assert text in report.arguments[0].sentence()


def test_json_has_no_nan_or_infinity():
    report = check(lambda x: (abs(x), x), lambda d, x: (d * np.sign(x),), [np.zeros(2)])

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(report.to_json(), parse_constant=refuse)["ok"] is False


# On many draws


def verdicts_of_nets(seeds, **settings):
    """Return the number of gradients by verdict, for all nets and for nets with large weights."""
    counts, large = Counter(), Counter()
    for seed in seeds:
        net = drawn_net(seed, real=settings.get("real", False))
        report = check(
            net.forward,
            net.backward,
            net.inputs,
            seed,
            names=net.names,
            mode=settings.get("mode", "auto"),
            branches=net.branches if settings.get("branches", False) else None,
        )
        assert not report.problem
        assert not report.wrong, f"seed {seed}: {report.wrong[0].sentence()}"
        verdicts = Counter(argument.verdict for argument in report.arguments)
        counts += verdicts
        large += verdicts if net.scale >= 1e-2 else Counter()
    return counts, large


METHODS = [{}, {"branches": True}, {"mode": "directional"}]
METHODS += [{"mode": "directional", "branches": True}, {"real": True}]


@pytest.mark.parametrize("method", METHODS[:2], ids=str)  # the test below runs all five
def test_no_right_net_is_called_wrong(method):
    counts, _ = verdicts_of_nets(range(25), **method)
    assert counts[RIGHT] > counts[UNCHECKED]


@pytest.mark.long
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_no_right_net_of_thousands_is_called_wrong(method):
    """Without a complex step, gradients below the rounding error of a loss stay unchecked."""
    differences_only = "mode" in method or "real" in method
    nets = 500 if differences_only else 3000  # differences alone take far longer
    counts, large = verdicts_of_nets(range(nets), **method)
    print(method, dict(counts), "weights of 0.01 and more:", dict(large))
    if not differences_only:  # the unchecked rest are ties, where a dead unit is at 0
        assert counts[UNCHECKED] <= 0.02 * counts.total()
        assert large[UNCHECKED] <= 0.02 * large.total()


def verdicts_of_pairs(seeds):
    """Return the number of right and of wrong gradients by verdict."""
    right, wrong = Counter(), Counter()
    for seed in seeds:
        pair = drawn_pair(seed)
        report = check(pair.forward, pair.right, pair.inputs, seed).arguments[0]
        assert report.verdict != WRONG, f"{pair.text}: {report.sentence()}"
        right[report.verdict] += 1
        report = check(pair.forward, pair.wrong, pair.inputs, seed).arguments[0]
        # an error below the report's detection limit may pass
        hidden = pair.error <= report.resolved
        assert report.verdict != RIGHT or hidden, f"{pair.text}, {pair.error}: {report.sentence()}"
        if pair.error > 1e-6:
            wrong[report.verdict] += 1
    return right, wrong


def test_no_wrong_gradient_is_called_right():
    with np.errstate(all="ignore"):
        right, wrong = verdicts_of_pairs(range(80))
    assert right[RIGHT] >= 0.95 * right.total()
    assert wrong[WRONG] >= 0.9 * wrong.total()


@pytest.mark.long
def test_no_wrong_gradient_of_a_thousand_is_called_right():
    with np.errstate(all="ignore"):
        right, wrong = verdicts_of_pairs(range(1000))
    print(dict(right), dict(wrong))
    assert right[RIGHT] >= 0.95 * right.total()
    assert wrong[WRONG] >= 0.9 * wrong.total()

"""Right, wrong, could not be checked: a verdict is what the check could see."""

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
    """Return a function that drops imaginary parts, so that no complex step goes through it."""
    return lambda x: function(np.real(x))


def verdict(forward, backward, x=X, **settings):
    (argument,) = check(lambda x: (forward(x), x), backward, [x], **settings).arguments
    return argument


# What cannot be seen


@pytest.mark.parametrize("factor", [1, -1, 0.5, 2])
def test_a_gradient_below_the_rounding_of_forward(factor):
    """1e16 + sin(x) is 1e16 plus an even number: sin's slope is not in it."""
    found = verdict(real(lambda x: 1e16 + np.sin(x)), lambda d, x: (factor * d * np.cos(x),))
    assert found.verdict == UNCHECKED
    assert found.reason == ROUNDING
    assert found.resolved > 2.0**-10
    # a complex step sees it, as addition is exact in the imaginary part
    by_complex_step = verdict(lambda x: 1e16 + np.sin(x), lambda d, x: (factor * d * np.cos(x),))
    assert by_complex_step.verdict == (RIGHT if factor == 1 else WRONG)


@pytest.mark.parametrize("function", [lambda x: 1e6 + 1e-6 * x, real(lambda x: 1e6 + 1e-6 * x)])
@pytest.mark.parametrize("factor", [-1, 0, 0.5, 1.1])
def test_a_small_slope_beside_a_large_constant(function, factor):
    """Longer steps resolve it, as forward is straight; else it is not called right."""
    assert verdict(function, lambda d, x: (1e-6 * d,)).verdict == RIGHT
    assert verdict(function, lambda d, x: (factor * 1e-6 * d,)).verdict in (WRONG, UNCHECKED)


@pytest.mark.parametrize("mode", ["auto", "directional", "jacobian", "complex_step"])
@pytest.mark.parametrize("size", [1e-150, 1e-80, 1e-20, 1e-6, 1e6, 1e20, 1e80, 1e150])
def test_half_a_gradient_at_any_size(size, mode):
    """An allowance that overflows would let everything pass, and one that stays at 1e-16 too."""
    for shape in ((), (5,), (3, 4)):
        x = np.asarray(size * np.random.default_rng(1).uniform(1, 2, shape))
        assert verdict(lambda x: x * x, lambda d, x: (2 * d * x,), x, mode=mode).verdict == RIGHT
        found = verdict(lambda x: x * x, lambda d, x: (d * x,), x, mode=mode)
        assert found.verdict == WRONG


def test_zero_against_zero_is_right():
    """A unit that is off, and a bias before a normalisation, whose gradient is only rounding."""
    off = -abs(X) - 1
    assert verdict(lambda x: np.maximum(x, 0), lambda d, x: (d * (x > 0),), off).verdict == RIGHT

    for mode in ("auto", "directional", "complex_step"):
        report = assert_gradients(normalised, normalised_backward, [X, X[0]], mode=mode)
        assert abs(report.arguments[1].exact) < 1e-14
        assert "right, zero" in str(report)


def test_a_zero_that_hides_a_slope():
    """Steps of out do not move 1e30; a complex step does."""
    found = verdict(lambda x: 1e30 + np.sin(x), lambda d, x: (0 * x,))
    assert found.verdict != RIGHT


def test_a_tie_is_no_slope():
    x = np.array([-1.0, 0.0, 2.0])
    for function in (lambda x: np.maximum(x, 0), lambda x: x * (x > 0), abs):
        found = verdict(function, lambda d, x: (d * (x > 0),), x)
        assert (found.verdict, found.reason) == (UNCHECKED, KINK)


# What a complex step is believed in


def test_abs_is_not_analytic():
    """x * |x| by a complex step has the slope |x|: half a gradient would agree with it."""
    half, right = (lambda d, x, f=f: (f * d * abs(x),) for f in (1, 2))
    for forward in (lambda x: x * abs(x), lambda x: x * np.sqrt(np.real(x * np.conj(x)))):
        assert verdict(forward, half).verdict == WRONG
        assert verdict(forward, right).verdict == RIGHT
        for backward in (half, right):
            found = verdict(forward, backward, mode="complex_step")
            assert (found.verdict, found.reason) == (UNCHECKED, NOT_ANALYTIC)


def test_small_activations_are_resolved_by_a_complex_step():
    """A net whose gradient of 1e-40 no difference of its loss can see."""
    net = drawn_net(1)
    tiny = [net.inputs[0], *(1e-6 * one for one in net.inputs[1:])]
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
    with pytest.raises(AssertionError, match=r"^input 0 \(x\): forward's slope is"):
        assert_gradients(pair[0], wrong, [X], allow_unchecked=True)


def test_what_was_resolved_is_said():
    report = check(lambda x: (np.sin(x), x), lambda d, x: (d * np.cos(x),), [X])
    assert 0 < report.arguments[0].resolved < 1e-9
    assert "resolved to" in str(report)
    assert f"{report.arguments[0].resolved:.0e} of its size" in str(report)
    assert f"{report.arguments[0].resolved:.0e} of its size" in report.arguments[0].sentence()


def test_json_is_strict_where_nothing_is_known():
    report = check(lambda x: (abs(x), x), lambda d, x: (d * np.sign(x),), [np.zeros(2)])

    def refuse(name):
        raise AssertionError(name)

    assert json.loads(report.to_json(), parse_constant=refuse)["ok"] is False


# On many draws


def verdicts_of_nets(seeds, **settings):
    """Return how many gradients got which verdict, and the same where weights are not tiny."""
    counts, large = Counter(), Counter()
    told = settings.pop("told", False)
    for seed in seeds:
        net = drawn_net(seed, real=settings.get("real", False))
        report = check(
            net.forward,
            net.backward,
            net.inputs,
            seed,
            names=net.names,
            mode=settings.get("mode", "auto"),
            branches=net.branches if told else None,
        )
        assert not report.problem
        assert not report.wrong, f"seed {seed}: {report.wrong[0].sentence()}"
        verdicts = Counter(one.verdict for one in report.arguments)
        counts += verdicts
        large += verdicts if net.scale >= 1e-2 else Counter()
    return counts, large


WAYS = [{}, {"told": True}, {"mode": "directional"}, {"mode": "directional", "told": True}]
WAYS += [{"real": True}]


@pytest.mark.parametrize("way", WAYS[:2], ids=str)  # by all five below
def test_no_right_net_is_called_wrong(way):
    counts, _ = verdicts_of_nets(range(25), **way)
    assert counts[RIGHT] > counts[UNCHECKED]


@pytest.mark.long
@pytest.mark.parametrize("way", WAYS, ids=str)
def test_no_right_net_of_thousands_is_called_wrong(way):
    """Where no complex step goes through, gradients below the rounding of a loss stay unseen."""
    nets = 500 if "mode" in way or "real" in way else 3000  # differences alone take far longer
    counts, large = verdicts_of_nets(range(nets), **way)
    print(way, dict(counts), "weights of 0.01 and more:", dict(large))
    if "mode" not in way and "real" not in way:  # the rest are ties, where a dead unit is at 0
        assert counts[UNCHECKED] <= 0.02 * counts.total()
        assert large[UNCHECKED] <= 0.02 * large.total()


def verdicts_of_pairs(seeds):
    """Return how many right and wrong gradients got which verdict."""
    right, wrong = Counter(), Counter()
    for seed in seeds:
        pair = drawn_pair(seed)
        found = check(pair.forward, pair.right, pair.inputs, seed).arguments[0]
        assert found.verdict != WRONG, f"{pair.text}: {found.sentence()}"
        right[found.verdict] += 1
        found = check(pair.forward, pair.wrong, pair.inputs, seed).arguments[0]
        # a mistake below what the report says it resolved is not there to be seen
        hidden = pair.error <= found.resolved
        assert found.verdict != RIGHT or hidden, f"{pair.text}, {pair.error}: {found.sentence()}"
        if pair.error > 1e-6:
            wrong[found.verdict] += 1
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

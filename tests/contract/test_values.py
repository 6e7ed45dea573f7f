"""Each rule of the contract on numbers catches a back end that breaks it."""

from functools import partial

import numpy as np
import pytest

from minise.contract import values
from minise.contract.case import draw
from minise.contract.conform import check_op
from minise.contract.run import Broken, laid_out, rerun, run_case
from minise.contract.spec import CASES
from minise.ops import reference
from tests.contract.broken import back_end, cache, catches, gradient, out, rules_of, runs


def test_results_are_equal():
    for function, wrong, words in (
        ("sigmoid_forward", out(lambda y, x: y * (1 + 1e-10)), "out has an error of up to"),
        ("sigmoid_backward", gradient(0, lambda dx, *a: dx * 1.01), "dx has an error of up to"),
        ("linear_backward", gradient(2, lambda *a: None), "dbias is None, expected an array"),
        ("linear_backward", gradient(1, lambda g, *a: g[:1]), "dweight has shape"),
    ):
        run, expected = runs(function, wrong)
        for exact in (False, True):
            values.results_are_equal(expected, expected, exact=exact)
            with pytest.raises(Broken, match=f"^equal .*: {words}"):
                values.results_are_equal(run, expected, exact=exact)
        assert check_op(run.ops, run.case.op, 40).problem


def test_strides_change_no_result():
    """Every memory layout must give the results of the run on contiguous arrays."""
    in_memory = out(lambda y, x: np.maximum(np.ravel(x, order="K").reshape(x.shape), 0))
    run, _ = runs("relu_forward", in_memory)
    other = rerun(run, inputs=laid_out("channels_last", run.inputs))
    with pytest.raises(Broken, match="^rule 5, strides: out has an error of up to"):
        values.results_are_equal(other, run, exact=True, rule="rule 5, strides")
    assert check_op(run.ops, "relu", 60).problem


def test_caches_are_interchangeable():
    """A back end whose forward doubles x in the cache and whose backward halves dweight."""

    def halved(dout, cache):
        dx, dweight, dbias = reference.linear_backward(dout, cache)
        return dx, dweight / 2, dbias

    ops = back_end("linear_forward", cache(lambda c: c._replace(x=2 * c.x)))
    ops.linear_backward = halved
    case = CASES["linear"]["plain"]
    inputs, keywords = draw(case, np.random.default_rng(0))
    expected = run_case(reference, case, inputs, keywords, np.random.default_rng(1))
    run = run_case(ops, case, inputs, keywords, np.random.default_rng(1), dout=expected.dout)
    values.results_are_equal(run, expected, exact=False)
    values.caches_are_interchangeable(expected, expected, exact=False)
    with pytest.raises(Broken, match="^rule 2, another back end's cache: dweight has an error"):
        values.caches_are_interchangeable(run, expected, exact=False)
    assert check_op(ops, "linear", 40).problem.startswith("rule 2, another back end's cache")


def test_plus_is_added():
    def lost(g, dout, cache, plus=None, **s):
        return (g[0] if plus is None else g[0] - plus, *g[1:])

    def twice(g, dout, cache, plus=None, **s):
        return (*g[:2], g[2] if plus is None else 2 * g[2])

    for wrong, words in ((lost, "dx with plus has an error"), (twice, "plus changes dbias")):
        run, expected = runs("conv2d_backward", wrong)
        for exact in (False, True):
            with pytest.raises(Broken, match=f"^rule 6, plus: {words}"):
                values.plus_is_added(run, expected, np.random.default_rng(2), exact=exact)
        assert check_op(run.ops, "conv2d", 40).problem.startswith("rule 6, plus")


def test_dx_may_be_omitted():
    def negated(g, dout, cache, needs_dx=True, **s):
        return (g[0], g[1] if needs_dx else -g[1], g[2])

    words = "6, needs_dx: needs_dx=False changes dweight"
    catches(values.dx_may_be_omitted, words, "conv2d_backward", negated)


def test_results_are_deterministic():
    caught, rng = partial(catches, values.results_are_deterministic), np.random.default_rng()
    words = "8, deterministic: a second run is not bit-identical in {}"
    random = gradient(0, lambda dx, *a: dx * rng.random())
    caught(words.format("dx"), "relu_backward", random)
    caught(words.format("out"), "relu_forward", out(lambda y, x: y * rng.random()))
    random = cache(lambda c: c._replace(weight=c.weight * rng.random()))
    caught(words.format("(cache.weight|dx)"), "linear_forward", random)


def test_nan_propagates():
    def lost(y, x, *a, **s):
        return np.nan_to_num(y)

    def everywhere(y, x, *a, **s):
        return y * np.where(np.isnan(x).any(), np.nan, 1)

    def in_the_image(y, x, *a, **s):
        return y * np.where(np.isnan(x).any(axis=(1, 2, 3), keepdims=True), np.nan, 1)

    for function, wrong, passes in (
        ("relu_forward", lost, []),
        ("relu_forward", everywhere, ["anywhere"]),
        ("conv2d_forward", lost, []),
        ("conv2d_forward", everywhere, ["anywhere"]),
        ("conv2d_forward", in_the_image, ["image", "anywhere"]),
    ):
        run, expected = runs(function, out(wrong))
        index = int(abs(expected.gradients[0]).argmax())
        for spread in ("nowhere", "image", "anywhere"):
            values.nan_propagates(expected, 0, index, spread=spread)
            if spread in passes:
                values.nan_propagates(run, 0, index, spread=spread)
                continue
            with pytest.raises(
                Broken, match="^rule 9, NaN in, NaN out: a NaN in x does not propagate"
            ):
                values.nan_propagates(run, 0, index, spread=spread)


def test_gradients_are_correct():
    case = CASES["tanh"]["four axes"]
    inputs, keywords = draw(case, np.random.default_rng(0))
    wrong = back_end("tanh_backward", gradient(0, lambda dx, *a: dx * 1.01))
    values.gradients_are_correct(reference, case, inputs, keywords, np.random.default_rng(1))
    with pytest.raises(Broken, match=r"^gradients: (.|\n)*\(x\)"):
        values.gradients_are_correct(wrong, case, inputs, keywords, np.random.default_rng(1))


def test_every_rule_is_tested_here():
    assert [name for name in rules_of(values) if f"test_{name}" not in globals()] == []

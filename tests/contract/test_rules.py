"""Each rule of the contract on form catches a back end that breaks it."""

import re
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from minise.contract import rules
from minise.contract.run import Broken
from minise.ops import reference
from tests.contract.broken import (
    after,
    back_end,
    cache,
    catches,
    gradient,
    out,
    rules_of,
    runs,
    write,
)

# Rules 1 and 2: gradients and caches


def test_gradients_are_like_the_inputs():
    caught = partial(catches, rules.gradients_are_like_the_inputs)
    caught("1, gradients: backward returns a list", "relu_backward", lambda g, *a: [*g])
    caught("1, gradients: 2 gradients for 3 inputs", "linear_backward", lambda g, *a: g[:2])
    missing, added = gradient(2, lambda *a: None), gradient(2, lambda g, dout, c: dout.sum(0))
    caught("1, gradients: dbias is None, expected an", "linear_backward", missing)
    caught("1, gradients: dbias is an array, expected None", "linear_backward", added, bare=True)
    words = r"1, gradients: dweight is float64 \(3, 5\), expected float64 \(5, 3\)"
    caught(words, "linear_backward", gradient(1, lambda g, *a: g.T))
    words = "1, gradients: dx is float64 .*, expected float32"
    double = gradient(0, lambda g, *a: g.astype(np.float64))
    caught(words, "relu_backward", double, dtype=np.float32)


def test_cache_is_of_the_references_class():
    caught = partial(catches, rules.cache_is_of_the_references_class)
    words = "2, cache: the cache is a tuple, expected a LinearCache"
    caught(words, "linear_forward", cache(lambda c: (*c,)))
    _, run = runs("batch_norm2d_relu_forward", out(lambda y, *a, **s: y))
    for part, words in (
        (run.cache._replace(norm=(*run.cache.norm,)), "norm is a tuple, expected a BatchNorm2dC"),
        (run.cache._replace(out=run.cache), "out is a BatchNorm2dReluCache, declared as"),
    ):
        with pytest.raises(Broken, match=f"^rule 2, cache: {words}"):
            rules.cache_is_of_the_references_class(run._replace(cache=part))


def test_cache_holds_what_was_passed():
    caught = partial(catches, rules.cache_holds_what_was_passed)
    zeros = cache(lambda c: c._replace(bias=np.zeros(len(c.weight))) if c.bias is None else c)
    caught("2, cache: bias was None", "linear_forward", zeros, bare=True)
    other = cache(lambda c: c._replace(momentum=0.3))
    caught("2, cache: momentum was 0.5", "batch_norm2d_forward", other, case="training, momentum")


# Rule 4: memory


def test_inputs_are_not_written():
    caught = partial(catches, rules.inputs_are_not_written)
    caught("4, pure: x was written", "relu_forward", after(lambda x: write(x, np.maximum(x, 0))))
    late = after(lambda dout, cache: write(cache.x, 0))
    caught("4, pure: x was written", "linear_backward", late)
    statistics = after(lambda *a, running_mean, **s: write(running_mean, 1))
    caught("4, pure: running_mean was written", "batch_norm2d_forward", statistics)


def test_caches_are_not_written():
    caught = partial(catches, rules.caches_are_not_written)
    words = "4, pure: dout was written"
    caught(words, "sigmoid_backward", after(lambda dout, cache: write(dout, 1)))
    words = "4, pure: (out|cache.out) was written"
    caught(words, "tanh_backward", after(lambda dout, cache: write(cache.out, 1)))
    calls, buffer = [], {}

    def counted(dx, dout, cache):
        calls.append(dx)
        return dx + len(calls)

    def in_a_buffer(dx, dout, cache):
        kept = buffer.setdefault(dx.shape, np.empty_like(dx))
        kept[...] = counted(dx, dout, cache)
        return kept

    words = "4, pure: a second backward gives another dx"
    caught(words, "tanh_backward", gradient(0, counted))
    words = "4, pure: a second backward writes to the first one's dx"
    caught(words, "tanh_backward", gradient(0, in_a_buffer))


def test_read_only_arrays_are_taken():
    caught = partial(catches, rules.read_only_arrays_are_taken)
    words = "4, read-only arrays: are refused: .*read-only"

    def rewrite(array):
        array[...] = array.copy()

    caught(words, "linear_forward", after(lambda x, *a: rewrite(x)))
    caught(words, "linear_backward", after(lambda dout, cache: rewrite(dout)))
    caught(words, "linear_backward", after(lambda dout, cache: rewrite(cache.weight)))
    words = "4, read-only arrays: give another out"
    caught(words, "relu_forward", out(lambda y, x: y * x.flags.writeable))


def test_out_is_a_new_array():
    words = "4, out: out shares memory with x"
    view = out(lambda y, x: x.reshape(y.shape))
    catches(rules.out_is_a_new_array, words, "flatten_forward", view)


# Rule 5: dtypes, shapes, settings


def test_dtype_is_kept():
    caught = partial(catches, rules.dtype_is_kept, dtype=np.float32)
    words = "5, dtype in = dtype out: {} is float64, expected float32"
    caught(words.format("out"), "linear_forward", out(lambda y, *a: y.astype(np.float64)))
    double = gradient(1, lambda g, *a: g.astype(np.float64))
    caught(words.format("dweight"), "linear_backward", double)
    double = cache(lambda c: c._replace(running_var=c.running_var.astype(np.float64)))
    caught(words.format("cache.running_var"), "batch_norm2d_forward", double)


def test_out_has_the_shape():
    words = r"5, shape: out has shape \(6, 20\), expected \(2, 3, 4, 5\)"
    _, run = runs("relu_forward", out(lambda y, x: y))
    rules.out_has_the_shape(run, run)
    with pytest.raises(Broken, match=f"^rule {words}"):
        rules.out_has_the_shape(run._replace(out=run.out.reshape(6, -1)), run)


def test_settings_may_be_numpys():
    caught = partial(catches, rules.settings_may_be_numpys)
    wide = out(lambda y, *a, eps, **s: y * (1 + eps - eps))
    words = "5, dtype in = dtype out: out is float64, expected float32"
    caught(words, "batch_norm2d_forward", wide, dtype=np.float32)
    picky = out(lambda y, *a, training, **s: y * (1 + isinstance(training, np.bool_)))
    caught("5, settings: NumPy's scalars as settings give", "batch_norm2d_forward", picky)


def test_pairs_may_be_lists():
    picky = out(lambda y, x, kernel, **s: y * isinstance(kernel, tuple))
    words = "5, settings: lists as settings give another out"
    catches(rules.pairs_may_be_lists, words, "max_pool2d_forward", picky)


# Rule 6: names


def test_names_and_signatures():
    for function, words in {
        "relu_backward": "relu_backward(dout), expected relu_backward(dout, cache)",
        "relu_branches": "relu_branches(dout), expected relu_branches(cache)",
    }.items():
        ops = back_end("relu_forward", lambda result, *a: result)
        setattr(ops, function, lambda dout: None)
        with pytest.raises(Broken, match=re.escape(f"rule 6, signatures: {words}")) as caught:
            rules.names_and_signatures(ops, "relu")
        assert caught.value.__notes__ == ["in relu"]
        delattr(ops, function)
        with pytest.raises(Broken, match=f"^rule 6, names: {function} is missing"):
            rules.names_and_signatures(ops, "relu")


# Rule 7: messages


def swallowing(op, words, error=None):
    """Return the reference, but for one refusal, in place of which another error comes or none."""

    def swallow(function, *arguments, **settings):
        try:
            return function(*arguments, **settings)
        except (TypeError, ValueError) as raised:
            if not re.match(f"{op}: {words}", str(raised)):
                raise
        if error is not None:
            raise error

    halves = (f"{op}_forward", f"{op}_backward")
    return SimpleNamespace(**{half: partial(swallow, getattr(reference, half)) for half in halves})


def test_mistakes_are_refused():
    _, expected = runs("linear_forward", lambda result, *a: result)
    misuses = [*rules.misuses(expected)]
    assert len(misuses) == 9
    for misuse in misuses:
        wrong_kind = TypeError if misuse.error is ValueError else ValueError
        for error, words in (
            (None, f"is taken, expected a {misuse.error.__name__}"),
            (misuse.error("linear: no"), "gives linear: no, expected linear: "),
            (wrong_kind("linear: no"), f"raises {wrong_kind.__name__}, expected "),
            (KeyError("x"), "raises KeyError, expected "),
        ):
            ops = swallowing("linear", misuse.words, error)
            with pytest.raises(Broken, match=f"^rule 7, messages: .* {words}"):
                rules.mistakes_are_refused(expected._replace(ops=ops))


def test_float16_and_lists_are_refused():
    """Of a user's file an error in words of its own will do."""
    _, expected = runs("linear_forward", lambda result, *a: result)
    for misuse in [*rules.misuses(expected)][:2]:
        ops = swallowing("linear", misuse.words, ValueError("linear: take it away"))
        rules.float16_and_lists_are_refused(expected._replace(ops=ops))
        for error in (None, TypeError("take it away"), KeyError("x")):
            ops = swallowing("linear", misuse.words, error)
            with pytest.raises(Broken, match=f"^rule 7, messages: {misuse.what} "):
                rules.float16_and_lists_are_refused(expected._replace(ops=ops))


# Rule 10: branches


def test_branches_are_the_references():
    caught = partial(catches, rules.branches_are_the_references)
    caught("10, branches: .* returns float64", "relu_branches", lambda sides, c: sides * 1.0)
    caught("10, branches: .* returns other sides", "relu_branches", lambda sides, c: 1 - sides)
    words = "10, branches: add_branches of an op without kinks"
    caught(words, "add_branches", lambda *a: None)


def test_every_rule_is_tested_here():
    assert [name for name in rules_of(rules) if f"test_{name}" not in globals()] == []

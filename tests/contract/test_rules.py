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


def test_gradients_match_the_inputs():
    caught = partial(catches, rules.gradients_match_the_inputs)
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


def test_cache_has_the_reference_class():
    caught = partial(catches, rules.cache_has_the_reference_class)
    words = "2, cache: the cache is a tuple, expected a LinearCache"
    caught(words, "linear_forward", cache(lambda c: (*c,)))
    _, run = runs("batch_norm2d_relu_forward", out(lambda y, *a, **s: y))
    for part, words in (
        (run.cache._replace(norm=(*run.cache.norm,)), "norm is a tuple, expected a BatchNorm2dC"),
        (run.cache._replace(out=run.cache), "out is a BatchNorm2dReluCache, declared as"),
    ):
        with pytest.raises(Broken, match=f"^rule 2, cache: {words}"):
            rules.cache_has_the_reference_class(run._replace(cache=part))


def test_cache_holds_the_arguments():
    caught = partial(catches, rules.cache_holds_the_arguments)
    zeros = cache(lambda c: c._replace(bias=np.zeros(len(c.weight))) if c.bias is None else c)
    caught(
        "2, cache: bias is not None in the cache, expected None", "linear_forward", zeros, bare=True
    )
    other = cache(lambda c: c._replace(momentum=0.3))
    words = "2, cache: momentum is 0.3 in the cache, expected 0.5"
    caught(words, "batch_norm2d_forward", other, case="training, momentum")


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
        reused = buffer.setdefault(dx.shape, np.empty_like(dx))
        reused[...] = counted(dx, dout, cache)
        return reused

    words = "4, pure: a second backward returns a different dx"
    caught(words, "tanh_backward", gradient(0, counted))
    words = "4, pure: a second backward writes to the first backward's dx"
    caught(words, "tanh_backward", gradient(0, in_a_buffer))


def test_read_only_arrays_are_accepted():
    caught = partial(catches, rules.read_only_arrays_are_accepted)
    words = "4, read-only arrays: are rejected: .*read-only"

    def rewrite(array):
        array[...] = array.copy()

    caught(words, "linear_forward", after(lambda x, *a: rewrite(x)))
    caught(words, "linear_backward", after(lambda dout, cache: rewrite(dout)))
    caught(words, "linear_backward", after(lambda dout, cache: rewrite(cache.weight)))
    words = "4, read-only arrays: change out"
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


def test_settings_may_be_numpy_scalars():
    caught = partial(catches, rules.settings_may_be_numpy_scalars)
    wide = out(lambda y, *a, eps, **s: y * (1 + eps - eps))
    words = "5, dtype in = dtype out: out is float64, expected float32"
    caught(words, "batch_norm2d_forward", wide, dtype=np.float32)
    picky = out(lambda y, *a, training, **s: y * (1 + isinstance(training, np.bool_)))
    caught("5, settings: settings as NumPy scalars change", "batch_norm2d_forward", picky)


def test_pairs_may_be_lists():
    picky = out(lambda y, x, kernel, **s: y * isinstance(kernel, tuple))
    words = "5, settings: settings as lists change out"
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
    """Return the reference with one error replaced by another error, or by none."""

    def swallow(function, *arguments, **settings):
        try:
            return function(*arguments, **settings)
        except (TypeError, ValueError) as raised:
            if not re.match(f"{op}: {words}", str(raised)):
                raise
        if error is not None:
            raise error

    names = (f"{op}_forward", f"{op}_backward")
    return SimpleNamespace(**{name: partial(swallow, getattr(reference, name)) for name in names})


def test_misuse_raises():
    _, expected = runs("linear_forward", lambda result, *a: result)
    misuses = [*rules.misuses(expected)]
    assert len(misuses) == 9
    for misuse in misuses:
        wrong_kind = TypeError if misuse.error is ValueError else ValueError
        for error, words in (
            (None, f"raises nothing, expected a {misuse.error.__name__}"),
            (misuse.error("linear: no"), "has the message linear: no, expected linear: "),
            (wrong_kind("linear: no"), f"raises {wrong_kind.__name__}, expected "),
            (KeyError("x"), "raises KeyError, expected "),
        ):
            ops = swallowing("linear", misuse.words, error)
            with pytest.raises(Broken, match=f"^rule 7, messages: .* {words}"):
                rules.misuse_raises(expected._replace(ops=ops))


def test_float16_and_lists_raise():
    """A user's file may word the error differently, as long as it names the op."""
    _, expected = runs("linear_forward", lambda result, *a: result)
    for misuse in [*rules.misuses(expected)][:2]:
        ops = swallowing("linear", misuse.words, ValueError("linear: take it away"))
        rules.float16_and_lists_raise(expected._replace(ops=ops))
        for error in (None, TypeError("take it away"), KeyError("x")):
            ops = swallowing("linear", misuse.words, error)
            with pytest.raises(Broken, match=f"^rule 7, messages: {misuse.argument} "):
                rules.float16_and_lists_raise(expected._replace(ops=ops))


# Rule 10: branches


def test_branches_equal_the_reference():
    caught = partial(catches, rules.branches_equal_the_reference)
    caught("10, branches: .* returns float64", "relu_branches", lambda sides, c: sides * 1.0)
    caught("10, branches: .* returns other branches", "relu_branches", lambda sides, c: 1 - sides)
    words = "10, branches: add_branches for an op without kinks"
    caught(words, "add_branches", lambda *a: None)


def test_every_rule_is_tested_here():
    assert [name for name in rules_of(rules) if f"test_{name}" not in globals()] == []

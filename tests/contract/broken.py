"""Back ends that break one rule: the reference with a mistake in one function.

A mistake is a function of the reference's result and of the arguments of the call.
"""

import functools
import inspect
from types import SimpleNamespace

import numpy as np
import pytest

from minise.contract.case import draw, optional
from minise.contract.conform import check_op
from minise.contract.run import Broken, run_case
from minise.contract.spec import CASES
from minise.ops import reference


def back_end(function, wrong):
    """Return the reference with the result of one function, existing or not, changed."""
    right = getattr(reference, function, lambda *arguments: None)

    @functools.wraps(right)
    def changed(*arguments, **settings):
        return wrong(right(*arguments, **settings), *arguments, **settings)

    own = {name: getattr(reference, name) for name in reference.__all__}
    return SimpleNamespace(**{**own, function: changed})


def runs(function, wrong, case="", dtype=np.float64, bare=False):
    """Run a case of an op, by default the first, on a wrong back end and on the reference."""
    cases = CASES[function.rpartition("_")[0]]
    case = cases[case or next(iter(cases))]
    without = optional(case.op) if bare else ()

    def run(ops, dout=None):
        drawn = draw(case, np.random.default_rng(0), dtype, without=without)
        return run_case(ops, case, *drawn, np.random.default_rng(1), dout=dout)

    expected = run(reference)
    return run(back_end(function, wrong), expected.dout.copy()), expected


def catches(rule, words, function, wrong, **of_case):
    """Assert that a rule reports a mistake, and that the reference passes."""
    run, expected = runs(function, wrong, **of_case)
    further = [expected] if "expected" in inspect.signature(rule).parameters else []
    rule(expected, *further)
    with pytest.raises(Broken, match=f"^(rule )?{words}") as caught:
        rule(run, *further)
    (note,) = caught.value.__notes__
    assert note.startswith(
        f"in {run.case.op}: sizes {run.case.sizes}, settings {run.case.settings}"
    )
    assert check_op(run.ops, run.case.op, 60).problem


def out(change):
    """Return a mistake that replaces out by change(out, arrays and settings of forward)."""
    return lambda result, *a, **s: (change(result[0], *a, **s), result[1])


def cache(change):
    """Return a mistake that replaces the cache by change(cache)."""
    return lambda result, *a, **s: (result[0], change(result[1]))


def gradient(k, change):
    """Return a mistake that replaces the k-th gradient by change(gradient, dout, cache)."""

    def wrong(result, dout, cache, **settings):
        return (*result[:k], change(result[k], dout, cache), *result[k + 1 :])

    return wrong


def after(change):
    """Return a mistake that calls change on the arguments and leaves the result unchanged."""

    def wrong(result, *arguments, **settings):
        change(*arguments, **settings)
        return result

    return wrong


def write(array, numbers):
    """Write numbers to an array, unless the array is read-only."""
    if array.flags.writeable:
        array[...] = numbers


def rules_of(module):
    """Return the names of a module's rules: public functions whose docstring says so."""
    first_words = ("Rule", "Gradients", "Raise Broken")
    names = [
        name
        for name, value in vars(module).items()
        if inspect.isfunction(value)
        and value.__module__ == module.__name__
        and name[0] != "_"
        and value.__doc__.startswith(first_words)
    ]
    assert len(names) > 6
    return names

"""Back ends that break a rule: the reference with one mistake.

A mistake is a function of what a function of the reference returned, and of what it was called
with.
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
    """Return the reference with one function, existing or not, whose result is changed."""
    right = getattr(reference, function, lambda *arguments: None)

    @functools.wraps(right)
    def changed(*arguments, **settings):
        return wrong(right(*arguments, **settings), *arguments, **settings)

    own = {name: getattr(reference, name) for name in reference.__all__}
    return SimpleNamespace(**{**own, function: changed})


def runs(function, wrong, case="", dtype=np.float64, bare=False):
    """Run an op's case, by default its first, on a wrong back end and on the reference."""
    cases = CASES[function.rpartition("_")[0]]
    case = cases[case or next(iter(cases))]
    without = optional(case.op) if bare else ()

    def run(ops, dout=None):
        drawn = draw(case, np.random.default_rng(0), dtype, without=without)
        return run_case(ops, case, *drawn, np.random.default_rng(1), dout=dout)

    expected = run(reference)
    return run(back_end(function, wrong), expected.dout.copy()), expected


def catches(rule, words, function, wrong, **of_case):
    """Assert that a rule names a mistake, where the reference passes."""
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
    """Return a mistake in out, which change gets with the arrays and settings of forward."""
    return lambda result, *a, **s: (change(result[0], *a, **s), result[1])


def cache(change):
    """Return a mistake in the cache."""
    return lambda result, *a, **s: (result[0], change(result[1]))


def gradient(k, change):
    """Return a mistake in the k-th gradient, which change gets with dout and the cache."""

    def wrong(result, dout, cache, **settings):
        return (*result[:k], change(result[k], dout, cache), *result[k + 1 :])

    return wrong


def after(change):
    """Return a mistake that does something and leaves the result as it is."""

    def wrong(result, *arguments, **settings):
        change(*arguments, **settings)
        return result

    return wrong


def write(array, numbers):
    """Write to an array, unless it is read-only."""
    if array.flags.writeable:
        array[...] = numbers


def rules_of(module):
    """Return the names of a module's functions that raise Broken, by their docstrings."""
    first = ("Rule", "Gradients", "Raise Broken")
    names = [
        name
        for name, one in vars(module).items()
        if inspect.isfunction(one)
        and one.__module__ == module.__name__
        and name[0] != "_"
        and one.__doc__.startswith(first)
    ]
    assert len(names) > 6
    return names

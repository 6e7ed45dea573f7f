"""The contract's rules on numbers: equality with the reference, determinism, NaN, gradients.

Each rule is a function of a run (a case on one back end) and raises Broken.
"""

import inspect
from typing import Any

import numpy as np

from minise.checks import Array
from minise.contract.bounds import count_of
from minise.contract.case import Case, differentiable, direction, functions
from minise.contract.run import (
    Broken,
    Run,
    backward_of,
    describe_case,
    first_difference,
    host_arguments,
    names_of,
    rerun,
    to_back_end,
)
from minise.contract.spec import magnitudes
from minise.gradcheck.check import assert_gradients
from minise.gradcheck.slopes.arrays import host
from minise.ops import reference


def on_same_branches(run: Run, expected: Run) -> bool:
    """Return True if rounding has moved no element across a kink."""
    branches = getattr(reference, f"{run.case.op}_branches", None)
    if branches is None:
        return True
    actual = getattr(run.ops, f"{run.case.op}_branches")(run.cache)
    reference_branches = getattr(expected.ops, f"{run.case.op}_branches")(expected.cache)
    return bool(np.array_equal(host(actual), host(reference_branches)))


def results_are_equal(run: Run, expected: Run, *, exact: bool, rule: str = "") -> None:
    """Raise Broken unless results are equal: exactly if exact, else within rounding error.

    `expected` is the run of the reference or, if `rule` is passed, another run of the same back
    end.
    """
    default_rule = "equal on small integers" if exact else "equal to the reference up to rounding"
    rule, inputs = rule or default_rule, host_arguments(expected)[0]
    terms, count = _magnitudes(expected), count_of(inputs, expected.out)
    actual_results, expected_results = run.results(), expected.results()
    for (name, result), magnitude in zip(expected_results.items(), terms, strict=True):
        actual = actual_results[name]
        if (actual is None) != (result is None):
            kinds = ("None", "an array") if actual is None else ("an array", "None")
            raise run.broken(rule, f"{name} is {kinds[0]}, expected {kinds[1]}")
        if result is not None:
            eps = 0 if exact else 2 * count * np.finfo(expected.dtype).eps
            bound = eps * np.asarray(magnitude)
            _check_within(run, rule, name, host(actual), host(result), bound)


def _magnitudes(run: Run) -> list[Any]:
    """Return the magnitudes of out and of each gradient in a run, see bounds.py."""
    inputs, keywords = host_arguments(run)
    return magnitudes(run.case.op, inputs, keywords, run.dout)


def _check_within(
    run: Run, rule: str, name: str, actual: Array, expected: Array, bound: Any
) -> None:
    """Raise Broken unless the elementwise difference of two arrays is at most a bound."""
    if np.shape(actual) != np.shape(expected):
        text = f"{name} has shape {np.shape(actual)}, expected {np.shape(expected)}"
        raise run.broken(rule, text)
    difference = abs(actual - expected)
    if not (difference <= bound).all():
        text = f"{name} has an error of up to {float(np.max(difference)):.2e}"
        raise run.broken(rule, f"{text}, expected at most {float(np.max(bound)):.1e}")


def caches_are_interchangeable(run: Run, expected: Run, *, exact: bool) -> None:
    """Rule 2: backward accepts the reference's cache, and the reference accepts this cache."""
    if not run.is_numpy:
        return
    rule = "rule 2, another back end's cache"
    with_reference_cache = run._replace(gradients=backward_of(run, cache=expected.cache))
    by_reference = run._replace(gradients=backward_of(expected, cache=run.cache))
    for swapped in (with_reference_cache, by_reference):
        if len(swapped.gradients) != len(run.inputs):
            text = f"{len(swapped.gradients)} gradients, expected {len(run.inputs)}"
            raise run.broken(rule, text)
        if on_same_branches(run, expected):
            results_are_equal(swapped, expected, exact=exact, rule=rule)


def plus_is_added(
    run: Run, expected: Run, rng: np.random.Generator, *, exact: bool, same_bits: bool = True
) -> None:
    """Rule 6: conv2d_backward adds plus to dx, within rounding error, and to no other gradient.

    With same_bits the other gradients are bit-identical with and without plus.
    """
    rule = "rule 6, plus"
    if not _has_setting(run.case.op, "plus"):
        return
    x, *_ = inputs = host_arguments(expected)[0]
    plus = direction(x, rng, integers=exact)
    dx, *others = backward_of(run, plus=to_back_end(run.ops, plus))
    if dx is None or dx.shape != plus.shape or dx.dtype != plus.dtype:
        text = f"dx differs in shape or dtype from x, expected {plus.dtype} {plus.shape}"
        raise run.broken(rule, text)
    _, magnitude, *_ = _magnitudes(expected)
    eps = 0 if exact else 2 * count_of(inputs, expected.out) * np.finfo(plus.dtype).eps
    expected_dx = expected.gradients[0] + plus
    bound = eps * (magnitude + abs(plus))
    _check_within(run, rule, "dx with plus", host(dx), expected_dx, bound)
    if same_bits:
        _check_other_gradients(run, rule, others, "plus")


def dx_may_be_omitted(run: Run) -> None:
    """Rule 6: with needs_dx=False dx may be None; the other gradients are bit-identical."""
    if _has_setting(run.case.op, "needs_dx"):
        _, *others = backward_of(run, needs_dx=False)
        _check_other_gradients(run, "rule 6, needs_dx", others, "needs_dx=False")


def _has_setting(op: str, setting: str) -> bool:
    """Return True if the contract gives an op's backward this setting."""
    return setting in inspect.signature(getattr(reference, f"{op}_backward")).parameters


def _check_other_gradients(run: Run, rule: str, others: list[Any], setting: str) -> None:
    """Raise Broken unless all gradients but dx are bit-identical to those of the run."""
    if 1 + len(others) != len(run.gradients):
        text = f"{1 + len(others)} gradients, expected {len(run.gradients)}"
        raise run.broken(rule, text)
    name = first_difference(run, run._replace(gradients=(run.gradients[0], *others)), bits=True)
    if name:
        raise run.broken(rule, f"{setting} changes {name}")


def results_are_deterministic(run: Run, *, cache: bool = True) -> None:
    """Rule 8: a second and a third run are bit-identical, with cache=True also in the cache."""
    for _ in range(2):
        name = first_difference(run, rerun(run), bits=True, cache=cache)
        if name:
            text = f"a second run is not bit-identical in {name}"
            raise run.broken("rule 8, deterministic", text)


def nan_propagates(run: Run, k: int, index: int, *, spread: str = "nowhere") -> None:
    """Rule 9: out has NaN where the reference has it, for a NaN at a flat index of input k.

    If the gradient at this index is not 0, out has a NaN. With spread "image" the other elements of
    the same image may be NaN too, with "anywhere" all elements of out.
    """
    inputs, keywords = host_arguments(run)
    poisoned: list[Any] = [None if a is None else np.array(a, order="C") for a in inputs]
    poisoned[k].flat[index] = np.nan
    reference_out, _ = getattr(reference, f"{run.case.op}_forward")(*poisoned, **keywords)
    arrays = [to_back_end(run.ops, a) for a in poisoned]
    out, _ = getattr(run.ops, f"{run.case.op}_forward")(*arrays, **run.keywords)
    nans, expected = np.isnan(host(out)), np.isnan(reference_out)
    gradient = run.gradients[k]
    reaches_out = gradient is not None and host(gradient).flat[index] != 0
    lost = (expected & ~nans).any() or (reaches_out and not nans.any())
    if spread == "image":
        nans, expected = (mask.any(axis=(1, 2, 3)) for mask in (nans, expected))
    if lost or (spread != "anywhere" and not np.array_equal(nans, expected)):
        text = f"a NaN in {run.names[k]} does not propagate to out as in the reference"
        raise run.broken("rule 9, NaN in, NaN out", text)


def gradients_are_correct(
    ops: Any, case: Case, inputs: list[Any], keywords: dict[str, Any], rng: np.random.Generator
) -> None:
    """Gradients: backward returns the gradients of the back end's own forward.

    An entry that gradcheck cannot check passes; its value is still compared with the reference.
    """
    arrays = [to_back_end(ops, a) for a in inputs]
    consistent = differentiable(case.op, keywords)
    settings = {name: to_back_end(ops, value) for name, value in consistent.items()}
    forward, backward, branches = functions(ops, case.op, settings)
    names = names_of(case.op, len(arrays))
    try:
        assert_gradients(
            forward, backward, arrays, rng, branches=branches, names=names, allow_unchecked=True
        )
    except AssertionError as error:
        description = f"{case.op}: {describe_case(case, inputs[0].dtype, ())}"
        raise Broken("gradients", str(error), description) from None

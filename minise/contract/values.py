"""The rules of the contract on numbers: equal to the reference, the same bits, NaN, gradients.

Each is one short function of a case that was run on a back end, and raises Broken.
"""

import inspect
from typing import Any

import numpy as np

from minise.checks import Array
from minise.contract.bounds import count_of
from minise.contract.case import Case, direction, functions
from minise.contract.run import (
    Broken,
    Run,
    again,
    as_own,
    backward_of,
    differing,
    in_words,
    names_of,
    on_host,
)
from minise.contract.spec import magnitudes
from minise.gradcheck.check import assert_gradients
from minise.gradcheck.slopes.arrays import host
from minise.ops import reference


def same_sides(run: Run, expected: Run) -> bool:
    """Tell whether rounding pushed no number over a kink."""
    branches = getattr(reference, f"{run.case.op}_branches", None)
    if branches is None:
        return True
    own = getattr(run.ops, f"{run.case.op}_branches")(run.cache)
    theirs = getattr(expected.ops, f"{run.case.op}_branches")(expected.cache)
    return bool(np.array_equal(host(own), host(theirs)))


def results_are_equal(run: Run, expected: Run, *, exact: bool, rule: str = "") -> None:
    """Raise Broken unless results are equal, but for rounding where the numbers are not exact.

    expected is the reference's run or, where a rule is named, another run of the same back end.
    """
    of_reference = "equal on small integers" if exact else "equal to the reference but for rounding"
    rule, inputs = rule or of_reference, on_host(expected)[0]
    terms, count = _terms(expected), count_of(inputs, expected.out)
    own, theirs = run.results(), expected.results()
    for (name, result), size in zip(theirs.items(), terms, strict=True):
        if (own[name] is None) != (result is None):
            raise run.broken(rule, f"{name}: None where it should not be, or not")
        if result is not None:
            eps = 0 if exact else 2 * count * np.finfo(expected.dtype).eps
            _is_within(run, rule, name, host(own[name]), host(result), eps * np.asarray(size))


def _terms(run: Run) -> list[Any]:
    """Return by how much rounding may change each result, in units of one rounding."""
    inputs, keywords = on_host(run)
    return magnitudes(run.case.op, inputs, keywords, run.dout)


def _is_within(run: Run, rule: str, name: str, came: Array, expected: Array, bound: Any) -> None:
    """Raise Broken unless an array differs from what is expected by at most a bound, by entry."""
    if np.shape(came) != np.shape(expected):
        text = f"{name} has shape {np.shape(came)}, expected {np.shape(expected)}"
        raise run.broken(rule, text)
    difference = abs(came - expected)
    if not (difference <= bound).all():
        text = f"{name} is off by up to {float(np.max(difference)):.2e}"
        raise run.broken(rule, f"{text}, {float(np.max(bound)):.1e} is allowed")


def foreign_caches_are_taken(run: Run, expected: Run, *, exact: bool) -> None:
    """Rule 2: backward takes the reference's cache, and the reference's takes the back end's."""
    if not run.is_numpy:
        return
    rule = "rule 2, another back end's cache"
    own = run._replace(gradients=backward_of(run, cache=expected.cache))
    theirs = run._replace(gradients=backward_of(expected, cache=run.cache))
    for foreign in (own, theirs):
        if len(foreign.gradients) != len(run.inputs):
            raise run.broken(rule, f"gives {len(foreign.gradients)} gradients")
        if same_sides(run, expected):
            results_are_equal(foreign, expected, exact=exact, rule=rule)


def plus_is_added(
    run: Run, expected: Run, rng: np.random.Generator, *, exact: bool, same_bits: bool = True
) -> None:
    """Rule 6: conv2d_backward adds plus to dx, but for rounding, and to no other gradient.

    With same_bits the other gradients are the same to the bit as without plus.
    """
    rule = "rule 6, plus"
    if not _takes(run.case.op, "plus"):
        return
    x, *_ = inputs = on_host(expected)[0]
    plus = direction(x, rng, integers=exact)
    dx, *others = backward_of(run, plus=as_own(run.ops, plus))
    if dx is None or dx.shape != plus.shape or dx.dtype != plus.dtype:
        text = f"dx is not of the shape and dtype of x, {plus.dtype} {plus.shape}"
        raise run.broken(rule, text)
    _, size, *_ = _terms(expected)
    eps = 0 if exact else 2 * count_of(inputs, expected.out) * np.finfo(plus.dtype).eps
    wanted = expected.gradients[0] + plus
    _is_within(run, rule, "dx with plus", host(dx), wanted, eps * (size + abs(plus)))
    if same_bits:
        _others_are_the_same(run, rule, others, "plus changes")


def dx_may_be_left_out(run: Run) -> None:
    """Rule 6: with needs_dx=False dx may be None, and other gradients are the same to the bit."""
    if _takes(run.case.op, "needs_dx"):
        _, *others = backward_of(run, needs_dx=False)
        _others_are_the_same(run, "rule 6, needs_dx", others, "needs_dx=False changes")


def _takes(op: str, setting: str) -> bool:
    """Tell whether an op's backward has a setting in the contract."""
    return setting in inspect.signature(getattr(reference, f"{op}_backward")).parameters


def _others_are_the_same(run: Run, rule: str, others: list[Any], what: str) -> None:
    """Raise Broken unless all gradients but dx are to the bit those of the run."""
    if 1 + len(others) != len(run.gradients):
        text = f"{1 + len(others)} gradients, expected {len(run.gradients)}"
        raise run.broken(rule, text)
    name = differing(run, run._replace(gradients=(run.gradients[0], *others)), bits=True)
    if name:
        raise run.broken(rule, f"{what} {name}")


def bits_are_the_same(run: Run, *, cache: bool = True) -> None:
    """Rule 8: a second and a third run give the same bits, in the cache too if it is asked for."""
    for _ in range(2):
        name = differing(run, again(run), bits=True, cache=cache)
        if name:
            text = f"a second run gives other bits in {name}"
            raise run.broken("rule 8, deterministic", text)


def nan_comes_out(run: Run, k: int, index: int, *, spread: str = "nowhere") -> None:
    """Rule 9: a NaN at a flat index of input k comes out where it does in the reference.

    Where the gradient at this index is not 0, out has a NaN. With spread "image" other numbers of
    the same image may be NaN too, and with "anywhere" all of out.
    """
    inputs, keywords = on_host(run)
    poisoned: list[Any] = [None if a is None else np.array(a, order="C") for a in inputs]
    poisoned[k].flat[index] = np.nan
    wanted, _ = getattr(reference, f"{run.case.op}_forward")(*poisoned, **keywords)
    arrays = [as_own(run.ops, a) for a in poisoned]
    came, _ = getattr(run.ops, f"{run.case.op}_forward")(*arrays, **run.keywords)
    nans, expected = np.isnan(host(came)), np.isnan(wanted)
    gradient = run.gradients[k]
    reaches_out = gradient is not None and host(gradient).flat[index] != 0
    lost = (expected & ~nans).any() or (reaches_out and not nans.any())
    if spread == "image":
        nans, expected = (mask.any(axis=(1, 2, 3)) for mask in (nans, expected))
    if lost or (spread != "anywhere" and not np.array_equal(nans, expected)):
        text = f"a NaN in {run.names[k]} does not come out where it should"
        raise run.broken("rule 9, NaN in, NaN out", text)


def gradients_are_right(
    ops: Any, case: Case, inputs: list[Any], keywords: dict[str, Any], rng: np.random.Generator
) -> None:
    """Gradients: they are those of the back end's own forward.

    One that could not be checked passes: it is compared with the reference's besides.
    """
    arrays = [as_own(ops, a) for a in inputs]
    same = {name: as_own(ops, value) for name, value in keywords.items()}
    forward, backward, branches = functions(ops, case.op, same)
    names = names_of(case.op, len(arrays))
    try:
        assert_gradients(
            forward, backward, arrays, rng, branches=branches, names=names, allow_unchecked=True
        )
    except AssertionError as error:
        where = f"{case.op}: {in_words(case, inputs[0].dtype, ())}"
        raise Broken("gradients", str(error), where) from None

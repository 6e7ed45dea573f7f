"""The rules of the contract, one short function each, for a case that was run on a back end."""

import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from minise.contract.bounds import count_of
from minise.contract.case import Case, direction, functions
from minise.contract.spec import magnitudes
from minise.gradcheck.check import assert_gradients
from minise.gradcheck.slopes.arrays import host, with_own_containers
from minise.ops import reference
from minise.ops.checks import Array, positional_names
from minise.ops.user.errors import OpsError
from minise.ops.user.fit import bare


class Broken(AssertionError):
    """A rule that a case breaks."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class Run(NamedTuple):
    """A case with its arrays, run on one back end."""

    ops: Any
    case: Case
    inputs: list[Any]
    keywords: dict[str, Any]
    out: Array
    cache: Any
    dout: Array
    gradients: tuple[Any, ...]


def run_case(
    ops: Any,
    case: Case,
    inputs: list[Any],
    keywords: dict[str, Any],
    rng: np.random.Generator,
    *,
    integers: bool = False,
    dout: Array | None = None,
) -> Run:
    """Run an op forward and backward; a dout is drawn unless it is passed."""
    arrays, same = _all_of(ops, inputs, keywords)
    out, cache = getattr(ops, f"{case.op}_forward")(*arrays, **same)
    dout = direction(host(out), rng, integers=integers) if dout is None else dout
    own = with_own_containers(cache)  # a backward may empty a list of it
    gradients = getattr(ops, f"{case.op}_backward")(_of(ops, dout), own)
    return Run(ops, case, arrays, same, out, cache, dout, gradients)


def _of(ops: Any, array: Array) -> Any:
    return ops.asarray(array) if hasattr(ops, "asarray") else array


def _all_of(
    ops: Any, inputs: list[Any], keywords: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Return inputs and keywords with all arrays as the back end's."""
    arrays = [None if a is None else _of(ops, a) for a in inputs]
    same = {k: _of(ops, v) if isinstance(v, np.ndarray) else v for k, v in keywords.items()}
    return arrays, same


def names_of(op: str, count: int) -> list[str]:
    """Return the names of an op's arrays."""
    return positional_names(inspect.signature(getattr(reference, f"{op}_forward")), count)


def names_and_signatures(ops: Any, op: str) -> None:
    """Rule 6: the same names and signatures."""
    wanted = [f"{op}_forward", f"{op}_backward"]
    wanted += [f"{op}_branches"] if hasattr(reference, f"{op}_branches") else []
    for name in wanted:
        function = getattr(ops, name, None)
        if function is None:
            raise Broken("rule 6, names", f"{name} is missing")
        expected, came = (inspect.signature(f) for f in (getattr(reference, name), function))
        plain = [(p.name, p.kind, p.default) for p in expected.parameters.values()]
        if plain != [(p.name, p.kind, p.default) for p in came.parameters.values()]:
            text = f"{name}({bare(came)}), expected {name}({bare(expected)})"
            raise Broken("rule 6, signatures", text)


def gradients_are_like_inputs(came: Run, expected: Run) -> None:
    """Rules 1, 2 and 5: gradients, dtypes and cache have the form that they should have."""
    if type(came.gradients) is not tuple:
        kind = type(came.gradients).__name__
        raise Broken("rule 1, gradients", f"backward returns a {kind}, expected a tuple")
    if len(came.gradients) != len(came.inputs):
        text = f"{len(came.gradients)} gradients for {len(came.inputs)} inputs"
        raise Broken("rule 1, gradients", text)
    if came.out.dtype != expected.out.dtype or came.out.shape != expected.out.shape:
        text = f"out is {came.out.dtype} {came.out.shape}, expected {expected.out.dtype} "
        raise Broken("rule 5, dtype in = dtype out", f"{text}{expected.out.shape}")
    for k, (gradient, wanted) in enumerate(zip(came.gradients, expected.gradients, strict=True)):
        if (gradient is None) != (wanted is None):
            raise Broken("rule 1, gradients", f"gradient {k}: None where it should not be, or not")
        if wanted is not None and (gradient.shape, gradient.dtype) != (wanted.shape, wanted.dtype):
            text = f"gradient {k} is {gradient.dtype} {gradient.shape}, expected {wanted.dtype} "
            raise Broken("rule 1, gradients", f"{text}{wanted.shape}")
    if type(came.cache) is not type(expected.cache):
        text = f"{type(came.cache).__name__}, expected {type(expected.cache).__name__}"
        raise Broken("rule 2, cache", text)


def repeats_to_the_bit(came: Run) -> None:
    """Rule 8: a second run gives the same bits."""
    own = with_own_containers(came.cache)
    again = getattr(came.ops, f"{came.case.op}_backward")(_of(came.ops, came.dout), own)
    out, _ = getattr(came.ops, f"{came.case.op}_forward")(*came.inputs, **came.keywords)
    for one, two in zip((came.out, *came.gradients), (out, *again), strict=True):
        if one is not None and host(one).tobytes() != host(two).tobytes():
            raise Broken("rule 8, deterministic", "a second run gives other bits")


def takes_foreign_caches(came: Run, expected: Run) -> None:
    """Rule 2: each backward takes the other's cache."""
    if not isinstance(came.out, np.ndarray):
        return  # of another array library
    backward = getattr(came.ops, f"{came.case.op}_backward")
    mine = backward(came.dout, expected.cache)
    theirs = getattr(reference, f"{came.case.op}_backward")(came.dout, came.cache)
    if len(mine) != len(theirs):
        raise Broken("rule 2, cache", "backward does not take the reference's cache")


def same_sides(came: Run, expected: Run) -> bool:
    """Tell whether rounding pushed no number over a kink."""
    branches = getattr(reference, f"{came.case.op}_branches", None)
    if branches is None:
        return True
    mine = getattr(came.ops, f"{came.case.op}_branches")(came.cache)
    return bool(np.array_equal(host(mine), branches(expected.cache)))


def agrees_with_the_reference(came: Run, expected: Run, *, exact: bool) -> None:
    """Results are equal to the reference but for rounding."""
    op, dtype = came.case.op, expected.out.dtype
    arrays = [None if a is None else host(a) for a in expected.inputs]
    terms = magnitudes(op, arrays, expected.keywords, expected.dout)
    count = count_of(arrays, expected.out)
    pairs = zip(
        (came.out, *came.gradients), (expected.out, *expected.gradients), terms, strict=True
    )
    rule = "equal on small integers" if exact else "equal to the reference but for rounding"
    for k, (mine, theirs, size) in enumerate(pairs):
        if theirs is None:
            continue
        name = "out" if k == 0 else f"d{names_of(op, len(arrays))[k - 1]}"
        bound = 0 if exact else 2 * count * np.finfo(dtype).eps * np.asarray(size)
        _within(rule, name, host(mine), theirs, bound)


def _within(rule: str, name: str, came: Array, expected: Array, bound: Any) -> None:
    """Raise Broken unless an array differs from what is expected by at most a bound, by entry."""
    difference = abs(came - expected)
    if not (difference <= bound).all():
        text = f"{name} is off by up to {float(np.max(difference)):.2e}"
        raise Broken(rule, f"{text}, {float(np.max(bound)):.1e} is allowed")


def plus_is_added(
    came: Run, expected: Run, rng: np.random.Generator, *, exact: bool, same_bits: bool = True
) -> None:
    """Rule 6: conv2d_backward adds plus to dx, but for rounding, and to no other gradient.

    With same_bits the other gradients are the same to the bit as without plus.
    """
    rule = "rule 6, plus"
    if not _takes(came.case.op, "plus"):
        return
    plus = direction(expected.inputs[0], rng, integers=exact)
    dx, *others = _backward(came, plus=_of(came.ops, plus))
    if dx is None or dx.shape != plus.shape or dx.dtype != plus.dtype:
        raise Broken(rule, f"dx is not of the shape and dtype of x, {plus.dtype} {plus.shape}")
    arrays = [None if a is None else host(a) for a in expected.inputs]
    _, size, *_ = magnitudes(came.case.op, arrays, expected.keywords, expected.dout)
    eps = 0 if exact else 2 * count_of(arrays, expected.out) * np.finfo(plus.dtype).eps
    wanted = expected.gradients[0] + plus
    _within(rule, "dx with plus", host(dx), wanted, eps * (size + abs(plus)))
    if same_bits:
        _same_bits(rule, came, others, "plus changes")


def dx_may_be_left_out(came: Run) -> None:
    """Rule 6: with needs_dx=False dx may be None, and other gradients are the same to the bit."""
    if _takes(came.case.op, "needs_dx"):
        _, *others = _backward(came, needs_dx=False)
        _same_bits("rule 6, needs_dx", came, others, "needs_dx=False changes")


def _takes(op: str, setting: str) -> bool:
    """Tell whether an op's backward has a setting in the contract."""
    return setting in inspect.signature(getattr(reference, f"{op}_backward")).parameters


def _backward(came: Run, **settings: Any) -> Any:
    """Run backward again, with settings."""
    own = with_own_containers(came.cache)
    backward = getattr(came.ops, f"{came.case.op}_backward")
    return backward(_of(came.ops, came.dout), own, **settings)


def _same_bits(rule: str, came: Run, others: list[Any], what: str) -> None:
    """Raise Broken unless all gradients but dx are those that were found before."""
    before = came.gradients[1:]
    if len(others) != len(before):
        raise Broken(rule, f"{1 + len(others)} gradients, expected {1 + len(before)}")
    names = names_of(came.case.op, len(came.inputs))[1:]
    for name, one, two in zip(names, others, before, strict=True):
        if (one is None) != (two is None):
            raise Broken(rule, f"{what} d{name}: None where it should not be, or not")
        if one is not None and host(one).tobytes() != host(two).tobytes():
            raise Broken(rule, f"{what} d{name}")


def nan_comes_out(
    ops: Any,
    case: Case,
    inputs: list[Any],
    keywords: dict[str, Any],
    rng: np.random.Generator,
    *,
    also_elsewhere: bool = False,
) -> None:
    """Rule 9: a NaN in an input comes out where it does in the reference, or also elsewhere."""
    floats = [k for k, a in enumerate(inputs) if a is not None and a.dtype.kind == "f"]
    k = int(rng.choice(floats))
    poisoned: list[Any] = [None if a is None else a.copy() for a in inputs]
    poisoned[k].flat[int(rng.integers(poisoned[k].size))] = np.nan
    wanted, _ = getattr(reference, f"{case.op}_forward")(*poisoned, **keywords)
    arrays, same = _all_of(ops, poisoned, keywords)
    came, _ = getattr(ops, f"{case.op}_forward")(*arrays, **same)
    there, due = np.isnan(host(came)), np.isnan(wanted)
    if (due & ~there).any() or not (also_elsewhere or np.array_equal(there, due)):
        raise Broken(
            "rule 9, NaN in, NaN out",
            f"a NaN in {names_of(case.op, len(inputs))[k]} does not come out where it should",
        )


def refuses(ops: Any, case: Case, inputs: list[Any], keywords: dict[str, Any]) -> None:
    """Rule 7: float16 and lists are refused in words."""
    forward: Callable[..., Any] = getattr(ops, f"{case.op}_forward")
    half = [a if a is None or a.dtype.kind != "f" else a.astype(np.float16) for a in inputs]
    for bad, what in ((half, "float16"), ([inputs[0].tolist(), *inputs[1:]], "a list")):
        try:
            forward(*bad, **keywords)
        except Exception as raised:
            error = raised.__cause__ if isinstance(raised, OpsError) else raised
            if isinstance(error, TypeError | ValueError):
                if str(error).startswith(f"{case.op}: "):
                    continue
                raise Broken("rule 7, messages", f"{what} gives {error!s:.60}") from None
            text = f"{what} raises {type(error).__name__}, expected TypeError"
            raise Broken("rule 7, messages", text) from None
        raise Broken("rule 7, messages", f"{what} is taken, expected a TypeError")


def gradients_are_right(
    ops: Any, case: Case, inputs: list[Any], keywords: dict[str, Any], rng: np.random.Generator
) -> None:
    """Gradients: they are those of the back end's own forward.

    One that could not be checked passes: it is compared with the reference's besides.
    """
    arrays, same = _all_of(ops, inputs, keywords)
    forward, backward, branches = functions(ops, case.op, same)
    names = names_of(case.op, len(arrays))
    try:
        assert_gradients(
            forward, backward, arrays, rng, branches=branches, names=names, allow_unchecked=True
        )
    except AssertionError as error:
        raise Broken("gradients", str(error)) from None

"""The contract as a test suite for a back end: a module goes in, what it breaks comes out.

Every op is run on drawn cases (sizes, settings, dtype, memory layout) beside the reference, and
each rule of the contract is one short function here. A case that breaks one is shrunk by
Hypothesis, so that what is reported is about the smallest case there is.
"""

import inspect
from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from minise.gradcheck.arrays import host
from minise.gradcheck.bounds import count_of, magnitudes
from minise.gradcheck.cases import OPS, Case, direction, draw, functions
from minise.gradcheck.check import assert_gradients
from minise.gradcheck.drawing import LAYOUTS
from minise.gradcheck.op_strategies import SEEDS, STRATEGIES, without
from minise.ops import reference
from minise.ops.checks import Array

# of small integers these leave nothing to round, in whatever order they add up
EXACT = {"add", "channel_scale", "channel_shuffle", "concat", "conv2d", "linear", "relu"}
EXACT |= {"max_pool2d", "global_max_pool2d"}


class Broken(AssertionError):
    """A rule that a case breaks."""

    def __init__(self, rule: str, text: str) -> None:
        super().__init__(f"{rule}: {text}")
        self.rule = rule


class OpResult(NamedTuple):
    """What was found about one op."""

    op: str
    cases: int  # that were run
    problem: str  # "" if all is well
    smallest: str  # the case that shows the problem


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


def conform(
    ops: Any, names: Iterable[str] | None = None, *, cases: int = 100, first_seed: int = 0
) -> list[OpResult]:
    """Check a back end, op by op.

    Parameters
    ----------
    ops : module or object
        With some or all of the functions of minise.ops.reference.
    names : iterable of str, optional
        Ops to check; by default all that the back end has.
    cases : int
        How many are drawn for each op.
    first_seed : int
        Of the drawing.

    Returns
    -------
    list of OpResult
        An op that is named but missing has that as its problem.
    """
    found = [op for op in OPS if hasattr(ops, f"{op}_forward") or hasattr(ops, f"{op}_backward")]
    return [check_op(ops, op, cases, first_seed) for op in (found if names is None else names)]


def check_op(ops: Any, op: str, cases: int, first_seed: int = 0) -> OpResult:
    """Check one op on drawn cases and return the smallest that breaks a rule."""
    try:
        _names_and_signatures(ops, op)
    except Broken as broken:
        return OpResult(op, 0, str(broken), "")
    tried = SimpleNamespace(count=0, last="")

    @seed(first_seed)
    @settings(
        max_examples=cases,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
        report_multiple_bugs=False,
    )
    @given(
        case=STRATEGIES[op],
        number=SEEDS,
        bare=without(op),
        dtype=st.sampled_from([np.float64, np.float32]),
        layout=st.sampled_from(list(LAYOUTS)),
    )
    def one(case: Case, number: int, bare: set[str], dtype: Any, layout: str) -> None:
        tried.count += 1
        lacking = f", without {', '.join(sorted(bare))}" if bare else ""
        tried.last = (
            f"sizes {case.sizes}, settings {case.settings}{lacking}, {np.dtype(dtype)}, "
            f"{layout}, seed {number}"
        )
        check_case(ops, case, number, bare, dtype, layout)

    try:
        one()
    except Broken as broken:
        return OpResult(op, tried.count, str(broken), tried.last)
    except Exception as error:
        return OpResult(op, tried.count, f"raises {type(error).__name__}: {error}", tried.last)
    return OpResult(op, tried.count, "", "")


def check_case(ops: Any, case: Case, number: int, bare: set[str], dtype: Any, layout: str) -> None:
    """Check every rule in one case.

    Raises
    ------
    Broken
        Naming the rule.
    """
    rng = np.random.default_rng(number)
    integers = case.op in EXACT and number % 2 == 0
    inputs, keywords = draw(case, rng, dtype, integers=integers, without=bare)
    expected = _run(reference, case, inputs, keywords, rng, integers=integers)
    laid_out: list[Any] = [None if a is None else LAYOUTS[layout](a) for a in inputs]
    kept: list[Any] = [None if a is None else a.copy() for a in laid_out]
    came = _run(ops, case, laid_out, keywords, rng, dout=expected.dout)
    for before, after in zip(kept, laid_out, strict=True):
        if before is not None and not np.array_equal(before, after, equal_nan=True):
            raise Broken("rule 4, pure", "an input was written")
    for rule in (_gradients_are_like_inputs, _repeats_to_the_bit, _takes_foreign_caches):
        rule(came, expected)
    if _same_sides(came, expected):
        _agrees_with_the_reference(came, expected, exact=integers)
    _nan_comes_out(ops, case, inputs, keywords, rng)
    _refuses(ops, case, inputs, keywords)
    if dtype == np.float64 and not integers:
        _gradients_are_right(ops, case, inputs, keywords, rng)


def _run(
    ops: Any,
    case: Case,
    inputs: list[Any],
    keywords: dict[str, Any],
    rng: np.random.Generator,
    *,
    integers: bool = False,
    dout: Array | None = None,
) -> Run:
    arrays, same = _all_of(ops, inputs, keywords)
    out, cache = getattr(ops, f"{case.op}_forward")(*arrays, **same)
    dout = direction(host(out), rng, integers=integers) if dout is None else dout
    gradients = getattr(ops, f"{case.op}_backward")(_of(ops, dout), cache)
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


def _names_and_signatures(ops: Any, op: str) -> None:
    wanted = [f"{op}_forward", f"{op}_backward"]
    wanted += [f"{op}_branches"] if hasattr(reference, f"{op}_branches") else []
    for name in wanted:
        function = getattr(ops, name, None)
        if function is None:
            raise Broken("rule 6, names", f"{name} is missing")
        expected, came = (inspect.signature(f) for f in (getattr(reference, name), function))
        plain = [(p.name, p.kind, p.default) for p in expected.parameters.values()]
        if plain != [(p.name, p.kind, p.default) for p in came.parameters.values()]:
            text = f"{name}({_plain(came)}), expected {name}({_plain(expected)})"
            raise Broken("rule 6, signatures", text)


def _plain(signature: inspect.Signature) -> str:
    """Return a signature without its annotations."""
    parameters = signature.parameters.values()
    plain = [one.replace(annotation=inspect.Parameter.empty) for one in parameters]
    return str(inspect.Signature(plain))[1:-1]


def _gradients_are_like_inputs(came: Run, expected: Run) -> None:
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


def _repeats_to_the_bit(came: Run, expected: Run) -> None:
    again = getattr(came.ops, f"{came.case.op}_backward")(_of(came.ops, came.dout), came.cache)
    out, _ = getattr(came.ops, f"{came.case.op}_forward")(*came.inputs, **came.keywords)
    for one, two in zip((came.out, *came.gradients), (out, *again), strict=True):
        if one is not None and host(one).tobytes() != host(two).tobytes():
            raise Broken("rule 8, deterministic", "a second run gives other bits")


def _takes_foreign_caches(came: Run, expected: Run) -> None:
    if not isinstance(came.out, np.ndarray):
        return  # of another array library
    backward = getattr(came.ops, f"{came.case.op}_backward")
    mine = backward(came.dout, expected.cache)
    theirs = getattr(reference, f"{came.case.op}_backward")(came.dout, came.cache)
    if len(mine) != len(theirs):
        raise Broken("rule 2, cache", "backward does not take the reference's cache")


def _same_sides(came: Run, expected: Run) -> bool:
    """Tell whether rounding pushed no number over a kink."""
    branches = getattr(reference, f"{came.case.op}_branches", None)
    if branches is None:
        return True
    mine = getattr(came.ops, f"{came.case.op}_branches")(came.cache)
    return bool(np.array_equal(host(mine), branches(expected.cache)))


def _agrees_with_the_reference(came: Run, expected: Run, *, exact: bool) -> None:
    op, dtype = came.case.op, expected.out.dtype
    arrays = [None if a is None else host(a) for a in expected.inputs]
    terms = magnitudes(op, arrays, expected.keywords, expected.dout)
    count = count_of(arrays, expected.out)
    pairs = zip(
        (came.out, *came.gradients), (expected.out, *expected.gradients), terms, strict=True
    )
    for k, (mine, theirs, size) in enumerate(pairs):
        if theirs is None:
            continue
        name = "out" if k == 0 else f"gradient {k - 1}"
        apart = abs(host(mine) - theirs)
        bound = 0 if exact else 2 * count * np.finfo(dtype).eps * np.asarray(size)
        if not (apart <= bound).all():
            rule = "equal on small integers" if exact else "equal to the reference but for rounding"
            text = f"{name} is off by up to {float(np.max(apart)):.2e}"
            raise Broken(rule, f"{text}, {float(np.max(bound)):.1e} is allowed")


def _nan_comes_out(
    ops: Any, case: Case, inputs: list[Any], keywords: dict[str, Any], rng: np.random.Generator
) -> None:
    floats = [k for k, a in enumerate(inputs) if a is not None and a.dtype.kind == "f"]
    k = int(rng.choice(floats))
    poisoned: list[Any] = [None if a is None else a.copy() for a in inputs]
    poisoned[k].flat[int(rng.integers(poisoned[k].size))] = np.nan
    wanted, _ = getattr(reference, f"{case.op}_forward")(*poisoned, **keywords)
    arrays, same = _all_of(ops, poisoned, keywords)
    came, _ = getattr(ops, f"{case.op}_forward")(*arrays, **same)
    if not np.array_equal(np.isnan(host(came)), np.isnan(wanted)):
        raise Broken(
            "rule 9, NaN in, NaN out", f"a NaN in input {k} does not come out where it should"
        )


def _refuses(ops: Any, case: Case, inputs: list[Any], keywords: dict[str, Any]) -> None:
    forward: Callable[..., Any] = getattr(ops, f"{case.op}_forward")
    half = [a if a is None or a.dtype.kind != "f" else a.astype(np.float16) for a in inputs]
    for bad, what in ((half, "float16"), ([inputs[0].tolist(), *inputs[1:]], "a list")):
        try:
            forward(*bad, **keywords)
        except (TypeError, ValueError) as error:
            if str(error).startswith(f"{case.op}: "):
                continue
            raise Broken("rule 7, messages", f"{what} gives {error!s:.60}") from None
        except Exception as error:
            text = f"{what} raises {type(error).__name__}, expected TypeError"
            raise Broken("rule 7, messages", text) from None
        raise Broken("rule 7, messages", f"{what} is taken, expected a TypeError")


def _gradients_are_right(
    ops: Any, case: Case, inputs: list[Any], keywords: dict[str, Any], rng: np.random.Generator
) -> None:
    arrays, same = _all_of(ops, inputs, keywords)
    forward, backward, branches = functions(ops, case.op, same)
    try:
        assert_gradients(forward, backward, arrays, rng, branches=branches)
    except AssertionError as error:
        raise Broken("gradients", str(error)) from None

"""The contract as a test suite for a back end: a module goes in, what it breaks comes out.

Every op is run on drawn cases (sizes, settings, dtype, memory layout) beside the reference, and
each rule of the contract is one short function of rules.py or values.py. A case that breaks one is
shrunk by Hypothesis, so that what is reported is about the smallest case there is.

A back end is held to every rule. Of a user's own file or module (minise.ops.backend.load_ops) what
is wrong is told from what only has another form: see `check_user_op`.
"""

from collections.abc import Callable, Iterable
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, Unsatisfiable

from minise.contract import rules, values
from minise.contract.case import OPS, Case, draw
from minise.contract.run import Broken, Run, in_words, laid_out, run_case
from minise.contract.spec import CASES, SPECS, STRATEGIES
from minise.contract.strategies import SEEDS, without
from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import reference
from minise.ops.user.completed import UserOps
from minise.ops.user.errors import OpsError

FORM: tuple[Callable[[Run], None], ...] = (  # rules that look at one run alone
    rules.gradients_are_like_the_inputs,
    rules.dtype_is_kept,
    rules.cache_is_of_the_references_class,
    rules.cache_holds_what_was_passed,
    rules.branches_are_the_references,
    rules.inputs_are_not_written,
    values.bits_are_the_same,
    rules.caches_are_not_written,
    rules.read_only_arrays_are_taken,
    rules.out_is_a_new_array,
    rules.settings_may_be_numpys,
    rules.pairs_may_be_lists,
)

Arrays = tuple[Case, list[Any], dict[str, Any], np.random.Generator]
CheckCase = Callable[[Case, int, set[str], Any, str], None]


class OpResult(NamedTuple):
    """What was found about one op."""

    op: str
    cases: int  # that were run
    problem: str  # "" if all is well
    smallest: str  # the case that shows the problem
    notes: tuple[str, ...] = ()  # what differs from the contract in form only, in a user's file
    place: str = ""  # in a user's file: where the problem is, such as my_ops.py:12


def conform(
    ops: Any, names: Iterable[str] | None = None, *, cases: int = 100, first_seed: int = 0
) -> list[OpResult]:
    """Check a back end, op by op.

    Parameters
    ----------
    ops : module or object
        With some or all of the functions of minise.ops.reference; or what load_ops returns for a
        user's file or module, of which form is only noted.
    names : iterable of str, optional
        Ops to check; by default all that the back end has, or that the user's file defines.
    cases : int
        How many are drawn for each op.
    first_seed : int
        Of the drawing.

    Returns
    -------
    list of OpResult
        An op that is named but missing has that as its problem.
    """
    chosen = ops_of(ops) if names is None else names
    return [check_op(ops, op, cases, first_seed) for op in chosen]


def ops_of(ops: Any) -> list[str]:
    """Return the ops that a back end has, or of which a user's file defines a half."""
    if isinstance(ops, UserOps):
        return ops.ops
    return [op for op in OPS if hasattr(ops, f"{op}_forward") or hasattr(ops, f"{op}_backward")]


def check_op(ops: Any, op: str, cases: int, first_seed: int = 0) -> OpResult:
    """Check one op on drawn cases and return the smallest that breaks a rule."""
    if isinstance(ops, UserOps):
        return check_user_op(ops, op, cases, first_seed)
    try:
        rules.names_and_signatures(ops, op)
    except Broken as broken:
        return OpResult(op, 0, str(broken), "")

    def one(case: Case, number: int, bare: set[str], dtype: Any, layout: str) -> None:
        check_case(ops, case, number, bare, dtype, layout)

    return _drawn(op, cases, first_seed, one)


def check_user_op(ops: UserOps, op: str, cases: int, first_seed: int = 0) -> OpResult:
    """Check one op of a user's file: its gradients first, in half of the cases, then the rest.

    Gradients are checked with all arrays that forward takes: whether it also takes None for some is
    seen with the rest.

    Wrong is: a gradient, a value that differs from the reference's, an input that is written, a NaN
    that is lost, a result of another shape or of fewer digits, an exception. Everything else of the
    contract is form, and noted: signatures, the class of the cache, gradients that are not in a
    tuple, float64 results of float32 inputs, other bits in a second run, bad arguments that are not
    refused.
    """
    if op not in ops.ops:
        where = f"{ops.file.name} defines neither {op}_forward nor {op}_backward"
        return OpResult(op, 0, where, "", (), ops.file.name)

    def gradients(case: Case, number: int, bare: set[str], dtype: Any, layout: str) -> None:
        case, inputs, keywords, rng = _drawable(ops, case, number, set(), np.float64, False)
        run_case(ops, case, inputs, keywords, rng)
        values.gradients_are_right(ops, case, inputs, keywords, rng)

    def rest(case: Case, number: int, bare: set[str], dtype: Any, layout: str) -> None:
        check_user_case(ops, case, number, bare, dtype, layout)

    half = -(-cases // 2)
    first = _drawn(op, half, first_seed, gradients)
    result = first._replace(problem=_explained(ops, op, first.problem))
    if not first.problem and cases > half:
        second = _drawn(op, cases - half, first_seed, rest)
        result = second._replace(cases=first.cases + second.cases)
    place = result.place or ops.location(op)
    return result._replace(notes=tuple(ops.notes[op]), place=place if result.problem else "")


def _explained(ops: UserOps, op: str, problem: str) -> str:
    """Return a wrong gradient's report at sizes that differ, if it is wrong there too.

    The smallest case is easily worked out by hand, but where H * W is 2 a forgotten H * W looks
    like any other factor of 2.
    """
    if not problem.startswith("gradients: "):
        return problem
    for case in CASES[op].values():
        try:
            case, inputs, keywords, rng = _suited(ops, case, 0, set(), np.float64, False)
            values.gradients_are_right(ops, case, inputs, keywords, rng)
        except Broken as broken:
            return str(broken)
        except (OpsError, ValueError):
            continue
    return problem


def _drawn(op: str, cases: int, first_seed: int, check: CheckCase) -> OpResult:
    """Run a check on drawn cases and return the smallest that it fails on."""
    tried = SimpleNamespace(count=0, last="", error=None)

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
        tried.last = f"{in_words(case, dtype, bare)}, {layout}, seed {number}"
        try:
            check(case, number, bare, dtype, layout)
        except (Broken, OpsError) as error:
            tried.error = error
            raise

    try:
        one()
    except Broken as broken:
        return OpResult(op, tried.count, str(broken), tried.last)
    except OpsError as error:
        place = str(error).partition(": ")[0]
        return OpResult(op, tried.count, str(error), tried.last, place=place)
    except Unsatisfiable:
        text = "cannot be checked: no drawn case has the settings that forward takes"
        return OpResult(op, tried.count, text, "")
    except Flaky:
        text = f"gives other results in a second run; once: {tried.error}"
        return OpResult(op, tried.count, text, tried.last)
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
    integers = number % 2 == 0 and not SPECS[case.op].rounds_integers
    inputs, keywords = draw(case, rng, dtype, integers=integers, without=bare)
    expected = run_case(reference, case, inputs, keywords, rng, integers=integers)
    run = _laid_out(ops, expected, rng, layout)
    for rule in FORM:
        rule(run)
    rules.out_has_the_shape(run, expected)
    if values.same_sides(run, expected):
        values.results_are_equal(run, expected, exact=integers)
        values.plus_is_added(run, expected, rng, exact=integers)
    values.foreign_caches_are_taken(run, expected, exact=integers)
    values.dx_may_be_left_out(run)
    values.nan_comes_out(run, *_entry(inputs, rng), spread=SPECS[case.op].nan_spreads)
    rules.mistakes_are_refused(run)
    if dtype == np.float64 and not integers:
        values.gradients_are_right(ops, case, inputs, keywords, rng)


def check_user_case(
    ops: UserOps, case: Case, number: int, bare: set[str], dtype: Any, layout: str
) -> None:
    """Check in one case what makes a user's op wrong, and note what differs in form.

    Raises
    ------
    Broken
        Naming what is wrong.
    OpsError
        If the user's code raises, or returns what cannot be used.
    """
    integers = number % 2 == 0 and not SPECS[case.op].rounds_integers
    case, inputs, keywords, rng = _drawable(ops, case, number, bare, dtype, integers)
    expected = run_case(reference, case, inputs, keywords, rng, integers=integers)
    run = _laid_out(ops, expected, rng, layout)
    rules.inputs_are_not_written(run)
    if values.same_sides(run, expected):
        values.results_are_equal(run, expected, exact=integers)
        values.plus_is_added(run, expected, rng, exact=integers, same_bits=False)
    values.nan_comes_out(run, *_entry(inputs, rng), spread="anywhere")
    try:
        values.bits_are_the_same(run, cache=False)
    except Broken:
        ops.notes[case.op].setdefault("a second run gives other bits (rule 8)")
    else:
        values.dx_may_be_left_out(run)
    try:
        rules.float16_and_lists_are_refused(run)
    except Broken:
        ops.notes[case.op].setdefault("float16 and lists are not refused in words (rule 7)")


def _laid_out(ops: Any, expected: Run, rng: np.random.Generator, layout: str) -> Run:
    """Run a back end on the reference's arrays, laid out in memory in an odd way."""
    inputs = laid_out(layout, expected.inputs)
    return run_case(ops, expected.case, inputs, expected.keywords, rng, dout=expected.dout)


def _entry(inputs: list[Any], rng: np.random.Generator) -> tuple[int, int]:
    """Draw one of the inputs that are floats, and the flat index of an entry."""
    floats = [k for k, a in enumerate(inputs) if a is not None and a.dtype.kind == "f"]
    k = int(rng.choice(floats))
    return k, int(rng.integers(inputs[k].size))


def _drawable(ops: UserOps, *drawn: Any) -> Arrays:
    """Return what _suited does, or have Hypothesis draw another case."""
    try:
        return _suited(ops, *drawn)
    except ValueError:  # these settings do not go with these sizes
        reject()


def _suited(
    ops: UserOps, case: Case, number: int, bare: set[str], dtype: Any, integers: bool
) -> Arrays:
    """Return a case with settings that the user's forward takes, its arrays, and a stream.

    Raises
    ------
    ValueError
        If the reference refuses such a case.
    """
    fit, rng = ops.fits[case.op], np.random.default_rng(number)
    case = case._replace(settings=fit.supported_settings(case.settings))
    inputs, keywords = draw(
        case, rng, dtype, integers=integers, without=bare | {*fit.unsupported_arrays()}
    )
    getattr(reference, f"{case.op}_forward")(*inputs, **keywords)
    return case, inputs, keywords, rng

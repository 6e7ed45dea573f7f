"""Test a back end against the op contract and return the broken rules.

Every op runs on drawn cases (sizes, settings, dtype, memory layout) and is compared with the
reference; rules.py and values.py have one function per rule of the contract. Hypothesis shrinks a
case that breaks a rule, so the reported case is close to the smallest one.

A back end must satisfy every rule. For a user's file or module (minise.ops.backend.load_ops), wrong
results are errors and deviations in form are notes: see `check_user_op`.
"""

from collections.abc import Callable, Iterable
from functools import partial
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from hypothesis import HealthCheck, Phase, given, reject, seed, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky, Unsatisfiable

from minise.contract import rules, values
from minise.contract.case import OPS, Case, draw
from minise.contract.run import Broken, Run, describe_case, laid_out, run_case
from minise.contract.spec import CASES, SPECS, STRATEGIES
from minise.contract.strategies import SEEDS, without
from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import reference
from minise.ops.user.completed import UserOps
from minise.ops.user.errors import OpsError

RULES_OF_ONE_RUN: tuple[Callable[[Run], None], ...] = (  # without a run of the reference
    rules.gradients_match_the_inputs,
    rules.dtype_is_kept,
    rules.cache_has_the_reference_class,
    rules.cache_holds_the_arguments,
    rules.branches_equal_the_reference,
    rules.inputs_are_not_written,
    values.results_are_deterministic,
    rules.caches_are_not_written,
    rules.read_only_arrays_are_accepted,
    rules.out_is_a_new_array,
    rules.settings_may_be_numpy_scalars,
    rules.pairs_may_be_lists,
)

Arrays = tuple[Case, list[Any], dict[str, Any], np.random.Generator]
CheckCase = Callable[[Case, int, set[str], Any, str], None]


class OpResult(NamedTuple):
    """The result of checking one op."""

    op: str
    cases: int  # number of cases run
    problem: str  # "" if every rule holds
    smallest: str  # the smallest case with the problem
    notes: tuple[str, ...] = ()  # deviations in form of a user's op
    location: str = ""  # of the problem in a user's file, such as my_ops.py:12


def conform(
    ops: Any, names: Iterable[str] | None = None, *, cases: int = 100, first_seed: int = 0
) -> list[OpResult]:
    """Check a back end, op by op.

    Parameters
    ----------
    ops : module or object
        A back end with some or all functions of minise.ops.reference; or a user's ops, from
        load_ops, whose deviations in form become notes.
    names : iterable of str, optional
        Ops to check; by default all ops of the back end, or those that the user's file defines.
    cases : int
        Number of cases to draw per op.
    first_seed : int
        Seed for drawing the cases.

    Returns
    -------
    list of OpResult
        One per op. A missing function is reported as the problem of its op.
    """
    chosen = ops_of(ops) if names is None else names
    return [check_op(ops, op, cases, first_seed) for op in chosen]


def ops_of(ops: Any) -> list[str]:
    """Return the ops of a back end, or those of which a user's file defines a function."""
    if isinstance(ops, UserOps):
        return ops.ops
    return [op for op in OPS if hasattr(ops, f"{op}_forward") or hasattr(ops, f"{op}_backward")]


def check_op(ops: Any, op: str, cases: int, first_seed: int = 0) -> OpResult:
    """Check one op on drawn cases and return the result, with the smallest case that fails."""
    if isinstance(ops, UserOps):
        return check_user_op(ops, op, cases, first_seed)
    try:
        rules.names_and_signatures(ops, op)
    except Broken as broken:
        return OpResult(op, 0, str(broken), "")

    return _run_drawn_cases(op, cases, first_seed, partial(check_case, ops))


def check_user_op(ops: UserOps, op: str, cases: int, first_seed: int = 0) -> OpResult:
    """Check one op of a user's file and return the result; deviations in form become notes.

    The first half of the cases passes every array that forward takes, and checks that gradients are
    correct and that no input is written. The second half checks everything else, and also omits
    optional arrays.

    Errors: a wrong gradient, a value that differs from the reference, a write to an input, a lost
    NaN, a result of a different shape or lower precision, an exception. Everything else in the
    contract is a matter of form, where a deviation gives a note: signatures, the class of the
    cache, gradients that are not in a tuple, float64 results for float32 inputs, a second run that
    is not bit-identical, invalid arguments that raise nothing.
    """
    if op not in ops.ops:
        problem = f"{ops.file.name} defines neither {op}_forward nor {op}_backward"
        return OpResult(op, 0, problem, "", (), ops.file.name)

    def check_gradients(
        case: Case, case_seed: int, omitted: set[str], dtype: Any, layout: str
    ) -> None:
        case, inputs, keywords, rng = _adapt_or_reject(
            ops, case, case_seed, set(), np.float64, False
        )
        run = run_case(ops, case, inputs, keywords, rng)
        values.gradients_are_correct(ops, case, inputs, keywords, rng)
        rules.inputs_are_not_written(run)

    half = -(-cases // 2)
    first = _run_drawn_cases(op, half, first_seed, check_gradients)
    result = first._replace(problem=_report_at_distinct_sizes(ops, op, first.problem))
    if not first.problem and cases > half:
        second = _run_drawn_cases(op, cases - half, first_seed, partial(check_user_case, ops))
        result = second._replace(cases=first.cases + second.cases)
    location = result.location or ops.location(op)
    return result._replace(notes=tuple(ops.notes[op]), location=location if result.problem else "")


def _report_at_distinct_sizes(ops: UserOps, op: str, problem: str) -> str:
    """Return a wrong gradient's report for the first spec case that shows it, else the problem.

    The smallest case is easy to compute by hand, but if H * W is 2, a missing factor H * W looks
    like any other factor of 2.
    """
    if not problem.startswith("gradients: "):
        return problem
    for case in CASES[op].values():
        try:
            case, inputs, keywords, rng = _adapt(ops, case, 0, set(), np.float64, False)
            values.gradients_are_correct(ops, case, inputs, keywords, rng)
        except Broken as broken:
            return str(broken)
        except (OpsError, ValueError):
            continue
    return problem


def _run_drawn_cases(op: str, cases: int, first_seed: int, check: CheckCase) -> OpResult:
    """Run a check on drawn cases and return the result, with the smallest case that fails."""
    progress = SimpleNamespace(count=0, last_case="", error=None)

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
        case_seed=SEEDS,
        omitted=without(op),
        dtype=st.sampled_from([np.float64, np.float32]),
        layout=st.sampled_from(list(LAYOUTS)),
    )
    def check_drawn_case(
        case: Case, case_seed: int, omitted: set[str], dtype: Any, layout: str
    ) -> None:
        progress.count += 1
        description = describe_case(case, dtype, omitted)
        progress.last_case = f"{description}, {layout}, seed {case_seed}"
        try:
            check(case, case_seed, omitted, dtype, layout)
        except (Broken, OpsError) as error:
            progress.error = error
            raise

    result = partial(OpResult, op)
    try:
        check_drawn_case()
    except Broken as broken:
        return result(progress.count, str(broken), progress.last_case)
    except OpsError as error:
        location = str(error).partition(": ")[0]
        return result(progress.count, str(error), progress.last_case, location=location)
    except Unsatisfiable:
        text = "cannot be checked: forward accepts the settings of none of the drawn cases"
        return result(progress.count, text, "")
    except Flaky:
        text = f"gives different results in a second run; in the first run: {progress.error}"
        return result(progress.count, text, progress.last_case)
    except Exception as error:
        text = f"raises {type(error).__name__}: {error}"
        return result(progress.count, text, progress.last_case)
    return result(progress.count, "", "")


def check_case(
    ops: Any, case: Case, case_seed: int, omitted: set[str], dtype: Any, layout: str
) -> None:
    """Check every rule in one case, without the arrays in `omitted`, in one of LAYOUTS.

    Raises
    ------
    Broken
        If a rule is broken; the message names the rule.
    """
    rng = np.random.default_rng(case_seed)
    integers = case_seed % 2 == 0 and not SPECS[case.op].rounds_integers
    inputs, keywords = draw(case, rng, dtype, integers=integers, without=omitted, independent=True)
    expected = run_case(reference, case, inputs, keywords, rng, integers=integers)
    run = _run_in_layout(ops, expected, rng, layout)
    for rule in RULES_OF_ONE_RUN:
        rule(run)
    rules.out_has_the_shape(run, expected)
    if values.on_same_branches(run, expected):
        values.results_are_equal(run, expected, exact=integers)
        values.plus_is_added(run, expected, rng, exact=integers)
    values.caches_are_interchangeable(run, expected, exact=integers)
    values.dx_may_be_omitted(run)
    values.nan_propagates(run, *_draw_entry(inputs, rng), spread=SPECS[case.op].nan_spreads)
    rules.misuse_raises(run)
    if dtype == np.float64 and not integers:
        values.gradients_are_correct(ops, case, inputs, keywords, rng)


def check_user_case(
    ops: UserOps, case: Case, case_seed: int, omitted: set[str], dtype: Any, layout: str
) -> None:
    """Check the results of a user's op in one case, and add a note per deviation in form.

    Raises
    ------
    Broken
        If a result is wrong; the message names the rule.
    OpsError
        If the user's code raises, or returns a value of a wrong type.
    """
    integers = case_seed % 2 == 0 and not SPECS[case.op].rounds_integers
    case, inputs, keywords, rng = _adapt_or_reject(ops, case, case_seed, omitted, dtype, integers)
    expected = run_case(reference, case, inputs, keywords, rng, integers=integers)
    run = _run_in_layout(ops, expected, rng, layout)
    rules.inputs_are_not_written(run)
    if values.on_same_branches(run, expected):
        values.results_are_equal(run, expected, exact=integers)
        values.plus_is_added(run, expected, rng, exact=integers, same_bits=False)
    values.nan_propagates(run, *_draw_entry(inputs, rng), spread="anywhere")
    try:
        values.results_are_deterministic(run, cache=False)
    except Broken:
        ops.notes[case.op].setdefault("a second run is not bit-identical (rule 8)")
    else:
        values.dx_may_be_omitted(run)
    try:
        rules.float16_and_lists_raise(run)
    except Broken:
        note = "float16 and lists raise no error that names the op (rule 7)"
        ops.notes[case.op].setdefault(note)


def _run_in_layout(ops: Any, expected: Run, rng: np.random.Generator, layout: str) -> Run:
    """Run a back end on the arrays of the reference's run, in one of LAYOUTS."""
    inputs = laid_out(layout, expected.inputs)
    return run_case(ops, expected.case, inputs, expected.keywords, rng, dout=expected.dout)


def _draw_entry(inputs: list[Any], rng: np.random.Generator) -> tuple[int, int]:
    """Draw the index of a floating-point input, and the flat index of one of its entries."""
    floats = [k for k, a in enumerate(inputs) if a is not None and a.dtype.kind == "f"]
    k = int(rng.choice(floats))
    return k, int(rng.integers(inputs[k].size))


def _adapt_or_reject(ops: UserOps, *drawn: Any) -> Arrays:
    """Adapt a drawn case with _adapt, or let Hypothesis draw another case."""
    try:
        return _adapt(ops, *drawn)
    except ValueError:  # the adapted settings are invalid for these sizes
        reject()


def _adapt(
    ops: UserOps, case: Case, case_seed: int, omitted: set[str], dtype: Any, integers: bool
) -> Arrays:
    """Reduce a case to what the user's forward accepts; return it, its arrays and a generator.

    Raises
    ------
    ValueError
        If the reference rejects the adapted case.
    """
    fit, rng = ops.fits[case.op], np.random.default_rng(case_seed)
    case = case._replace(settings=fit.supported_settings(case.settings))
    without_arrays = omitted | {*fit.unsupported_arrays()}
    inputs, keywords = draw(
        case, rng, dtype, integers=integers, without=without_arrays, independent=True
    )
    getattr(reference, f"{case.op}_forward")(*inputs, **keywords)
    return case, inputs, keywords, rng

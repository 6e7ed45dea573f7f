"""The contract: its rules, as `minise check` holds a back end to them, on every op and back end.

Rule 3, and what else concerns minise's own files alone, stands in test_sources.py.
"""

import numpy as np

from minise.contract import rules, values
from minise.contract.run import laid_out, rerun, run_case
from minise.contract.spec import SPECS
from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import reference
from tests.ops.cases import CASES, OPS, STRATEGIES, draw, forward_of, optional
from tests.ops.loops import each, over_backends, over_cases, over_ops

over_dtypes = each("dtype", [np.float32, np.float64])


def run(ops, case, dtype=np.float64, *, bare=False, integers=False, layout=None):
    """Run a case on drawn arrays: without the optional ones if bare, laid out in memory or not."""
    without = optional(case.op) if bare else ()
    drawn = draw(case, np.random.default_rng(0), dtype, integers=integers, without=without)
    return run_case(ops, case, *drawn, np.random.default_rng(1), integers=integers)


def test_every_op_has_cases_and_a_strategy():
    assert sorted(CASES) == OPS
    assert sorted(STRATEGIES) == OPS


@over_backends
@over_cases
@over_dtypes
@each("bare", [False, True])
def test_rules_1_and_5_gradients_and_dtypes(ops, case, dtype, bare):
    came = run(ops, case, dtype, bare=bare)
    assert came.out.dtype == dtype
    rules.gradients_match_the_inputs(came)
    rules.dtype_is_kept(came)
    rules.out_has_the_shape(came, run(reference, case, dtype, bare=bare))


@over_backends
@over_cases
@each("bare", [False, True])
def test_rule_2_caches(ops, case, bare):
    came = run(ops, case, bare=bare)
    rules.cache_has_the_reference_class(came)
    rules.cache_holds_the_arguments(came)
    values.caches_are_interchangeable(came, run(reference, case, bare=bare), exact=False)


@over_backends
@over_cases
def test_rule_4_memory(ops, case):
    came = run(ops, case)
    rules.inputs_are_not_written(came)
    rules.caches_are_not_written(came)
    rules.read_only_arrays_are_accepted(came)
    rules.out_is_a_new_array(came)


@over_cases
def test_rule_5_complex_numbers_for_complex_steps(case):
    """The reference alone takes them."""
    inputs, keywords = draw(case, np.random.default_rng(0))
    promoted = [a.astype(complex) if a.dtype.kind == "f" else a for a in inputs]
    forward = forward_of(reference, case.op, keywords)
    out, cache = forward(*promoted)
    assert out.dtype == complex
    for value, gradient in zip(
        promoted, getattr(reference, f"{case.op}_backward")(out, cache), strict=True
    ):
        assert gradient is None if value.dtype.kind != "c" else gradient.dtype == complex


@over_backends
@over_cases
@over_dtypes
def test_rule_5_settings(ops, case, dtype):
    came = run(ops, case, dtype)
    rules.settings_may_be_numpy_scalars(came)
    rules.pairs_may_be_lists(came)


@over_backends
@over_cases
@each("layout", LAYOUTS)
def test_rule_5_any_layout(ops, case, layout):
    """Small integers add up exactly in any order, so the numbers are equal, not only close.

    But for cases that are not exact: an exponential may round differently by its stride.
    """
    plain = run(ops, case, integers=True)
    arrays = [laid_out(layout, one) for one in (plain.inputs, plain.keywords, plain.dout)]
    inputs, keywords, dout = arrays
    came = rerun(plain, inputs=inputs, keywords=keywords, dout=dout)
    values.results_are_equal(came, plain, exact=case.exact, rule="rule 5, strides")


@over_backends
@over_ops
def test_rule_6_names_and_signatures(ops, op):
    rules.names_and_signatures(ops, op)


@over_backends
@over_cases
@over_dtypes
def test_rule_6_settings_of_backward(ops, case, dtype):
    came, expected = run(ops, case, dtype), run(reference, case, dtype)
    values.plus_is_added(came, expected, np.random.default_rng(2), exact=False)
    values.dx_may_be_omitted(came)


@over_backends
@over_cases
def test_rule_7_messages(ops, case):
    rules.misuse_raises(run(ops, case))


@over_backends
@over_cases
def test_rule_8_the_same_bits(ops, case):
    values.results_are_deterministic(run(ops, case, np.float32))


@over_backends
@over_cases
def test_rule_9_nan_in_nan_out(ops, case):
    """One NaN in each array in turn, where it matters most: at the largest gradient."""
    came = run(ops, case)
    for k, gradient in enumerate(came.gradients):
        if gradient is None or not gradient.any():
            continue  # of labels and masks, and of an array that does not reach out
        index = int(abs(gradient).argmax())
        values.nan_propagates(came, k, index, spread=SPECS[case.op].nan_spreads)


@over_backends
@over_cases
def test_rule_10_branches(ops, case):
    """And in minise's own back ends they are the reference's functions themselves."""
    came, name = run(ops, case), f"{case.op}_branches"
    rules.branches_equal_the_reference(came)
    if not hasattr(reference, name):
        return
    branches = getattr(ops, name)
    assert branches is getattr(reference, name)
    if came.inputs[0].ndim:  # mirrored: every maximum and most signs change
        moved = rerun(came, inputs=[0.5 - 3 * a for a in came.inputs])
        assert not np.array_equal(branches(came.cache), branches(moved.cache))

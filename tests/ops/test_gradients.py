"""Every gradient of every op, by complex steps and by finite differences."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minise.gradcheck import assert_gradients
from minise.ops import reference
from tests.ops.cases import (
    BACKENDS,
    SEEDS,
    STRATEGIES,
    direction,
    draw,
    few,
    functions,
    without,
)
from tests.ops.loops import over_backends, over_cases, over_ops

STEP = 2.0**-100  # imaginary step


@over_ops
@few
@given(data=st.data(), seed=SEEDS)
def test_by_complex_step(op, data, seed):
    case, bare = data.draw(STRATEGIES[op]), data.draw(without(op))
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng, without=bare)
    forward, backward, _ = functions(reference, op, keywords)
    # a drawn gate may be saturated: 1 - s * s then has no correct digit to check
    assert_gradients(forward, backward, inputs, rng, mode="complex_step", allow_unchecked=True)


@over_cases
def test_to_the_last_digits(case):
    """All inputs are perturbed at once; <dout, J u> equals the sum of <d_k, u_k> to 1e-12."""
    rng = np.random.default_rng(7)
    inputs, keywords = draw(case, rng)
    forward, backward, _ = functions(reference, case.op, keywords)
    is_float = [a.dtype.kind == "f" for a in inputs]
    us = [
        rng.standard_normal(a.shape) if f else None for a, f in zip(inputs, is_float, strict=True)
    ]
    steps = [a if u is None else a + 1j * STEP * u for a, u in zip(inputs, us, strict=True)]
    slope = forward(*steps)[0].imag / STEP
    out, cache = forward(*inputs)
    dout = direction(out, rng)
    gradients = backward(dout, cache)
    numeric = np.vdot(dout, slope)
    exact = sum(np.vdot(g, u) for g, u in zip(gradients, us, strict=True) if u is not None)
    assert numeric != 0
    assert abs(numeric - exact) <= 1e-12 * abs(numeric)


@pytest.mark.parametrize(
    "ops",
    [
        pytest.param(ops, marks=pytest.mark.long) if name == "cuda" else ops
        for name, ops in BACKENDS.items()
    ],
    ids=BACKENDS,
)
@over_cases
def test_by_differences(ops, case):
    rng = np.random.default_rng(3)
    inputs, keywords = draw(case, rng)
    forward, backward, branches = functions(ops, case.op, keywords)
    assert_gradients(forward, backward, inputs, rng, mode="directional", branches=branches)


@over_backends
@over_ops
@settings(few, max_examples=10)
@given(data=st.data(), seed=SEEDS)
def test_backward_is_linear_in_dout(ops, op, data, seed):
    """backward(-2 * dout) is exactly -2 * backward(dout)."""
    case = data.draw(STRATEGIES[op])
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng)
    forward, backward, _ = functions(ops, op, keywords)
    out, cache = forward(*inputs)
    dout = direction(out, rng)
    for once, twice in zip(backward(dout, cache), backward(-2 * dout, cache), strict=True):
        if once is not None:
            np.testing.assert_array_equal(twice, -2 * once)

"""Every line of a backward is checked against slopes of forward."""

import numpy as np
import pytest

from minise.ops import reference
from minise.tracing.instrument import Instrumented
from minise.tracing.slopes import check_lines
from tests.ops.cases import CASES, OPS, draw


def test_the_wrong_line_is_reported(student):
    forward, backward, path = student
    checks = check_lines(forward, backward, [np.array([3.0, 1.0])], file=path)
    results = [(check.line.name, check.agrees) for check in checks if check.line.name != "dz"]
    assert results == [("dy", False)]


@pytest.mark.parametrize(
    "case",
    [pytest.param(case, id=f"{op}-{name}") for op in OPS for name, case in CASES[op].items()],
)
def test_every_line_of_every_reference_backward(case):
    rng = np.random.default_rng(0)
    inputs, keywords = draw(case, rng)
    forward, backward = (getattr(reference, f"{case.op}_{way}") for way in ("forward", "backward"))
    for check in check_lines(forward, backward, inputs, rng, **keywords):
        assert check.agrees, check
    (out, _), _ = Instrumented(forward).trace(*inputs, **keywords)
    np.testing.assert_array_equal(out, forward(*inputs, **keywords)[0])


def test_all_lines_of_squeeze_excite_are_checked():
    inputs, _ = draw(CASES["squeeze_excite"]["avg, sigmoid"], np.random.default_rng(0))
    checks = check_lines(
        reference.squeeze_excite_forward, reference.squeeze_excite_backward, inputs
    )
    assert [check.of for check in checks] == ["s", "v", "h", "u", "z"]

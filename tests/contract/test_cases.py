"""The arrays of a case reveal swapped channels, axes and images."""

from itertools import combinations

import numpy as np
import pytest

from minise.contract.case import OPS, draw, line
from minise.contract.spec import CASES
from minise.ops import reference
from minise.ops.shapes import parse

NORMS = [op for op in OPS if "running_var" in line(op)]


@pytest.mark.parametrize("integers", [False, True])
@pytest.mark.parametrize("op", NORMS)
def test_channels_differ_in_their_statistics(op, integers):
    for case in CASES[op].values():
        if integers and not case.exact:
            continue
        inputs, keywords = draw(case, np.random.default_rng(0), integers=integers)
        _, cache = getattr(reference, f"{op}_forward")(*inputs, **keywords)
        assert len(np.unique(cache.rstd)) >= (2 if integers else len(cache.rstd))
        if integers:
            assert set(cache.rstd * 4) <= {1.0, 2.0}  # exactly, so that nothing is rounded


@pytest.mark.parametrize("op", OPS)
def test_no_two_axes_are_equal_in_all_cases(op):
    axes = [axis for argument in parse(line(op)) for axis, _ in argument.axes]
    named = sorted(set(axes) - {"...", "_"})
    for a, b in combinations(named, 2):
        assert any(case.sizes[a] != case.sizes[b] for case in CASES[op].values()), (a, b)

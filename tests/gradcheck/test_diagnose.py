"""What a wrong gradient is said to look like, for every mistake that is known by name."""

import numpy as np
import pytest

from minise.contract.spec import MISTAKES
from minise.gradcheck import check
from minise.ops import reference
from tests.ops.cases import draw, functions


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_every_mistake_is_named(mistake):
    rng = np.random.default_rng(2)
    inputs, keywords = draw(mistake.case, rng, integers=mistake.integers)
    forward, backward, _ = functions(reference, mistake.case.op, keywords)

    def wrong(dout, cache):
        return mistake.wrong(backward(dout, cache), dout, cache)

    report = check(forward, wrong, inputs, rng, mode="complex_step")
    kinds = {one.diagnosis.kind for one in report.failures if one.diagnosis}
    assert kinds
    for kind in kinds:  # "factor" stands for any of them, such as "factor 2"
        assert kind in mistake.kinds or kind.partition(" ")[0] in mistake.kinds, (
            f"diagnosed as {kind!r}, expected one of {sorted(mistake.kinds)}: if the diagnosis "
            f"helps, or none can, add {kind!r} to the kinds of the mistake in minise/contract/spec"
        )

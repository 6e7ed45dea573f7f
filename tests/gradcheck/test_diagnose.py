"""Every known mistake gets a diagnosis that leads to it."""

import numpy as np
import pytest

from minise.contract.spec import MISTAKES
from minise.gradcheck import check
from minise.ops import reference
from tests.ops.cases import draw, functions


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_every_mistake_is_diagnosed(mistake):
    rng = np.random.default_rng(2)
    inputs, keywords = draw(mistake.case, rng, integers=mistake.integers)
    forward, backward, _ = functions(reference, mistake.case.op, keywords)

    def wrong(dout, cache):
        return mistake.wrong(backward(dout, cache), dout, cache)

    report = check(forward, wrong, inputs, rng, mode="complex_step")
    kinds = {argument.diagnosis.kind for argument in report.failures if argument.diagnosis}
    assert kinds
    for kind in kinds:  # "factor" includes "factor 2" and the like
        assert kind in mistake.kinds or kind.partition(" ")[0] in mistake.kinds, (
            f"diagnosed as {kind!r}, expected one of {sorted(mistake.kinds)}: if the diagnosis "
            f"helps, or none can, add {kind!r} to the kinds of the mistake in minise/contract/spec"
        )

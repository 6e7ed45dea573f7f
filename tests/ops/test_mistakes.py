"""A gradient check that has never failed is no evidence: every known mistake must be caught."""

import numpy as np
import pytest

from minise.gradcheck import assert_gradients
from minise.ops import reference
from tests.ops.cases import OPS, draw, functions
from tests.ops.mistakes import MISTAKES


def pair(mistake, seed):
    """Return forward, the right and the wrong backward, inputs and rng."""
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(mistake.case, rng, integers=mistake.integers)
    forward, backward, _ = functions(reference, mistake.case.op, keywords)

    def wrong(dout, cache):
        return mistake.wrong(backward(dout, cache), dout, cache)

    return forward, backward, wrong, inputs, rng


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_is_caught(mistake, seed):
    forward, right, wrong, inputs, rng = pair(mistake, seed)
    assert_gradients(forward, right, inputs, rng, mode="complex_step")
    with pytest.raises(AssertionError, match="forward's slope is"):
        assert_gradients(forward, wrong, inputs, rng, mode="complex_step")


def test_every_op_has_mistakes():
    assert {mistake.case.op for mistake in MISTAKES.values()} == set(OPS)
    assert len(MISTAKES) >= 60

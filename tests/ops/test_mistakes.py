"""The gradient check catches every known mistake in a backward."""

from types import SimpleNamespace

import numpy as np
import pytest

from minise.contract.conform import check_op
from minise.contract.spec import MISTAKES
from minise.contract.spec.conv import PLUS, WITHOUT_DX
from minise.gradcheck import assert_gradients
from minise.ops import reference
from tests.ops.cases import OPS, draw, functions
from tests.ops.loops import each, over_ops, run_all


def pair(mistake, seed):
    """Return forward, the correct and the wrong backward, inputs and rng."""
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(mistake.case, rng, integers=mistake.integers)
    forward, backward, _ = functions(reference, mistake.case.op, keywords)

    def wrong(dout, cache):
        return mistake.wrong(backward(dout, cache), dout, cache)

    return forward, backward, wrong, inputs, rng


@over_ops
def test_is_caught(op):
    own = {name: mistake for name, mistake in MISTAKES.items() if mistake.case.op == op}
    assert own
    run_all(is_caught, {}, {name: dict(mistake=mistake) for name, mistake in own.items()})


@each("seed", [0, 1])
def is_caught(mistake, seed):
    forward, correct, wrong, inputs, rng = pair(mistake, seed)
    assert_gradients(forward, correct, inputs, rng, mode="complex_step")
    with pytest.raises(AssertionError, match="directional derivative is .* from backward"):
        assert_gradients(forward, wrong, inputs, rng, mode="complex_step")


@pytest.mark.parametrize("wrong", PLUS.values(), ids=PLUS)
def test_a_mistake_with_plus_is_caught(wrong):
    def conv2d_backward(dout, cache, *, plus=None, needs_dx=True):
        gradients = reference.conv2d_backward(dout, cache, needs_dx=needs_dx)
        return gradients if plus is None else wrong(gradients, plus)

    ops = SimpleNamespace(conv2d_forward=reference.conv2d_forward, conv2d_backward=conv2d_backward)
    assert check_op(ops, "conv2d", 40).problem.startswith("rule 6, plus: ")


@pytest.mark.parametrize("wrong", WITHOUT_DX.values(), ids=WITHOUT_DX)
def test_a_mistake_without_dx_is_caught(wrong):
    def conv2d_backward(dout, cache, *, plus=None, needs_dx=True):
        gradients = reference.conv2d_backward(dout, cache, plus=plus)
        return gradients if needs_dx else wrong(gradients)

    ops = SimpleNamespace(conv2d_forward=reference.conv2d_forward, conv2d_backward=conv2d_backward)
    assert check_op(ops, "conv2d", 40).problem.startswith("rule 6, needs_dx: ")


def test_every_op_has_mistakes():
    assert {mistake.case.op for mistake in MISTAKES.values()} == set(OPS)
    assert len(MISTAKES) >= 60

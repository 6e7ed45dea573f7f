"""The linear layer: by hand, against loops, and its messages."""

import itertools

import numpy as np
import pytest
from hypothesis import given

from tests.ops.cases import BACKENDS, SEEDS, STRATEGIES, all_equal, direction, draw, few, without

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)


def loops(x, weight, bias, dout):
    """Return out, dx, dweight, dbias."""
    (N, inputs), outputs = x.shape, len(weight)
    out, dx, dweight = np.zeros((N, outputs), x.dtype), np.zeros_like(x), np.zeros_like(weight)
    for n, o, i in itertools.product(range(N), range(outputs), range(inputs)):
        out[n, o] += weight[o, i] * x[n, i]
        dx[n, i] += weight[o, i] * dout[n, o]
        dweight[o, i] += x[n, i] * dout[n, o]
    if bias is None:
        return out, dx, dweight, None
    return out + bias, dx, dweight, np.array([dout[:, o].sum() for o in range(outputs)])


@over_backends
def test_by_hand(ops):
    x = np.array([[1.0, 2.0, 3.0]])
    weight, bias = np.array([[1.0, 10.0, 100.0], [0.0, 0.0, 2.0]]), np.array([1000.0, -1.0])
    out, cache = ops.linear_forward(x, weight, bias)
    assert out.tolist() == [[1 * 1 + 2 * 10 + 3 * 100 + 1000, 3 * 2 - 1]]
    dx, dweight, dbias = ops.linear_backward(np.array([[1.0, -1.0]]), cache)
    assert dx.tolist() == [[1, 10, 100 - 2]]
    assert dweight.tolist() == [[1, 2, 3], [-1, -2, -3]]
    assert dbias.tolist() == [1, -1]


@over_backends
@few
@given(case=STRATEGIES["linear"], seed=SEEDS, bare=without("linear"))
def test_against_loops(ops, case, seed, bare):
    rng = np.random.default_rng(seed)
    inputs, _ = draw(case, rng, np.float32, integers=True, without=bare)
    out, cache = ops.linear_forward(*inputs)
    dout = direction(out, rng, integers=True)
    expected, *gradients = loops(*inputs, dout)
    np.testing.assert_array_equal(out, expected)
    all_equal(ops.linear_backward(dout, cache), gradients)


@over_backends
def test_messages(ops):
    x, weight, bias = np.ones((2, 3)), np.ones((4, 3)), np.ones(4)
    with pytest.raises(ValueError, match=r"^linear: weight has shape \(3, 4\), .* I = 3 as in x"):
        ops.linear_forward(x, weight.T)
    with pytest.raises(ValueError, match=r"^linear: x has shape \(2, 3, 1, 1\), .* 2 axes, not 4"):
        ops.linear_forward(x[:, :, None, None], weight)
    with pytest.raises(ValueError, match=r"^linear: bias has shape \(3,\), .* O = 4 as in weight"):
        ops.linear_forward(x, weight, bias[:3])
    with pytest.raises(TypeError, match="^linear: weight has dtype float32, expected float64"):
        ops.linear_forward(x, weight.astype(np.float32))
    with pytest.raises(ValueError, match=r"^linear: weight has shape \(0, 3\), .* at least 1"):
        ops.linear_forward(x, weight[:0])

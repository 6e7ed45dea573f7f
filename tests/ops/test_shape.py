"""Flatten: by hand, against loops, and its messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import jit
from minise.ops.jit.shape import TILE
from tests.ops.cases import BACKENDS, SEEDS, STRATEGIES, direction, draw, few
from tests.ops.loops import each

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)


@over_backends
def test_by_hand(ops):
    x = np.array([[[[1.0, 2.0], [3.0, 4.0]], [[5.0, 6.0], [7.0, 8.0]]]])
    out, cache = ops.flatten_forward(x)
    assert out.tolist() == [[1, 2, 3, 4, 5, 6, 7, 8]]
    (dx,) = ops.flatten_backward(10 * out, cache)
    assert dx.tolist() == [[[[10, 20], [30, 40]], [[50, 60], [70, 80]]]]


@over_backends
@few
@given(case=STRATEGIES["flatten"], seed=SEEDS, layout=st.sampled_from(list(LAYOUTS)))
def test_against_loops(ops, case, seed, layout):
    rng = np.random.default_rng(seed)
    (x,), _ = draw(case, rng, np.float32, integers=True)
    N, C, H, W = x.shape
    out, cache = ops.flatten_forward(LAYOUTS[layout](x))
    assert out.shape == (N, C * H * W)
    dout = direction(out, rng)
    (dx,) = ops.flatten_backward(LAYOUTS[layout](dout), cache)
    for n, c, i, j in np.ndindex(x.shape):
        column = c * H * W + i * W + j
        assert out[n, column] == x[n, c, i, j]
        assert dx[n, c, i, j] == dout[n, column]


@each("C", [1, TILE - 1, TILE, 2 * TILE + 3])
@each("size", [(1, 1), (3, 5), (4, 4), (7, 9)])
@each("dtype", [np.float32, np.float64])
def test_tiles_of_channels_last_memory(C, size, dtype):
    """Complete and partial tiles along both axes; every number is copied once."""
    H, W = size
    pixels = np.arange(2 * H * W * C).astype(dtype).reshape(2, H, W, C)
    x = pixels.transpose(0, 3, 1, 2)
    out, cache = jit.flatten_forward(x)
    assert out.flags.c_contiguous
    np.testing.assert_array_equal(out, x.reshape(2, -1), strict=True)
    (dx,) = jit.flatten_backward(out, cache)
    assert dx.transpose(0, 2, 3, 1).flags.c_contiguous
    np.testing.assert_array_equal(dx, x, strict=True)


@over_backends
def test_messages(ops):
    x = np.ones((2, 3, 4, 5))
    with pytest.raises(ValueError, match=r"^flatten: x has shape \(3, 4, 5\), .* 4 axes, not 3"):
        ops.flatten_forward(x[0])
    out, cache = ops.flatten_forward(x)
    message = r"^flatten: dout has shape \(2, 3, 4, 5\), expected \(2, 60\) as out: pass the gradi"
    with pytest.raises(ValueError, match=message):
        ops.flatten_backward(x, cache)
    with pytest.raises(TypeError, match="^flatten: dout has dtype float32, expected float64"):
        ops.flatten_backward(out.astype(np.float32), cache)

"""Squeeze-and-excitation: by hand, against loops, and its messages."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES
from tests.ops.cases import (
    BACKENDS,
    EPS,
    SEEDS,
    STRATEGIES,
    Case,
    all_close,
    all_equal,
    count_of,
    direction,
    draw,
    few,
    magnitudes,
    without,
)
from tests.ops.loops import each

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
SQUEEZE = pytest.mark.parametrize("squeeze", SQUEEZES)
GATE = pytest.mark.parametrize("gate", GATES)
BINARY = st.fixed_dictionaries({axis: st.sampled_from([1, 2, 4]) for axis in "NCHWR"})
SOME = dict(N=3, C=4, H=3, W=5, R=2)


def loops(x, w1, b1, w2, b2, dout, *, squeeze):
    """Return out, dx, dw1, db1, dw2, db2 with the gate max(v, 0), gate by gate."""
    (N, C, H, W), R = x.shape, len(w1)
    out, dx = np.zeros_like(x), np.zeros_like(x)
    dw1, db1, dw2, db2 = np.zeros_like(w1), np.zeros(R), np.zeros_like(w2), np.zeros(C)
    image = [(i, j) for i in range(H) for j in range(W)]
    regions = [[pixel] for pixel in image] if squeeze == "none" else [image]
    for n in range(N):
        for pixels in regions:  # pixels that share a gate
            best = [max(pixels, key=lambda ij, c=c: x[n, c][ij]) for c in range(C)]
            if squeeze == "max":
                z = [x[n, c][best[c]] for c in range(C)]
            else:
                z = [sum(x[n, c][ij] for ij in pixels) / len(pixels) for c in range(C)]
            u = [sum(w1[r, c] * z[c] for c in range(C)) for r in range(R)]
            h = [max(u[r] + (0 if b1 is None else b1[r]), 0) for r in range(R)]
            v = [sum(w2[c, r] * h[r] for r in range(R)) for c in range(C)]
            s = [max(v[c] + (0 if b2 is None else b2[c]), 0) for c in range(C)]
            dz = [0] * C
            dh = [0] * R
            for c in range(C):
                dv = sum(dout[n, c][ij] * x[n, c][ij] for ij in pixels) * (s[c] > 0)
                db2[c] += dv
                for r in range(R):
                    dw2[c, r] += dv * h[r]
                    dh[r] += dv * w2[c, r]
            for r in range(R):
                du = dh[r] * (h[r] > 0)
                db1[r] += du
                for c in range(C):
                    dw1[r, c] += du * z[c]
                    dz[c] += du * w1[r, c]
            for c in range(C):
                for ij in pixels:
                    out[n, c][ij] = x[n, c][ij] * s[c]
                    mean = dz[c] / len(pixels)
                    dx_gate = dz[c] * (ij == best[c]) if squeeze == "max" else mean
                    dx[n, c][ij] = dout[n, c][ij] * s[c] + dx_gate
    return out, dx, dw1, None if b1 is None else db1, dw2, None if b2 is None else db2


@over_backends
def test_by_hand(ops):
    x = np.array([[[[1.0, 3.0]], [[0.0, -2.0]]]])  # one image, channel means z = (2, -1)
    w1 = np.array([[1.0, 1.0]])  # h = max(2 - 1, 0) = 1
    w2 = np.array([[0.0], [np.log(3.0)]])  # s = (1/2, 3/4)
    out, cache = ops.squeeze_excite_forward(x, w1, None, w2, None)
    np.testing.assert_array_max_ulp(out, np.array([[[[0.5, 1.5]], [[0.0, -1.5]]]]), 2)
    dx, dw1, db1, dw2, db2 = ops.squeeze_excite_backward(np.ones_like(x), cache)
    dv1 = (1 + 3) * 1 / 4  # ds * s (1 - s)
    dv2 = (0 - 2) * 3 / 16
    dz = dv2 * np.log(3)  # equal for both channels: w1 is (1, 1), and dv1 is multiplied by 0 in w2
    np.testing.assert_array_max_ulp(dw1, np.array([[dz * 2, dz * -1]]), 8)
    np.testing.assert_array_max_ulp(dw2, np.array([[dv1], [dv2]]), 4)
    np.testing.assert_array_max_ulp(dx[0, :, 0, 0], np.array([1 / 2 + dz / 2, 3 / 4 + dz / 2]), 8)
    assert db1 is None
    assert db2 is None


@over_backends
@pytest.mark.parametrize(
    ("gate", "s", "slope"),
    [
        ("sigmoid", [0, 1 / 2, 1], [0, 1 / 4, 0]),
        ("tanh", [-1, 0, 1], [0, 1, 0]),
        ("relu", [0, 0, 1000], [0, 0, 1]),
        ("hard_sigmoid", [0, 1 / 2, 1], [0, 1 / 6, 0]),
    ],
)
def test_gates_by_hand(ops, gate, s, slope):
    x = np.ones((1, 3, 1, 1))
    v = np.array([-1000.0, 0.0, 1000.0])  # b2 alone: w2 is zero
    out, cache = ops.squeeze_excite_forward(
        x, np.zeros((1, 3)), None, np.zeros((3, 1)), v, gate=gate
    )
    np.testing.assert_array_equal(out.ravel(), s)
    np.testing.assert_array_equal(ops.squeeze_excite_backward(x, cache)[4], slope)


@over_backends
def test_sigmoid_of_means_is_the_default(ops):
    inputs, _ = draw(Case("squeeze_excite", SOME), np.random.default_rng(0))
    out, cache = ops.squeeze_excite_forward(*inputs)
    explicit, _ = ops.squeeze_excite_forward(*inputs, squeeze="avg", gate="sigmoid")
    np.testing.assert_array_equal(out, explicit)
    assert (cache.gates.squeeze, cache.gates.gate) == ("avg", "sigmoid")


@over_backends
@SQUEEZE
def test_shapes_in_the_cache(ops, squeeze):
    inputs, _ = draw(Case("squeeze_excite", SOME), np.random.default_rng(0))
    _, cache = ops.squeeze_excite_forward(*inputs, squeeze=squeeze)
    PQ = (3, 5) if squeeze == "none" else (1, 1)
    shapes = [a.shape for a in (cache.gates.z, cache.gates.h, cache.gates.s)]
    assert shapes == [(3, 4, *PQ), (3, 2, *PQ), (3, 4, *PQ)]
    assert (cache.argmax is None) == (squeeze != "max")
    if squeeze == "max":
        pixels = inputs[0].reshape(3, 4, -1)
        np.testing.assert_array_equal(cache.argmax[:, :, 0, 0], pixels.argmax(axis=2))


@over_backends
@SQUEEZE
@few
@given(sizes=BINARY, seed=SEEDS, bare=without("squeeze_excite"))
def test_against_loops(ops, squeeze, sizes, seed, bare):
    """Exact, because of small integers, powers of two and the ReLU gate."""
    rng = np.random.default_rng(seed)
    case = Case("squeeze_excite", sizes, dict(squeeze=squeeze, gate="relu"))
    inputs, keywords = draw(case, rng, integers=True, without=bare)
    out, cache = ops.squeeze_excite_forward(*inputs, **keywords)
    dout = direction(out, rng, integers=True)
    expected, *gradients = loops(*inputs, dout, squeeze=squeeze)
    np.testing.assert_array_equal(out, expected)
    all_equal(ops.squeeze_excite_backward(dout, cache), gradients)


@over_backends
@few
@given(
    case=STRATEGIES["squeeze_excite"].filter(lambda case: case.settings["squeeze"] != "none"),
    seed=SEEDS,
    bare=without("squeeze_excite"),
)
def test_equals_its_parts(ops, case, seed, bare):
    """A pool, two linear layers, a ReLU, the gate and a channel scale, forward and back."""
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng, without=bare)
    x, w1, b1, w2, b2 = inputs
    pool, gate = f"global_{case.settings['squeeze']}_pool2d", case.settings["gate"]
    z, pool_cache = getattr(ops, f"{pool}_forward")(x)
    u, u_cache = ops.linear_forward(z, w1, b1)
    h, h_cache = ops.relu_forward(u)
    v, v_cache = ops.linear_forward(h, w2, b2)
    s, s_cache = getattr(ops, f"{gate}_forward")(v)
    out, scale_cache = ops.channel_scale_forward(x, s)
    dout = direction(out, rng)
    dx_scale, ds = ops.channel_scale_backward(dout, scale_cache)
    (dv,) = getattr(ops, f"{gate}_backward")(ds, s_cache)
    dh, dw2, db2 = ops.linear_backward(dv, v_cache)
    (du,) = ops.relu_backward(dh, h_cache)
    dz, dw1, db1 = ops.linear_backward(du, u_cache)
    (dx_gate,) = getattr(ops, f"{pool}_backward")(dz, pool_cache)
    parts = [out, dx_scale + dx_gate, dw1, db1, dw2, db2]
    fused, cache = ops.squeeze_excite_forward(*inputs, **keywords)
    ours = [fused, *ops.squeeze_excite_backward(dout, cache)]
    terms = magnitudes("squeeze_excite", inputs, keywords, dout)
    all_close(ours, parts, terms, count_of(inputs, out))


@over_backends
@each("squeeze", SQUEEZES)
@each("gate", GATES)
@each("index", range(5))
def test_nan_in_nan_out(ops, squeeze, gate, index):
    inputs, _ = draw(Case("squeeze_excite", SOME), np.random.default_rng(0))
    inputs[2] += 9  # all hidden units are active
    inputs[index].flat[-1] = np.nan
    out, cache = ops.squeeze_excite_forward(*inputs, squeeze=squeeze, gate=gate)
    assert np.isnan(out).any()
    assert np.isnan(ops.squeeze_excite_backward(np.ones_like(out), cache)[0]).any()


@over_backends
def test_inactive_units_stop_a_nan(ops):
    """The gradient of a clipped gate or an inactive unit is 0, not NaN."""
    x = np.ones((1, 2, 1, 1))
    w1, w2 = np.ones((1, 2)), np.ones((2, 1))
    inactive = np.array([-9.0])
    _, cache = ops.squeeze_excite_forward(x, w1, inactive, w2, None)
    dout = np.full_like(x, np.nan)
    _, dw1, db1, _, _ = ops.squeeze_excite_backward(dout, cache)
    assert dw1.tolist() == [[0, 0]]
    assert db1.tolist() == [0]
    clipped = np.array([-9.0, -9.0])
    _, cache = ops.squeeze_excite_forward(x, w1, None, w2, clipped, gate="relu")
    _, _, _, dw2, db2 = ops.squeeze_excite_backward(dout, cache)
    assert (dw2.ravel().tolist(), db2.tolist()) == ([0, 0], [0, 0])


@over_backends
def test_a_nan_through_the_gate_reaches_only_the_maxima(ops):
    x = np.array([[[[1.0, 5.0, 2.0]], [[3.0, 2.0, 1.0]]]])
    _, cache = ops.squeeze_excite_forward(
        x, np.ones((1, 2)), None, np.ones((2, 1)), None, squeeze="max"
    )
    dout = np.zeros_like(x)
    dout[0, 0, 0, 2] = np.nan  # makes ds and every dz NaN
    dx, *_ = ops.squeeze_excite_backward(dout, cache)
    assert np.isnan(dx).tolist() == [[[[False, True, True]], [[True, False, False]]]]


@over_backends
def test_arrays_may_share_memory(ops):
    (x, w1, b1, _, b2), _ = draw(Case("squeeze_excite", SOME), np.random.default_rng(0))
    copies = x.copy(), w1, b1, w1.T.copy(order="K"), b2  # the same strides, hence the same bits
    out, cache = ops.squeeze_excite_forward(x, w1, b1, w1.T, b2)
    again, cache2 = ops.squeeze_excite_forward(*copies)
    np.testing.assert_array_equal(out, again)
    gradients = ops.squeeze_excite_backward(x, cache)
    expected = ops.squeeze_excite_backward(x, cache2)
    all_equal(gradients, expected)


@over_backends
def test_images_are_independent(ops):
    inputs, _ = draw(Case("squeeze_excite", SOME), np.random.default_rng(0), integers=True)
    x, *params = inputs
    out, _ = ops.squeeze_excite_forward(x, *params, squeeze="max")
    for n in range(3):
        alone, _ = ops.squeeze_excite_forward(x[n : n + 1], *params, squeeze="max")
        np.testing.assert_allclose(alone[0], out[n], rtol=8 * EPS)  # v is exact; exp is not


@over_backends
def test_branches_count_every_kink(ops):
    inputs, _ = draw(Case("squeeze_excite", SOME), np.random.default_rng(0))
    for squeeze, gates, hidden, maxima in (
        ("avg", 3 * 4, 3 * 2, 0),
        ("max", 3 * 4, 3 * 2, 3 * 4),
        ("none", 3 * 4 * 15, 3 * 2 * 15, 0),
    ):
        _, cache = ops.squeeze_excite_forward(*inputs, squeeze=squeeze, gate="relu")
        sides = ops.squeeze_excite_branches(cache)
        assert sides.shape == (hidden + gates + maxima,)
        assert sides[:hidden].tolist() == (cache.gates.h > 0).ravel().tolist()
        assert sides[hidden : hidden + gates].tolist() == (cache.gates.s > 0).ravel().tolist()
        if maxima:
            assert sides[-maxima:].tolist() == cache.argmax.ravel().tolist()


@over_backends
def test_messages(ops):
    (x, w1, b1, w2, b2), _ = draw(Case("squeeze_excite", SOME), np.random.default_rng(0))
    forward = ops.squeeze_excite_forward
    with pytest.raises(
        ValueError, match=r"^squeeze_excite: w1 has shape \(2, 3\), .* C = 4 as in x"
    ):
        forward(x, w1[:, :3], b1, w2, b2)
    with pytest.raises(ValueError, match=r"^squeeze_excite: w2 has shape \(2, 4\), .* C = 4 as in"):
        forward(x, w1, b1, w2.T, b2)
    with pytest.raises(
        ValueError, match=r"^squeeze_excite: b1 has shape \(4,\), .* R = 2 as in w1"
    ):
        forward(x, w1, b2, w2, b2)
    with pytest.raises(ValueError, match="^squeeze_excite: x has shape .* 4 axes, not 2: reshape"):
        forward(x[:, :, 0, 0], w1, b1, w2, b2)
    with pytest.raises(TypeError, match="^squeeze_excite: b2 has dtype float32, expected float64"):
        forward(x, w1, b1, w2, b2.astype(np.float32))
    with pytest.raises(TypeError, match="^squeeze_excite: w2 is a NoneType, expected an array"):
        forward(x, w1, b1, None, b2)
    with pytest.raises(
        ValueError, match="gate is 'sigmod', expected one of sigmoid, tanh, relu, h"
    ):
        forward(x, w1, b1, w2, b2, gate="sigmod")
    with pytest.raises(ValueError, match="squeeze is 'mean', expected one of avg, max, none"):
        forward(x, w1, b1, w2, b2, squeeze="mean")

"""Inference: by hand, against the ops that it replaces, and the properties of prepared steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import jit, reference
from minise.ops.jit import inference
from minise.ops.jit.convolution.algorithm import algorithm_of
from minise.ops.reference.conv import Conv2dCache
from minise.ops.reference.gates import GATES
from minise.ops.reference.squeezes import SQUEEZES
from tests.ops.cases import (
    BACKENDS,
    SEEDS,
    STRATEGIES,
    Case,
    count_of,
    draw,
    few,
    magnitudes,
    without,
)
from tests.ops.loops import each

over_backends = pytest.mark.parametrize("ops", BACKENDS.values(), ids=BACKENDS)
over_dtypes = pytest.mark.parametrize("dtype", [np.float32, np.float64])
ONE = np.array([1.0])


@pytest.fixture(autouse=True)
def no_warnings():
    """Unused rows of a tile are uninitialised, and NumPy would warn about their values."""
    with np.errstate(all="ignore"):
        yield


def normals(rng, dtype, *shape):
    return rng.standard_normal(shape).astype(dtype)


def integers(rng, dtype, *shape):
    return rng.integers(-3, 4, shape).astype(dtype)


def statistics(rng, dtype, C):
    """Return gamma (of both signs), beta, and the keyword arguments."""
    gamma, beta, mean = (normals(rng, dtype, C) for _ in range(3))
    var = (rng.random(C) + 0.5).astype(dtype)
    return gamma, beta, dict(running_mean=mean, running_var=var)


# By hand


@over_backends
def test_fold_by_hand(ops):
    weight, bias = np.array([[[[3.0, 5.0]]]]), 7 * ONE
    running = dict(running_mean=11 * ONE, running_var=3 * ONE, eps=1.0)  # a deviation of 2
    folded, shift = ops.fold_batch_norm2d(weight, bias, -8 * ONE, 13 * ONE, **running)
    assert folded.tolist() == [[[[-8 / 2 * 3, -8 / 2 * 5]]]]
    assert shift.tolist() == [-8 / 2 * (7 - 11) + 13]
    folded, shift = ops.fold_batch_norm2d(weight, None, -8 * ONE, 13 * ONE, **running)
    assert shift.tolist() == [-8 / 2 * (0 - 11) + 13]
    assert weight.tolist() == [[[[3.0, 5.0]]]]


@over_backends
def test_conv2d_by_hand(ops):
    x, weight, bias = np.array([[[[1.0, 2.0, 3.0]]]]), np.array([[[[10.0, 1.0]]]]), -20 * ONE
    y = [10 * 1 + 2 - 20, 10 * 2 + 3 - 20]  # -8 and 3
    prepared = ops.prepare_conv2d(weight, bias)
    assert ops.run_conv2d(prepared, x).tolist() == [[[y]]]
    shortcut = np.array([[[[5.0, -4.0]]]])
    assert ops.run_conv2d(prepared, x, shortcut).tolist() == [[[[y[0] + 5, y[1] - 4]]]]
    prepared = ops.prepare_conv2d(weight, bias, relu=True)
    assert ops.run_conv2d(prepared, x, shortcut + 4).tolist() == [[[[-8 + 9, 3]]]]
    dense = np.array([[2.0]]), np.array([13.0]), np.array([[1 / 4]]), None
    prepared = ops.prepare_conv2d(weight, bias, *dense, gate="relu", relu=True)
    gate = (2 * (-8 + 3) / 2 + 13) / 4  # 2
    assert ops.run_conv2d(prepared, x, shortcut + 4).tolist() == [[[[0, 3 * gate]]]]  # 0: -16 + 9


@over_backends
def test_batch_norm2d_by_hand(ops):
    running = dict(running_mean=7 * ONE, running_var=3 * ONE, eps=1.0)
    x = np.array([[[[5.0, 11.0]]]])
    prepared = ops.prepare_batch_norm2d(10 * ONE, 2 * ONE, **running)
    assert ops.run_batch_norm2d(prepared, x).tolist() == [[[[2 - 10, 2 + 20]]]]
    prepared = ops.prepare_batch_norm2d(10 * ONE, 2 * ONE, **running, relu=True)
    assert ops.run_batch_norm2d(prepared, x).tolist() == [[[[0, 22]]]]


# The ops that a step replaces, on the same back end


def composed(ops, arrays, settings, shortcut, relu):
    """Return relu(conv2d(x) + shortcut), from a sequence of ops."""
    y, _ = ops.conv2d_forward(*arrays, **settings)
    y = y if shortcut is None else ops.add_forward(y, shortcut)[0]
    return ops.relu_forward(y)[0] if relu else y


@st.composite
def wide_cases(draw):
    """Return cases of conv2d with whole vectors of channels, for the other algorithms."""
    N, H, W, size, pad = (
        draw(st.integers(*ends)) for ends in ((1, 5), (3, 9), (3, 9), (0, 1), (0, 1))
    )
    C, K = draw(st.sampled_from([16, 48])), draw(st.sampled_from([16, 32]))
    depthwise = draw(st.booleans())
    sizes = dict(N=N, H=H, W=W, C=C, K=C if depthwise else K, KH=1 + 2 * size, KW=1 + 2 * size)
    return Case("conv2d", sizes, dict(padding=(pad, pad), groups=C if depthwise else 1))


@over_backends
@few
@given(
    case=STRATEGIES["conv2d"] | wide_cases(),
    seed=SEEDS,
    bare=without("conv2d"),
    dtype=st.sampled_from([np.float32, np.float64]),
    added=st.booleans(),
    relu=st.booleans(),
)
def test_conv2d_equals_its_parts(ops, case, seed, bare, dtype, added, relu):
    """Bit for bit: the same sums, in the same order."""
    rng = np.random.default_rng(seed)
    arrays, settings = draw(case, rng, dtype, without=bare)
    x, weight, bias = arrays
    N, K, OH, OW = reference.conv2d_forward(*arrays, **settings)[0].shape
    shortcut = normals(rng, dtype, N, K, OH, OW) if added else None
    prepared = ops.prepare_conv2d(weight, bias, **settings, relu=relu)
    out = ops.run_conv2d(prepared, x, shortcut)
    expected = composed(ops, arrays, settings, shortcut, relu)
    np.testing.assert_array_equal(out, expected, strict=True)


@pytest.mark.parametrize(
    ("algorithm", "kernel", "groups"),
    [("winograd", 3, 1), ("depthwise", 3, 32), ("direct", 1, 1), ("direct", 5, 1)],
)
def test_every_algorithm_is_tested(algorithm, kernel, groups):
    """The cases above select every algorithm."""
    weight = np.ones((32, 32 // groups, kernel, kernel), np.float32)
    settings = (1, 1), (kernel // 2, kernel // 2), (1, 1), groups
    cache = Conv2dCache(np.ones((1, 32, 9, 8), np.float32), weight, None, *settings)
    assert algorithm_of(cache) == algorithm


def gates(rng, dtype, K, R=3):
    shapes = (R, K), (R,), (K, R), (K,)
    return [normals(rng, dtype, *shape) for shape in shapes]


@over_backends
@few
@given(
    sizes=st.tuples(*(st.integers(1, 5) for _ in range(3))),
    K=st.sampled_from([1, 5, 16, 19, 32]),
    seed=SEEDS,
    squeeze=st.sampled_from(list(SQUEEZES)),
    gate=st.sampled_from(GATES),
    bias=st.booleans(),
    added=st.booleans(),
    relu=st.booleans(),
    dtype=st.sampled_from([np.float32, np.float64]),
)
def test_conv2d_with_gates_equals_its_parts(
    ops, sizes, K, seed, squeeze, gate, bias, added, relu, dtype
):
    """Up to the rounding of the SE block's sums; its input has the same bits."""
    rng = np.random.default_rng(seed)
    N, H, W = sizes
    x, weight = normals(rng, dtype, N, 2, H, W), normals(rng, dtype, K, 2, 1, 1)
    w1, b1, w2, b2 = gates(rng, dtype, K)
    dense = (w1, b1, w2, b2) if bias else (w1, None, w2, None)
    shortcut = normals(rng, dtype, N, K, H, W) if added else np.zeros((N, K, H, W), dtype)
    kinds = dict(squeeze=squeeze, gate=gate)
    prepared = ops.prepare_conv2d(weight, None, *dense, **kinds, relu=relu)
    out = ops.run_conv2d(prepared, x, shortcut if added else None)
    y, _ = ops.conv2d_forward(x, weight)
    gated, _ = ops.squeeze_excite_forward(y, *dense, **kinds)
    expected = gated + shortcut
    expected = np.where(expected <= 0, 0, expected) if relu else expected
    terms = magnitudes("squeeze_excite", [y, *dense], kinds, gated)[0] + abs(shortcut)
    bound = 2 * count_of([y, *dense, shortcut], y) * np.finfo(dtype).eps * terms
    assert out.dtype == dtype
    assert (abs(out - expected) <= bound).all()


@over_backends
@each("dtype", [np.float32, np.float64])
@each("C", [3, 16, 35])
@each("size", [(8, 8), (64, 32)])
def test_gates_on_integers(ops, dtype, C, size):
    """Means over powers of two, and ReLU gates, are exact: results are bit-identical."""
    rng = np.random.default_rng(0)
    x, weight = integers(rng, dtype, 2, 3, *size), integers(rng, dtype, C, 3, 1, 1)
    shortcut = integers(rng, dtype, 2, C, *size)
    w1, b1, w2, _ = (np.sign(a) * (rng.random(a.shape) < 0.3) for a in gates(rng, dtype, C))
    dense = [a.astype(dtype) for a in (w1, b1, w2, np.ones(C))]
    prepared = ops.prepare_conv2d(weight, None, *dense, gate="relu", relu=True)
    y, _ = reference.conv2d_forward(x, weight)
    gated, cache = reference.squeeze_excite_forward(y, *dense, gate="relu")
    assert cache.gates.s.any()
    expected = np.maximum(gated + shortcut, 0)
    np.testing.assert_array_equal(ops.run_conv2d(prepared, x, shortcut), expected, strict=True)


@over_backends
@each("dtype", [np.float32, np.float64])
@each("C", [1, 16, 19])
@each("relu", [False, True])
def test_batch_norm2d_equals_its_parts(ops, dtype, C, relu):
    rng = np.random.default_rng(0)
    gamma, beta, running = statistics(rng, dtype, C)
    for shape in ((3, C, 5, 4), (1, C, 1, 1), (1, C, 32, 48)):
        x = normals(rng, dtype, *shape)
        prepared = ops.prepare_batch_norm2d(gamma, beta, **running, eps=1e-3, relu=relu)
        out = ops.run_batch_norm2d(prepared, x)
        y, _ = ops.batch_norm2d_forward(x, gamma, beta, **running, training=False, eps=1e-3)
        expected = ops.relu_forward(y)[0] if relu else y
        np.testing.assert_array_equal(out, expected, strict=True)


@over_backends
@few
@given(case=STRATEGIES["conv2d"], seed=SEEDS, bare=without("conv2d"))
def test_a_folded_normalisation(ops, case, seed, bare):
    """Each side rounds each term at most eight times more than its sum has terms."""
    rng = np.random.default_rng(seed)
    arrays, settings = draw(case, rng, without=bare)
    x, weight, bias = arrays
    gamma, beta, running = statistics(rng, np.float64, len(weight))
    y, _ = ops.conv2d_forward(*arrays, **settings)
    expected, _ = ops.batch_norm2d_forward(y, gamma, beta, **running, training=False)
    folded = ops.fold_batch_norm2d(weight, bias, gamma, beta, **running)
    out, _ = ops.conv2d_forward(x, *folded, **settings)
    scale = abs(gamma) / np.sqrt(running["running_var"])
    size = abs(running["running_mean"]) + (0 if bias is None else abs(bias))
    terms = abs(weight) * scale[:, None, None, None], scale * size + abs(beta)
    magnitude, _ = reference.conv2d_forward(abs(x), *terms, **settings)
    bound = 2 * (weight[0].size + 8) * np.finfo(float).eps * magnitude
    assert (abs(out - expected) <= bound).all()


# Prepared steps


def drawn(dtype=np.float64, K=16):
    """Return x, a shortcut and the arrays of prepare_conv2d with an SE block."""
    rng = np.random.default_rng(0)
    arrays = normals(rng, dtype, K, 16, 3, 3), normals(rng, dtype, K), *gates(rng, dtype, K)
    return normals(rng, dtype, 3, 16, 7, 6), normals(rng, dtype, 3, K, 7, 6), arrays


@over_backends
def test_prepared_steps_hold_copies(ops):
    x, shortcut, arrays = drawn()
    gamma, beta, running = statistics(np.random.default_rng(1), np.float64, 16)
    conv = ops.prepare_conv2d(*arrays, padding=(1, 1), relu=True)
    norm = ops.prepare_batch_norm2d(gamma, beta, **running)
    before = ops.run_conv2d(conv, x, shortcut), ops.run_batch_norm2d(norm, x)
    for array in (*arrays, gamma, beta, *running.values()):
        array[...] = np.nan
    after = ops.run_conv2d(conv, x, shortcut), ops.run_batch_norm2d(norm, x)
    for expected, out in zip(before, after, strict=True):
        np.testing.assert_array_equal(out, expected)


@over_dtypes
def test_an_image_has_the_same_bits_in_every_batch(dtype):
    """For the compiled ops; NumPy's matrix products may change their order with the size."""
    ops, (x, shortcut, arrays) = jit, drawn(dtype)
    for count in (2, 6):  # without and with an SE block
        prepared = ops.prepare_conv2d(*arrays[:count], padding=(1, 1), relu=True)
        out = ops.run_conv2d(prepared, x, shortcut)
        for n in range(len(x)):
            alone = ops.run_conv2d(prepared, x[n : n + 1], shortcut[n : n + 1])
            np.testing.assert_array_equal(alone[0], out[n])


@over_backends
def test_many_shapes_of_x(ops, monkeypatch):
    monkeypatch.setattr(inference, "MAX_CACHED_SHAPES", 3)
    weight = np.random.default_rng(0).standard_normal((16, 16, 3, 3)).astype(np.float32)
    prepared = ops.prepare_conv2d(weight, padding=(1, 1))
    for size in (5, 6, 7, 8, 9, 5, 6):
        x = np.random.default_rng(size).standard_normal((2, 16, size, 4)).astype(np.float32)
        expected, _ = ops.conv2d_forward(x, weight, padding=(1, 1))
        np.testing.assert_array_equal(ops.run_conv2d(prepared, x), expected)


@over_backends
def test_nothing_is_written_and_out_is_new(ops):
    x, shortcut, arrays = drawn()
    gamma, beta, running = statistics(np.random.default_rng(1), np.float64, 16)
    inputs = [x, shortcut, *arrays, gamma, beta, *running.values()]
    copies = [array.copy() for array in inputs]
    conv = ops.prepare_conv2d(*arrays, padding=(1, 1), relu=True)
    norm = ops.prepare_batch_norm2d(gamma, beta, **running)
    outs = [ops.run_conv2d(conv, x, shortcut) for _ in range(2)]
    outs += [ops.run_batch_norm2d(norm, x)]
    for array, copy in zip(inputs, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not any(np.shares_memory(out, array) for out in outs)
    assert not np.shares_memory(outs[0], outs[1])


@over_backends
@each("dtype", [np.float32, np.float64])
@each("layout", LAYOUTS)
def test_any_layout(ops, layout, dtype):
    lay_out = LAYOUTS[layout]
    x, shortcut, arrays = drawn(dtype)
    gamma, beta, running = statistics(np.random.default_rng(1), dtype, 16)
    expected = ops.run_conv2d(ops.prepare_conv2d(*arrays, padding=(1, 1)), x, shortcut)
    prepared = ops.prepare_conv2d(*map(lay_out, arrays), padding=(1, 1))
    out = ops.run_conv2d(prepared, lay_out(x), lay_out(shortcut))
    if ops is jit:  # its sums have a fixed order; the rounding of NumPy's depends on strides
        np.testing.assert_array_equal(out, expected)
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e3 * np.finfo(dtype).eps)
    expected = ops.run_batch_norm2d(ops.prepare_batch_norm2d(gamma, beta, **running), x)
    laid = {name: lay_out(array) for name, array in running.items()}
    prepared = ops.prepare_batch_norm2d(lay_out(gamma), lay_out(beta), **laid)
    np.testing.assert_array_equal(ops.run_batch_norm2d(prepared, lay_out(x)), expected)


@over_backends
def test_nan_in_nan_out(ops):
    x, shortcut, (weight, bias, *dense) = drawn()
    prepared = ops.prepare_conv2d(weight, bias, padding=(1, 1), relu=True)
    poisoned = shortcut.copy()
    poisoned[1, 2, 3, 4] = np.nan
    out = ops.run_conv2d(prepared, x, poisoned)
    assert np.argwhere(np.isnan(out)).tolist() == [[1, 2, 3, 4]]
    ill = x.copy()
    ill[1, 2, 3, 4] = np.nan
    for arrays in ([weight, bias], [weight, bias, *dense]):
        prepared = ops.prepare_conv2d(*arrays, padding=(1, 1), relu=True)
        out = ops.run_conv2d(prepared, ill, shortcut)
        assert np.isnan(out[1, :, 2:5, 3:6]).all()
        assert not np.isnan(out[[0, 2]]).any()
    gamma, beta, running = statistics(np.random.default_rng(1), np.float64, 16)
    prepared = ops.prepare_batch_norm2d(gamma, beta, **running, relu=True)
    assert np.argwhere(np.isnan(ops.run_batch_norm2d(prepared, ill))).tolist() == [[1, 2, 3, 4]]


def test_the_number_of_threads_changes_no_bit():
    x, shortcut, arrays = drawn(np.float32)
    outs = []
    for ops in (jit, jit.using(threads=1)):
        prepared = ops.prepare_conv2d(*arrays, padding=(1, 1), relu=True)
        outs.append(ops.run_conv2d(prepared, x, shortcut))
    np.testing.assert_array_equal(*outs)


# Messages


@over_backends
def test_messages_of_preparing(ops):
    _, _, (weight, bias, w1, b1, w2, b2) = drawn()
    prepare = ops.prepare_conv2d
    with pytest.raises(
        ValueError, match=r"^prepare_conv2d: bias has shape \(9,\), .* K = 16 as in"
    ):
        prepare(weight, bias[:9])
    with pytest.raises(
        ValueError, match="^prepare_conv2d: some of w1, b1, w2, b2 are None, expect"
    ):
        prepare(weight, bias, w1)
    with pytest.raises(
        ValueError, match="^prepare_conv2d: some of w1, b1, w2, b2 are None, expect"
    ):
        prepare(weight, bias, None, b1)
    with pytest.raises(
        ValueError, match=r"^prepare_conv2d: w2 has shape \(3, 16\), expected \(K, R"
    ):
        prepare(weight, bias, w1, b1, w2.T, b2)
    with pytest.raises(
        TypeError, match="^prepare_conv2d: bias has dtype float32, expected float64"
    ):
        prepare(weight, bias.astype(np.float32))
    for setting, message in (
        (dict(stride=2), "stride is 2, expected a pair"),
        (dict(groups=3), "groups is 3, expected a divisor of K = 16"),
        (dict(gate="sigmod"), "gate is 'sigmod', expected one of sigmoid"),
        (dict(squeeze="mean"), "squeeze is 'mean', expected one of avg"),
        (dict(relu=1), "relu is 1, expected True or False"),
    ):
        with pytest.raises((TypeError, ValueError), match=f"^prepare_conv2d: {message}"):
            prepare(weight, bias, **setting)
    running = dict(running_mean=bias, running_var=bias)
    with pytest.raises(
        ValueError, match="^prepare_batch_norm2d: eps is 0, expected a small number"
    ):
        ops.prepare_batch_norm2d(bias, bias, **running, eps=0)
    with pytest.raises(
        ValueError, match=r"^prepare_batch_norm2d: beta has shape \(2,\), .* C = 16"
    ):
        ops.prepare_batch_norm2d(bias, bias[:2], **running)
    with pytest.raises(ValueError, match=r"^fold_batch_norm2d: gamma has shape \(2,\), .* K = 16"):
        ops.fold_batch_norm2d(weight, None, bias[:2], bias, **running)
    with pytest.raises(ValueError, match="^fold_batch_norm2d: eps is -1, expected a small number"):
        ops.fold_batch_norm2d(weight, None, bias, bias, **running, eps=-1)


@over_backends
@pytest.mark.parametrize("seen", [False, True], ids=["first", "again"])
def test_messages_of_running(ops, seen):
    """Also for a shape of x that has been used before."""
    x, shortcut, (weight, bias, *_) = drawn()
    prepared = ops.prepare_conv2d(weight, bias, padding=(1, 1))
    if seen:
        ops.run_conv2d(prepared, x, shortcut)
    run = ops.run_conv2d
    with pytest.raises(
        TypeError, match="^run_conv2d: weight has dtype float64, expected float32 as"
    ):
        run(prepared, x.astype(np.float32))
    with pytest.raises(TypeError, match="^run_conv2d: x is a list, expected an array"):
        run(prepared, x.tolist())
    with pytest.raises(
        ValueError, match=r"^run_conv2d: x has shape \(0, 16, 7, 6\), .* at least 1"
    ):
        run(prepared, x[:0])
    with pytest.raises(ValueError, match=r"^run_conv2d: weight has shape .* C = 4 as in x"):
        run(prepared, x[:, :4])
    with pytest.raises(ValueError, match=r"^run_conv2d: shortcut has shape .* OW = 6 as in out"):
        run(prepared, x, shortcut[..., :2])
    with pytest.raises(
        TypeError, match="^run_conv2d: shortcut has dtype float32, expected float64"
    ):
        run(prepared, x, shortcut.astype(np.float32))
    with pytest.raises(TypeError, match="^run_conv2d: shortcut is a float, expected an array"):
        run(prepared, x, 1.0)
    unpadded = ops.prepare_conv2d(weight)
    with pytest.raises(
        ValueError, match="^run_conv2d: the kernel spans 3 rows, expected at most 2"
    ):
        run(unpadded, x[:, :, :2])
    norm = ops.prepare_batch_norm2d(bias, bias, running_mean=bias, running_var=abs(bias))
    with pytest.raises(ValueError, match=r"^run_batch_norm2d: gamma has shape .* C = 4 as in x"):
        ops.run_batch_norm2d(norm, x[:, :4])

"""Convolution: by hand, against loops, by its properties, and its messages."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minise.gradcheck.strategies.drawing import LAYOUTS
from minise.ops import jit, reference
from minise.ops.jit.convolution.rounding import gamma, rounding
from minise.ops.jit.vector.simd import AS_LOOPS, lanes_of
from tests.ops.cases import (
    BACKENDS,
    CASES,
    SEEDS,
    STRATEGIES,
    Case,
    all_equal,
    direction,
    draw,
    few,
    magnitudes,
    without,
)
from tests.ops.loops import each

# Sums of small integers are exact, but Winograd's transforms of them are not.
EXACT = {**BACKENDS, "jit": jit.using(algorithm="direct")}
over_backends = pytest.mark.parametrize("ops", EXACT.values(), ids=EXACT)
DTYPES = [np.float32, np.float64]
over_dtypes = pytest.mark.parametrize("dtype", DTYPES)
over_algorithms = pytest.mark.parametrize(  # in float64, Winograd's runs on request only
    ("algorithm", "dtype"),
    [
        pytest.param(name, dtype, marks=pytest.mark.slow if slow else ())
        for name, dtype in itertools.product(("direct", "winograd"), DTYPES)
        for slow in [(name, dtype) == ("winograd", np.float64)]
    ],
)


def loops(x, weight, bias, dout, *, stride, padding, dilation, groups):
    """Return out, dx, dweight, dbias, by seven loops over all products."""
    (N, _, H, W), (K, channels, KH, KW) = x.shape, weight.shape
    spans = dilation[0] * (KH - 1) + 1, dilation[1] * (KW - 1) + 1
    OH = (H + 2 * padding[0] - spans[0]) // stride[0] + 1
    OW = (W + 2 * padding[1] - spans[1]) // stride[1] + 1
    out = np.zeros((N, K, OH, OW), x.dtype)
    dx, dweight = np.zeros_like(x), np.zeros_like(weight)
    for n, k, p, q in itertools.product(*map(range, out.shape)):
        first = k // (K // groups) * channels  # the first channel of this filter's group
        for c, i, j in itertools.product(range(channels), range(KH), range(KW)):
            h = p * stride[0] + i * dilation[0] - padding[0]
            w = q * stride[1] + j * dilation[1] - padding[1]
            if 0 <= h < H and 0 <= w < W:
                out[n, k, p, q] += weight[k, c, i, j] * x[n, first + c, h, w]
                dx[n, first + c, h, w] += weight[k, c, i, j] * dout[n, k, p, q]
                dweight[k, c, i, j] += x[n, first + c, h, w] * dout[n, k, p, q]
    if bias is None:
        return out, dx, dweight, None
    for k in range(K):
        out[:, k] += bias[k]
    return out, dx, dweight, np.array([dout[:, k].sum() for k in range(K)])


@over_backends
def test_by_hand(ops):
    x = np.array([[[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]]])
    weight = np.array([[[[10.0, 1.0]]]])  # not its own mirror image
    bias = np.array([100.0])
    out, cache = ops.conv2d_forward(x, weight, bias)
    assert out.tolist() == [
        [[[10 * 1 + 2 + 100, 10 * 2 + 3 + 100], [10 * 4 + 5 + 100, 10 * 5 + 6 + 100]]]
    ]
    dout = np.array([[[[1.0, 2.0], [3.0, 4.0]]]])
    dx, dweight, dbias = ops.conv2d_backward(dout, cache)
    assert dx.tolist() == [[[[10 * 1, 1 * 1 + 10 * 2, 1 * 2], [10 * 3, 1 * 3 + 10 * 4, 1 * 4]]]]
    left, right = 1 * 1 + 2 * 2 + 3 * 4 + 4 * 5, 1 * 2 + 2 * 3 + 3 * 5 + 4 * 6
    assert dweight.tolist() == [[[[left, right]]]]
    assert dbias.tolist() == [1 + 2 + 3 + 4]


@over_backends
def test_padding_by_hand(ops):
    x, weight = np.array([[[[5.0]]]]), np.arange(9.0).reshape(1, 1, 3, 3)
    out, _ = ops.conv2d_forward(x, weight, padding=(1, 2))
    assert out.tolist() == [[[[5 * 5, 5 * 4, 5 * 3]]]]  # one row, the kernel slides over it


@over_backends
def test_the_kernel_is_not_flipped(ops):
    x = np.zeros((1, 1, 5, 6))
    x[0, 0, 2, 3] = 1
    weight = np.arange(6.0).reshape(1, 1, 2, 3)
    out, cache = ops.conv2d_forward(x, weight)
    assert out[0, 0, 1:3, 1:4].tolist() == weight[0, 0, ::-1, ::-1].tolist()  # of a correlation
    dx, _, _ = ops.conv2d_backward((out == 5) * 1.0, cache)
    assert dx[0, 0, 1:3, 1:4].tolist() == weight[0, 0].tolist()  # the last weight's window


@over_backends
def test_groups_are_independent_convolutions(ops):
    rng = np.random.default_rng(0)
    (x, weight, bias), _ = draw(CASES["conv2d"]["groups"], rng, integers=True)
    out, cache = ops.conv2d_forward(x, weight, bias, groups=2)
    dout = direction(out, rng, integers=True)
    dx, dweight, dbias = ops.conv2d_backward(dout, cache)
    for c, k in ((slice(0, 2), slice(0, 3)), (slice(2, 4), slice(3, 6))):
        part, part_cache = ops.conv2d_forward(x[:, c], weight[k], bias[k])
        np.testing.assert_array_equal(out[:, k], part)
        all_equal([dx[:, c], dweight[k], dbias[k]], ops.conv2d_backward(dout[:, k], part_cache))


@over_backends
@few
@given(case=STRATEGIES["conv2d"], seed=SEEDS, bare=without("conv2d"))
def test_against_loops(ops, case, seed, bare):
    """Integers below 2**24 are exact also in float32."""
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng, np.float32, integers=True, without=bare)
    out, cache = ops.conv2d_forward(*inputs, **keywords)
    dout = direction(out, rng, integers=True)
    expected, *gradients = loops(*inputs, dout, **keywords)
    np.testing.assert_array_equal(out, expected)
    all_equal(ops.conv2d_backward(dout, cache), gradients)


@over_backends
@few
@given(case=STRATEGIES["conv2d"], seed=SEEDS)
def test_adjoint_on_integers(ops, case, seed):
    """<dout, conv(u)> == <dx, u>, without a rounding."""
    rng = np.random.default_rng(seed)
    (x, weight, _), keywords = draw(case, rng, integers=True)
    out, cache = ops.conv2d_forward(x, weight, **keywords)
    dout = direction(out, rng, integers=True)
    dx, dweight, _ = ops.conv2d_backward(dout, cache)
    assert (dout * out).sum() == (dx * x).sum() == (dweight * weight).sum()


@over_backends
def test_pixels_outside_all_windows_get_no_gradient(ops):
    x, weight = np.ones((1, 2, 6, 9)), np.ones((3, 2, 3, 2))
    out, cache = ops.conv2d_forward(x, weight, stride=(2, 3))
    dx, _, _ = ops.conv2d_backward(np.ones_like(out), cache)
    assert out.shape == (1, 3, (6 - 3) // 2 + 1, (9 - 2) // 3 + 1)
    rows, columns = [1, 1, 2, 1, 1, 0], [1, 1, 0, 1, 1, 0, 1, 1, 0]  # number of windows
    np.testing.assert_array_equal(dx[0, 0], 3 * np.outer(rows, columns))
    assert not dx[..., 5, :].any()
    assert not dx[..., 2::3].any()


@over_backends
def test_one_by_one_is_linear(ops):
    rng = np.random.default_rng(0)
    x, weight = rng.integers(-3, 4, (2, 3, 4, 5)) * 1.0, rng.integers(-3, 4, (6, 3, 1, 1)) * 1.0
    out, _ = ops.conv2d_forward(x, weight)
    rows, _ = ops.linear_forward(x.transpose(0, 2, 3, 1).reshape(-1, 3), weight[:, :, 0, 0])
    np.testing.assert_array_equal(out.transpose(0, 2, 3, 1).reshape(-1, 6), rows)


@over_backends
def test_gradients_do_not_depend_on_old_memory(ops):
    """A buffer that is not zeroed would contain NaN."""
    rng = np.random.default_rng(0)
    inputs, keywords = draw(CASES["conv2d"]["stride above kernel"], rng, integers=True)
    out, cache = ops.conv2d_forward(*inputs, **keywords)
    dout = direction(out, rng, integers=True)
    first = [g.copy() for g in ops.conv2d_backward(dout, cache)]
    for _ in range(5):
        dirt = [np.full(a.shape, np.nan) for a in (*inputs, out)]
        del dirt
        all_equal(ops.conv2d_backward(dout, cache), first)


# plus and needs_dx


@over_backends
def test_plus_by_hand(ops):
    x, weight = np.array([[[[1.0, 2.0]]]]), np.array([[[[10.0]]]])
    _, cache = ops.conv2d_forward(x, weight)
    dout, plus = np.array([[[[3.0, 4.0]]]]), np.array([[[[100.0, -200.0]]]])
    dx, dweight, dbias = ops.conv2d_backward(dout, cache, plus=plus)
    assert dx.tolist() == [[[[3 * 10 + 100, 4 * 10 - 200]]]]
    assert dweight.tolist() == [[[[3 * 1 + 4 * 2]]]]
    assert dbias is None
    assert plus.tolist() == [[[[100, -200]]]]


@over_backends
@few
@given(
    case=STRATEGIES["conv2d"],
    seed=SEEDS,
    bare=without("conv2d"),
    layout=st.sampled_from(list(LAYOUTS)),
)
def test_plus_is_added_and_dx_may_be_left_out(ops, case, seed, bare, layout):
    """On integers, whose sums are exact in any order."""
    rng = np.random.default_rng(seed)
    arrays, keywords = draw(case, rng, np.float32, integers=True, without=bare)
    out, cache = ops.conv2d_forward(*arrays, **keywords)
    dout, plus = direction(out, rng, integers=True), direction(arrays[0], rng, integers=True)
    dx, *params = ops.conv2d_backward(dout, cache)
    laid = LAYOUTS[layout](plus)
    all_equal(ops.conv2d_backward(dout, cache, plus=laid), [dx + plus, *params])
    np.testing.assert_array_equal(laid, plus)
    all_equal(ops.conv2d_backward(dout, cache, needs_dx=False), [None, *params])
    ignored = ops.conv2d_backward(dout, cache, plus=plus, needs_dx=False)
    all_equal(ignored, [None, *params])


@over_backends
def test_messages_of_plus_and_needs_dx(ops):
    out, cache = ops.conv2d_forward(np.ones((2, 4, 6, 7)), np.ones((6, 4, 3, 2)))
    for plus, kind, message in (
        (1.0, TypeError, "plus is a float, expected an array: pass np.asarray"),
        (
            out,
            ValueError,
            r"plus has shape \(2, 6, 4, 6\), expected \(2, 4, 6, 7\) as x: pass the g",
        ),
        (np.ones((1, 4, 6, 7)), ValueError, r"plus has shape .* pass .* loss with respect to x"),
        (np.ones((2, 4, 6, 7), np.float32), TypeError, "plus has dtype float32, expected float64"),
    ):
        with pytest.raises(kind, match=f"^conv2d: {message}"):
            ops.conv2d_backward(out, cache, plus=plus)
    with pytest.raises(TypeError, match="^conv2d: needs_dx is 0, expected True or False"):
        ops.conv2d_backward(out, cache, needs_dx=0)


@over_backends
@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_any_layout(ops, layout):
    (x, weight, bias), keywords = draw(CASES["conv2d"]["all"], np.random.default_rng(0))
    out, _ = ops.conv2d_forward(x, weight, bias, **keywords)
    again, _ = ops.conv2d_forward(x, LAYOUTS[layout](weight), bias, **keywords)
    np.testing.assert_array_equal(again, out)


def direct_bounds(inputs, keywords, dout):
    """Return error bounds for out, dx, dweight and dbias as direct sums of products."""
    x, weight, _ = inputs
    out, *gradients = magnitudes("conv2d", inputs, keywords, dout)
    taps, filters = weight[0].size, weight[:, 0].size // keywords.get("groups", 1)
    counts = taps + 2, filters + 1, dout[:, 0].size + 2, dout[:, 0].size
    terms, eps = (out, *gradients), float(np.finfo(x.dtype).eps)
    return [
        None if term is None else gamma(count, eps) * term.astype(float)
        for count, term in zip(counts, terms, strict=True)
    ]


def forward_and_backward(ops, inputs, keywords, dout):
    """Return out with the gradients of inputs, and the cache."""
    out, cache = ops.conv2d_forward(*inputs, **keywords)
    return (out, *ops.conv2d_backward(dout, cache)), cache


def within(ours, theirs, bounds):
    """Assert that the differences of arrays are within bounds."""
    for a, b, bound in zip(ours, theirs, bounds, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (abs(a - b) <= bound).all()


@over_dtypes
@few
@given(case=STRATEGIES["conv2d"], seed=SEEDS, bare=without("conv2d"))
def test_direct_sums_within_their_bound(dtype, case, seed, bare):
    """On random floats; the reference's sums have the same length and the same bound."""
    rng = np.random.default_rng(seed)
    inputs, keywords = draw(case, rng, dtype, without=bare)
    dout = direction(jit.conv2d_forward(*inputs, **keywords)[0], rng)
    bounds = direct_bounds(inputs, keywords, dout)
    ours, _ = forward_and_backward(EXACT["jit"], inputs, keywords, dout)
    theirs, _ = forward_and_backward(reference, inputs, keywords, dout)
    within(ours, theirs, [None if bound is None else 2 * bound for bound in bounds])


@st.composite
def winograd_cases(draw):
    """Draw sizes and settings that Winograd's algorithm supports; C and K are in vectors."""
    vector, pad = st.integers(1, 1 if AS_LOOPS else 2), st.integers(0, 2)
    sizes = {name: draw(vector) for name in ("N", "C", "K")}
    padding = draw(pad), draw(pad)
    H, W = (draw(st.integers(max(1, 3 - 2 * pixels), 9)) for pixels in padding)
    return dict(sizes, H=H, W=W, KH=3, KW=3), dict(padding=padding, groups=draw(vector))


@over_algorithms
@pytest.mark.parametrize("integers", [True, False])
@settings(few, max_examples=3 if AS_LOOPS else few.max_examples)
@given(drawn=winograd_cases(), seed=SEEDS, bare=without("conv2d"))
def test_both_algorithms(algorithm, dtype, integers, drawn, seed, bare):
    """Within their bounds; on small integers, direct sums equal the reference's bit for bit."""
    sizes, keywords = drawn
    lanes, groups, rng = lanes_of(np.dtype(dtype)), keywords["groups"], np.random.default_rng(seed)
    sizes = sizes | {name: sizes[name] * lanes * groups for name in "CK"}
    case = Case("conv2d", sizes, keywords)
    inputs, _ = draw(case, rng, dtype, integers=integers, without=bare)
    ops = jit.using(algorithm=algorithm)
    dout = direction(ops.conv2d_forward(*inputs, **keywords)[0], rng, integers=integers)
    ours, cache = forward_and_backward(ops, inputs, keywords, dout)
    theirs, _ = forward_and_backward(reference, inputs, keywords, dout)
    if integers and algorithm == "direct":
        all_equal(ours, theirs)
        return
    bounds = direct = direct_bounds(inputs, keywords, dout)
    if algorithm == "winograd":
        bounds = [*rounding(dout, cache), direct[3]]
    within(
        ours, theirs, [None if a is None else a + b for a, b in zip(bounds, direct, strict=True)]
    )


@over_backends
@each(
    "setting, kind, message",
    [
        (dict(stride=2), TypeError, r"stride is 2, expected a pair \(rows, columns\): pass \(2, 2"),
        (dict(stride=(0, 1)), ValueError, r"stride \(rows\) is 0, expected at least 1"),
        (dict(padding=1), TypeError, r"padding is 1, expected a pair"),
        (dict(padding=(0, -1)), ValueError, r"padding \(columns\) is -1, expected at least 0"),
        (dict(dilation=3), TypeError, r"dilation is 3, expected a pair"),
        (dict(dilation=(1, 0)), ValueError, r"dilation \(columns\) is 0, expected at least 1"),
        (dict(groups=0), ValueError, "groups is 0, expected at least 1"),
        (dict(groups=2.0), TypeError, "groups is 2.0, expected an integer of at least 1"),
        (dict(groups=3), ValueError, "groups is 3, expected a divisor of C = 4"),
        (dict(groups=2), ValueError, r"weight has shape .* C = 4 as in x and groups = 2"),
        (dict(dilation=(3, 1)), ValueError, "kernel spans 7 rows, expected at most 6, the rows"),
        (dict(dilation=(1, 8)), ValueError, "kernel spans 9 columns, expected at most 7, the c"),
    ],
)
def test_settings_that_are_refused(ops, setting, kind, message):
    with pytest.raises(kind, match=f"^conv2d: .*{message}"):
        ops.conv2d_forward(np.ones((2, 4, 6, 7)), np.ones((6, 4, 3, 2)), **setting)


@over_backends
def test_arrays_that_are_refused(ops):
    x, weight, bias = np.ones((2, 4, 6, 7)), np.ones((6, 4, 3, 2)), np.ones(6)
    with pytest.raises(ValueError, match=r"^conv2d: x has shape \(4, 6, 7\), .* 4 axes, not 3"):
        ops.conv2d_forward(x[0], weight)
    with pytest.raises(ValueError, match=r"^conv2d: weight has shape .* C = 3 as in x"):
        ops.conv2d_forward(x[:, :3], weight)
    with pytest.raises(ValueError, match=r"^conv2d: bias has shape \(5,\), .* K = 6 as in weight"):
        ops.conv2d_forward(x, weight, bias[:5])
    with pytest.raises(ValueError, match=r"^conv2d: weight has shape .*every axis at least 1"):
        ops.conv2d_forward(x, weight[:, :, :0])
    with pytest.raises(ValueError, match="^conv2d: groups is 4, expected a divisor of K = 6"):
        ops.conv2d_forward(x, weight[:, :1], groups=4)
    with pytest.raises(ValueError, match="^conv2d: the kernel spans 3 rows, expected at most 2"):
        ops.conv2d_forward(x[:, :, :2], weight)

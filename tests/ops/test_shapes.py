"""The syntax of SHAPES, and the messages of its checks."""

import numpy as np
import pytest

from minise.ops import shapes
from minise.ops.shapes import check_arrays, check_gradient, parse

CONV = "x: N C H W, weight: K C/groups KH KW, bias?: K"
NORM = "x: N C H W, gamma: C; running_mean: C"
X, WEIGHT, BIAS = np.ones((2, 6, 5, 4)), np.ones((4, 3, 1, 1)), np.ones(4)


def test_sizes():
    sizes = check_arrays("conv2d", CONV, X, WEIGHT, BIAS, groups=2)
    assert sizes == dict(N=2, C=6, H=5, W=4, K=4, KH=1, KW=1)


def test_a_line_is_parsed_once():
    assert parse(CONV) is parse(CONV)


def test_parsing():
    x, weight, bias = parse(CONV)
    assert x == ("x", False, False, False, "float", tuple((a, "") for a in "NCHW"), "(N, C, H, W)")
    assert weight.axes[1] == ("C", "groups")
    assert (bias.name, bias.optional, bias.text) == ("bias", True, "(K,)")
    assert [argument.keyword for argument in parse(NORM)] == [False, False, True]
    (xs,) = parse("*xs: N _ H W")
    assert (xs.name, xs.many) == ("xs", True)
    logits, labels, mask = parse("logits: N K, labels: N int, mask: ... bool")
    assert [a.kind for a in (logits, labels, mask)] == ["float", "int", "bool"]
    assert mask.axes == (("...", ""),)


def test_none_only_where_optional():
    check_arrays("conv2d", CONV, X, WEIGHT, None, groups=2)
    with pytest.raises(TypeError, match="^conv2d: weight is a NoneType, expected an array"):
        check_arrays("conv2d", CONV, X, None, BIAS, groups=2)


@pytest.mark.parametrize("value", [[1.0], 1.0, "x"])
def test_no_array(value):
    kind = type(value).__name__
    message = f"^relu: x is a {kind}, expected an array: pass np.asarray\\(x\\)$"
    with pytest.raises(TypeError, match=message):
        check_arrays("relu", "x: ...", value)


def test_a_dtype_that_is_not_numpys():
    class Foreign:
        dtype = "float32"
        shape = (1,)

    with pytest.raises(TypeError, match="^relu: x is a Foreign, expected an array"):
        check_arrays("relu", "x: ...", Foreign())


def test_groups():
    with pytest.raises(
        ValueError,
        match=r"^conv2d: weight has shape \(4, 3, 1, 1\), expected \(K, C/groups, KH, KW\) with "
        r"C = 6 as in x and groups = 3: change one of them$",
    ):
        check_arrays("conv2d", CONV, X, WEIGHT, BIAS, groups=3)
    with pytest.raises(
        ValueError, match="^conv2d: groups is 4, expected a divisor of C = 6: use 3 or 6$"
    ):
        check_arrays("conv2d", CONV, X, WEIGHT, BIAS, groups=4)


def test_sizes_that_disagree():
    with pytest.raises(
        ValueError,
        match=r"^conv2d: bias has shape \(3,\), expected \(K,\) with K = 4 as in weight: change",
    ):
        check_arrays("conv2d", CONV, X, WEIGHT, BIAS[:3], groups=2)


def test_rank():
    with pytest.raises(
        ValueError,
        match=r"^conv2d: x has shape \(6, 5, 4\), expected \(N, C, H, W\) with 4 axes, not 3: ",
    ):
        check_arrays("conv2d", CONV, X[0], WEIGHT, BIAS, groups=2)


@pytest.mark.parametrize("axis", range(4))
def test_empty_axes(axis):
    empty = X.take([], axis=axis)
    with pytest.raises(ValueError, match=r"^conv2d: x has shape .*\b0\b.* every axis at least 1"):
        check_arrays("conv2d", CONV, empty, WEIGHT, BIAS, groups=2)


def test_integers_and_booleans():
    line = "logits: N K, labels: N int, mask: N K bool"
    logits, labels, mask = np.ones((2, 3)), np.zeros(2, np.uint8), np.ones((2, 3), bool)
    check_arrays("op", line, logits, labels, mask)
    check_arrays("op", line, logits, labels.astype(np.int64), mask)
    for wrong in (float, bool):
        with pytest.raises(
            TypeError,
            match=f"^op: labels has dtype {np.dtype(wrong)}, expected int: pass labels.astype",
        ):
            check_arrays("op", line, logits, labels.astype(wrong), mask)
    with pytest.raises(TypeError, match="^op: mask has dtype uint8, expected bool: pass mask.ast"):
        check_arrays("op", line, logits, labels, mask.astype(np.uint8))


@pytest.mark.parametrize("dtype", [np.float16, np.int64, bool, np.complex64, ">f4"])
def test_refused_dtypes(dtype):
    with pytest.raises(TypeError, match="^relu: x has dtype .*, expected float32 or float64: pass"):
        check_arrays("relu", "x: ...", np.ones(3, dtype), complex_step=True)


def test_one_dtype_for_all():
    with pytest.raises(
        TypeError,
        match="^conv2d: bias has dtype float32, expected float64 as the arrays before it: pass "
        r"bias.astype\(np.float64\)$",
    ):
        check_arrays("conv2d", CONV, X, WEIGHT, BIAS.astype(np.float32), groups=2)


def test_complex_only_with_complex_step():
    promoted = [a.astype(complex) for a in (X, WEIGHT, BIAS)]
    check_arrays("conv2d", CONV, *promoted, groups=2, complex_step=True)
    with pytest.raises(TypeError, match="x has dtype complex128, expected float32 or float64"):
        check_arrays("conv2d", CONV, *promoted, groups=2)
    with pytest.raises(TypeError, match="weight has dtype float64, expected complex128"):
        check_arrays("conv2d", CONV, promoted[0], WEIGHT, BIAS, groups=2, complex_step=True)


def test_keyword_arrays_may_stay_real_in_a_complex_step():
    x, gamma, mean = X.astype(complex), np.ones(6, complex), np.ones(6)
    check_arrays("batch_norm2d", NORM, x, gamma, mean, complex_step=True)
    with pytest.raises(TypeError, match="running_mean has dtype float32, expected complex128"):
        check_arrays("batch_norm2d", NORM, x, gamma, mean.astype(np.float32), complex_step=True)
    with pytest.raises(TypeError, match="running_mean has dtype float64, expected float32"):
        check_arrays("batch_norm2d", NORM, *(a.astype(np.float32) for a in (X, mean)), mean)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3, 4, 5, 6)])
def test_dots_take_any_shape_but_one(shape):
    a = np.ones(shape)
    check_arrays("add", "a: ..., b: ...", a, a)
    for wrong in (np.ones((2, *shape)), np.ones((*shape, 1))):
        with pytest.raises(
            ValueError, match=r"^add: b has shape .*, expected \(\.\.\.,\) with the"
        ):
            check_arrays("add", "a: ..., b: ...", a, wrong)


def test_many():
    line = "*xs: N _ H W"
    sizes = check_arrays("concat", line, np.ones((2, 3, 4, 5)), np.ones((2, 1, 4, 5)))
    assert sizes == dict(N=2, H=4, W=5)
    with pytest.raises(
        ValueError, match="^concat: received no array, expected one or more: pass xs$"
    ):
        check_arrays("concat", line)
    with pytest.raises(
        ValueError, match=r"^concat: xs\[1\] has shape \(2, 1, 4, 6\), .* W = 5 as in xs\[0\]"
    ):
        check_arrays("concat", line, np.ones((2, 3, 4, 5)), np.ones((2, 1, 4, 6)))


def test_keyword_arrays():
    check_arrays("norm", NORM, X, np.ones(6), np.ones(6))
    with pytest.raises(ValueError, match=r"^norm: running_mean has shape \(5,\), .* C = 6 as in x"):
        check_arrays("norm", NORM, X, np.ones(6), np.ones(5))


def test_gradients():
    check_gradient("relu", X, X)
    check_gradient("relu", X, BIAS, X.shape)
    with pytest.raises(TypeError, match=r"^relu: dout is a list, expected an array: pass np.asarr"):
        check_gradient("relu", X.tolist(), X)
    with pytest.raises(
        ValueError,
        match=r"^relu: dout has shape \(6, 5, 4\), expected \(2, 6, 5, 4\) as out: pass the grad",
    ):
        check_gradient("relu", X[0], X)
    with pytest.raises(
        TypeError,
        match=r"^relu: dout has dtype float32, expected float64 as out: pass dout.astype\(np.floa",
    ):
        check_gradient("relu", X.astype(np.float32), X)


def test_windows():
    shapes.check_window("op", (3, 4), (1, 0), (5, 4))
    with pytest.raises(
        ValueError,
        match="^op: the kernel spans 6 rows, expected at most 5, the rows of the padded x: pad mor",
    ):
        shapes.check_window("op", (3, 4), (1, 0), (6, 4))
    with pytest.raises(ValueError, match="^op: the kernel spans 5 columns, expected at most 4"):
        shapes.check_window("op", (3, 4), (1, 0), (5, 5))


def test_labels():
    shapes.check_labels("op", np.array([0, 2]), 3)
    shapes.check_labels("op", np.array([0, 2], np.uint8), 3)
    with pytest.raises(
        ValueError, match=r"^op: labels\[1\] is 3, expected 0\.\.2 as logits has 3 columns: count"
    ):
        shapes.check_labels("op", np.array([0, 3, 4]), 3)
    with pytest.raises(ValueError, match=r"^op: labels\[2\] is -1, expected 0\.\.2"):
        shapes.check_labels("op", np.array([0, 1, -1]), 3)

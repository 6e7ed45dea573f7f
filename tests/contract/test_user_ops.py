"""The check of a user's file: wrong results are errors, deviations in form are notes."""

import re

import numpy as np
import pytest

from minise.contract.case import OPS
from minise.contract.conform import conform
from minise.ops.backend import load_ops
from minise.ops.user.errors import OpsError

CONV = """
import numpy as np
def conv2d_forward(x, weight, bias=None, stride=1, padding=0):
    N, C, H, W = x.shape
    K, _, KH, KW = weight.shape
    padded = np.pad(x, ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    OH, OW = (H + 2 * padding - KH) // stride + 1, (W + 2 * padding - KW) // stride + 1
    out = np.zeros((N, K, OH, OW))
    for i in range(OH):
        for j in range(OW):
            at = np.s_[:, :, i * stride : i * stride + KH, j * stride : j * stride + KW]
            out[:, :, i, j] = np.tensordot(padded[at], weight, axes=([1, 2, 3], [1, 2, 3]))
    if bias is not None:
        out += bias[:, None, None]
    return out, (x, padded, weight, bias, stride, padding)
def conv2d_backward(dout, cache):
    x, padded, weight, bias, stride, padding = cache
    KH, KW = weight.shape[2:]
    dpadded, dweight = np.zeros_like(padded), np.zeros_like(weight)
    for i in range(dout.shape[2]):
        for j in range(dout.shape[3]):
            at = np.s_[:, :, i * stride : i * stride + KH, j * stride : j * stride + KW]
            dweight += np.tensordot(dout[:, :, i, j], padded[at], axes=([0], [0]))
            dpadded[at] += np.tensordot(dout[:, :, i, j], weight, axes=([1], [0]))
    H, W = x.shape[2:]
    dx = dpadded[:, :, padding : padding + H, padding : padding + W]
    dbias = None if bias is None else dout.sum(axis=(0, 2, 3))
    return dx, dweight, dbias
"""
NO_BIAS = CONV
for old, new in {
    ", bias=None": "",
    "    if bias is not None:\n        out += bias[:, None, None]\n": "",
    "weight, bias, stride": "weight, stride",
    "    dbias = None if bias is None else dout.sum(axis=(0, 2, 3))\n": "",
    ", dbias": "",
}.items():
    assert old in NO_BIAS
    NO_BIAS = NO_BIAS.replace(old, new)
RELU = """
import numpy as np
def relu_forward(x):
    return np.maximum(x, 0), x
def relu_backward(dout, x):
    return dout * (x > 0)
"""
LOSS = """
import numpy as np
def softmax_cross_entropy_forward(logits, labels):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    return float(-np.log(p[np.arange(len(labels)), labels]).mean()), (p, labels)
def softmax_cross_entropy_backward(dout, cache):
    p, labels = cache
    d = p.copy()
    d[np.arange(len(labels)), labels] -= 1
    return dout * d / len(labels)
"""


def checked(tmp_path, text, cases=40):
    (tmp_path / "my_ops.py").write_text(text)
    (result,) = conform(load_ops(str(tmp_path / "my_ops.py")), cases=cases)
    return result


DROPOUT = """
def dropout_forward(x, mask, p):
    return x * mask / (1 - p), (mask, p)
def dropout_backward(dout, cache):
    mask, p = cache
    return dout * mask / (1 - p)
"""


SHAKE = """
def shake_forward(x1, x2, alpha, beta):
    a = alpha.reshape(-1, 1, 1, 1)
    return a * x1 + (1 - a) * x2, (alpha, beta)
def shake_backward(dout, cache):
    b = cache[1].reshape(-1, 1, 1, 1)
    return b * dout, (1 - b) * dout
"""


@pytest.mark.parametrize("text", [CONV, NO_BIAS, RELU, LOSS, DROPOUT, SHAKE])
def test_correct_ops_of_another_form_pass(text, tmp_path):
    result = checked(tmp_path, text)
    assert result.problem == ""
    assert result.cases >= 40
    assert result.notes


def test_a_shake_whose_backward_is_the_derivative_fails(tmp_path):
    """Every gradient check passes with beta = alpha; only the comparison tells the two apart."""
    wrong = SHAKE.replace("cache[1]", "cache[0]")
    assert "dx1 has an error of up to" in checked(tmp_path, wrong).problem


def test_an_array_that_forward_does_not_take_is_named(tmp_path):
    without = SHAKE.replace("alpha, beta):", "alpha):").replace("(alpha, beta)", "(alpha, alpha)")
    message = "shake_forward takes no beta, but is called with beta=an array of shape"
    assert message in checked(tmp_path, without).problem
    x, share = np.ones((2, 1, 1, 1)), np.ones(2)
    with pytest.raises(OpsError, match=message):
        load_ops(str(tmp_path / "my_ops.py")).shake_forward(x, x, alpha=share, beta=share)


def test_deviations_in_form_are_noted(tmp_path):
    notes = "\n".join(checked(tmp_path, CONV).notes)
    assert "conv2d_forward(x, weight, bias=None, stride=1, padding=0), the reference's is" in notes
    assert "without dilation, groups: checked only where that makes no difference" in notes
    assert "one integer each for stride, padding: checked only where both are equal" in notes
    assert "the cache is a tuple, the reference's is Conv2dCache" in notes
    assert "returns as out float64 for float32 inputs" in notes
    assert "float16 and lists raise no error that names the op (rule 7)" in notes


@pytest.mark.parametrize(
    ("old", "new", "problem", "line"),
    [
        ("dx = dpadded", "dx = 2 * dpadded", r"gradients: .*\(x\)(.|\n)*by a factor of 2:", 16),
        ("sum(axis=(0, 2, 3))", "mean(axis=(0, 2, 3))", r"gradients: .*\(bias\)", 16),
        ("padded[at], axes=([0]", "dpadded[at], axes=([0]", r"gradients: .*\(weight\)", 16),
        ("out += bias", "out -= bias", r"gradients: .*\(bias\)(.|\n)*sign", 16),
        ("padded = np", "x *= 2; padded = np", "gradients: forward changes its input x in pl", 16),
        ("return out, (x", "return out[0], (x", "my_ops.py:3: conv2d_forward returns as out an", 3),
        ("OH, OW = (H", "OH, OW = (W", r"my_ops.py:12: ValueError: .* \(in conv2d_forward\)", 12),
    ],
)
def test_wrong_ops_fail_and_gradients_come_first(old, new, problem, line, tmp_path):
    assert old in CONV
    result = checked(tmp_path, CONV.replace(old, new))
    assert re.match(problem, result.problem), result.problem
    assert result.location == f"my_ops.py:{line}"


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            "np.maximum(x, 0)",
            "np.where(x > 0, x, 0)",
            "rule 9, NaN in, NaN out: a NaN in x does not propagate",
        ),
        ("np.maximum(x, 0)", "np.maximum(x, 0) + 1", "equal .*: out has an error of up to 1.00e"),
        ("np.maximum(x, 0)", "np.float32(np.maximum(x, 0))", "my_ops.py:3: .* precision is lost"),
        (
            "(x > 0)",
            "(x > 0) * np.random.rand()",
            "gradients|gives different results in a second run",
        ),
    ],
)
def test_wrong_results_are_reported(old, new, problem, tmp_path):
    result = checked(tmp_path, RELU.replace(old, new))
    assert re.match(problem, result.problem), result.problem


def test_a_forward_that_writes_its_input_is_wrong_in_few_cases(tmp_path):
    text = RELU.replace("return np.maximum(x, 0), x", "x[x < 0] = 0; return x, x")
    assert checked(tmp_path, text, cases=6).problem == "rule 4, pure: x was written"


def test_ops_that_the_file_defines_or_imports_are_checked(tmp_path):
    (tmp_path / "my_ops.py").write_text("from minise.ops.reference import *\n")
    ops = load_ops(str(tmp_path / "my_ops.py"))
    assert ops.ops == OPS
    for result in conform(ops, cases=6):
        assert result.problem == ""
        assert result.notes == ()
    (tmp_path / "my_ops.py").write_text("from minise.ops.reference import tanh_forward\n")
    ops = load_ops(str(tmp_path / "my_ops.py"))
    (result,) = conform(ops, cases=6)
    assert (result.op, result.problem) == ("tanh", "")
    assert "tanh_backward is not defined: the reference's is called" in result.notes


def test_an_op_that_the_file_does_not_define_fails(tmp_path):
    (tmp_path / "my_ops.py").write_text(RELU)
    (result,) = conform(load_ops(str(tmp_path / "my_ops.py")), ["tanh"])
    assert result.problem == "my_ops.py defines neither tanh_forward nor tanh_backward"


def test_a_cache_of_a_single_array(tmp_path):
    """gradcheck perturbs the last digits of a cache to measure rounding errors of backward."""
    text = RELU.replace("relu", "tanh").replace("np.maximum(x, 0), x", "np.tanh(x), np.tanh(x)")
    result = checked(tmp_path, text.replace("(x > 0)", "(1 - x * x)"), cases=100)
    assert result.problem == ""

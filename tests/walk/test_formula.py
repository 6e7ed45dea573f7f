"""Lines of code as mathematics."""

import numpy as np
import pytest

from minise.walk.formula import Reader, read
from minise.walk.terms import name_of

SCOPE = {
    "np": np,
    "x": np.ones((2, 3, 4, 5)),
    "y": 1,
    "w": np.ones((3, 3)),
    "training": True,
    "none": None,
}
READER = Reader(
    evaluate=lambda text: eval(text, dict(SCOPE)),
    axes=lambda rank, *names: tuple("ncij"[:rank]),
    names={},
    call=lambda node, reader: None,
)


@pytest.mark.parametrize(
    ("code", "text"),
    [
        ("x * (a + b)", "x · (a + b)"),
        ("a - (b - c)", "a \N{MINUS SIGN} (b \N{MINUS SIGN} c)"),
        ("a - b + c", "a \N{MINUS SIGN} b + c"),
        ("a / (b * c)", "a / (b · c)"),
        ("(a + b) / c", "(a + b) / c"),
        ("-a * b", "\N{MINUS SIGN}a · b"),
        ("a * -b", "a · (\N{MINUS SIGN}b)"),
        ("(a + b) ** 2", "(a + b)^2"),
        ("x.sum(axis=(0, 2, 3))", "∑[n,i,j] x"),
        ("(x * x).mean(axis=(2, 3), keepdims=True)", "mean[i,j] x · x"),
        ("x[:, :, None, None] * cache.s", "x · s"),
        ("x[:, :, None, None] * cache.gates.s", "x · s"),
        ("np.where(x.real <= 0, 0, dx)", "{0 where x ≤ 0, dx elsewhere}"),
        ("sum_over(x, (0, 2, 3))", "∑[n,i,j] x"),
        ("sum_over(x * x, 0)", "∑[n] x · x"),
        ("mean_over(x - y, (2, 3), keepdims=True)", "mean[i,j] (x \N{MINUS SIGN} y)"),
        ("np.einsum('cr,nc->nr', w, x)", "∑[c] w[c,r] · x[n,c]"),
        ("einsum('cr,nc->nr', w, x)", "∑[c] w[c,r] · x[n,c]"),
        ("matmul(a + b, w.T)", "(a + b) wᵀ"),
        ("a if training else b", "a"),
        ("a @ w.T", "a wᵀ"),
        ("gamma / np.sqrt(var + eps)", "\N{GREEK SMALL LETTER GAMMA} / √(var + ε)"),
        ("np.asarray(x).reshape(2, -1)", "x"),
        ("sum over i, j of a[:, i] * b", "∑[i,j] a[i] · b"),
        ("x at argmax", "x at argmax"),
        ("b[k] + sum over c of w[k, c] * x[n, c]", "b[k] + ∑[c] w[k,c] · x[n,c]"),
        ("none[k] + sum over c of w[k, c] * x[n, c]", "∑[c] w[k,c] · x[n,c]"),
    ],
)
def test_reading(code, text):
    assert read(code, READER).text == text


def test_what_is_no_expression_is_not_read():
    assert read("the largest pixel of the window", READER) is None


@pytest.mark.parametrize(
    ("name", "mathml"),
    [
        ("x", "<mi>x</mi>"),
        ("w1", "<msub><mi>w</mi><mtext>1</mtext></msub>"),
        ("beta", "<mi>\N{GREEK SMALL LETTER BETA}</mi>"),
        ("divisor", '<mi mathvariant="normal">divisor</mi>'),
        ("dv", "<mrow><mi mathvariant='normal'>d</mi><mi>v</mi></mrow>"),
    ],
)
def test_names(name, mathml):
    assert name_of(name).mathml == mathml

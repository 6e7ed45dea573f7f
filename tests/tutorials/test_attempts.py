"""Attempts at the exercises of lessons 3, 5, 6 and 7, and the answer to each."""

import pytest

from minise.grading.settle import NOT_YET
from tests.tutorials.attempts import BLANK, answered, signs

ROWS = """
    def squeeze_excite_backward(dout, cache):
        x, *_ = cache
        w1, b1, w2, b2, z, h, s, *_ = cache.gates
        H, W = x.shape[2:]
        dx_scale = dout * s
        ds = (dout * x).sum(axis=(2, 3))
        dv = ds * s[:, :, 0, 0] * (1 - s[:, :, 0, 0])
        dh = dv @ w2
        dw2 = dv.T @ h[:, :, 0, 0]
        db2 = dv.sum(axis=0)
        du = np.where(h[:, :, 0, 0] <= 0, 0, dh)
        dz = du @ w1
        dw1 = du.T @ z[:, :, 0, 0]
        db1 = du.sum(axis=0)
        dx = dx_scale + dz[:, :, None, None] / (H * W)
        return dx, dw1, db1, dw2, db2
"""
KEEPDIMS = """
    def batch_norm2d_backward(dout, cache):
        x, gamma, beta, mean, rstd, *_ = cache
        M = x.size // len(gamma)
        centred = x - mean[:, None, None]
        xhat = centred * rstd[:, None, None]
        dbeta = dout.sum(axis=(0, 2, 3))
        dgamma = (dout * xhat).sum(axis=(0, 2, 3))
        dxhat = dout * gamma[:, None, None]
        drstd = (dxhat * centred).sum(axis=(0, 2, 3), keepdims=True)
        dvar = -0.5 * rstd[:, None, None]**3 * drstd
        dcentred = dxhat * rstd[:, None, None] + 2 / M * dvar * centred
        dmean = -dcentred.sum(axis=(0, 2, 3), keepdims=True)
        dx = dcentred + dmean / M
        return dx, dgamma, dbeta
"""
RENAMED_ROWS = (  # names of the cache with other shapes: no line can be substituted
    ROWS.replace(
        "        ds = ",
        "        z, h, s = (array[:, :, 0, 0] for array in (z, h, s))\n        ds = ",
    )
    .replace("s[:, :, 0, 0]", "s")
    .replace("h[:, :, 0, 0]", "h")
    .replace("z[:, :, 0, 0]", "z")
)
SLIPS = [
    *((text, *slip) for text in (ROWS, RENAMED_ROWS) for slip in [
        ("(dout * x).sum", "(dout * x).mean", "ds"),
        ("(1 - s", "(2 - s", "dv"),
        ("dv @ w2", "-dv @ w2", "dh"),
        ("dv @ w2", "dv.T @ w2", "dh"),
        ("db2 = dv.sum(axis=0)", "db2 = dv", "db2"),
        ("np.where(h", "np.where(-h", "du"),
        ("du @ w1", "2 * du @ w1", "dz"),
        ("dw1 = du.T", "dw1 = dh.T", "dw1"),
        ("dw1 = du.T", "dw1 = du", "dw1"),
        ("dz[:, :, None, None] / (H * W)", "dz[:, :, None, None]", "dx"),
        ("dz[:, :, None, None] / (H * W)", "dz / (H * W)", "dx"),
    ]),
    (KEEPDIMS, "-0.5 * rstd", "0.5 * rstd", "dvar"),
    (KEEPDIMS, "2 / M * dvar", "dvar", "dcentred"),
    (KEEPDIMS, "-dcentred.sum", "dcentred.sum", "dmean"),
    (KEEPDIMS, "dmean / M", "dmean", "dx"),
]  # fmt: skip


@pytest.mark.parametrize("text", [ROWS, RENAMED_ROWS, KEEPDIMS])
def test_a_learner_may_choose_a_shape_if_all_lines_agree(text):
    assert answered("05" if text == KEEPDIMS else "06", text=text).solved


@pytest.mark.parametrize(("text", "old", "new", "name"), SLIPS)
def test_a_slip_is_named_if_other_lines_have_another_shape(text, old, new, name):
    answer = answered("05" if text == KEEPDIMS else "06", (old, new), text=text)
    assert (answer.line.name, answer.also) == (name, ()), str(answer)
    assert not [
        line
        for line in answer.verdicts
        if line.number < answer.line.number and line.verdict in ("wrong", "follows")
    ]


def test_a_line_of_another_shape_is_named_not_the_line_that_fails():
    answer = answered("06", ('np.einsum("rc,nrij->ncij", w1, du)', "du[:, :, 0, 0] @ w1"))
    assert answer.line.name == "dz"
    assert "dz has shape (1, 3), expected (1, 3, 1, 1)" in answer.reason
    assert "line 15, which reads it, fails: ValueError" in answer.reason


BLANK_BELOW = ("du = np.where(h <= 0, 0, dh)", "du = ...")
MISSING_SUMS = [  # a blank below, text of the correct line, its replacement, part of the answer
    (
        "05",
        BLANK["05"],
        "dbeta = dout.sum(axis=(0, 2, 3))",
        "dbeta = dout.sum(axis=(2, 3))",
        "dbeta has shape (2, 1), expected (1,), that of beta: a sum is missing",
    ),
    (
        "05",
        BLANK["05"],
        "dbeta = dout.sum(axis=(0, 2, 3))",
        "dbeta = dout.sum(axis=(0, 2, 3), keepdims=True)",
        "dbeta has shape (1, 1, 1, 1), expected (1,), that of beta: is keepdims=True",
    ),
    (
        "05",
        BLANK["05"],
        "(dout * xhat).sum(axis=(0, 2, 3))",
        "(dout * xhat).sum(axis=(2, 3))",
        "dgamma has shape (2, 1), expected (1,), that of gamma: a sum is missing",
    ),
    (
        "03",
        ('np.einsum("nkpq,ncpq->kc", dout, seen)', "..."),
        "dout.sum(axis=(0, 2, 3))",
        "dout.sum(axis=(2, 3))",
        "dbias has shape (2, 5), expected (5,), that of bias: a sum is missing",
    ),
    (
        "06",
        BLANK_BELOW,
        "dv.sum(axis=(0, 2, 3))",
        "dv",
        "db2 has shape (2, 5, 1, 1), expected (5,)",
    ),
    (
        "06",
        BLANK_BELOW,
        "dv.sum(axis=(0, 2, 3))",
        "dv.sum(axis=0)",
        "db2 has shape (1, 1, 1), expected",
    ),
    (
        "06",
        BLANK_BELOW,
        "ncij,nrij->cr",
        "ncij,nrij->ncr",
        "dw2 has shape (2, 5, 3), expected (5, 3)",
    ),
]


@pytest.mark.parametrize(("number", "blank", "old", "new", "says"), MISSING_SUMS)
def test_a_missing_sum_of_a_returned_gradient_is_named_at_once(number, blank, old, new, says):
    answer = answered(number, (old, new), blank)
    assert new in answer.line.text.replace("'", '"')
    assert says in answer.reason
    assert [line.text for line in answer.verdicts if line.verdict == "to do"]
    assert "follow" not in answer.headline()


@pytest.mark.parametrize(
    ("old", "new", "blank"),
    [
        ("drstd = (dxhat * centred).sum(axis=(0, 2, 3))", "axis=(2, 3)", "-0.5 * rstd**3 * drstd"),
        (
            "dmean = -dcentred.sum(axis=(0, 2, 3))",
            "axis=(2, 3)",
            "dcentred + dmean[:, None, None] / M",
        ),
    ],
)
def test_a_sum_that_may_come_later_is_not_yet_right(old, new, blank):
    """Although the line is right if there is one image."""
    line = old.replace("axis=(0, 2, 3)", new)
    assert signs(answered("05", (old, line), (blank, "...")))[line] == "?"
    answer = answered("05", (old, line))
    assert answer.line.text == line
    assert "a sum is missing" in answer.reason


@pytest.mark.parametrize(
    ("factor", "says"),
    [
        (
            "(xhat**2).mean()",
            "dvar[0] is 0.015297570, forward's slope is 0.015297632, apart by 4e-06",
        ),
        (
            "(1 + 1e-7)",
            "dvar[0] is 0.01529763385, forward's slope is 0.01529763232, apart by 1e-07",
        ),
        ("(1 + 1e-3)", "dvar[0] is 0.0153129, forward's slope is 0.0152976"),
    ],
)
def test_two_numbers_have_the_digits_that_show_their_difference(factor, says):
    answer = answered("05", ("-0.5 * rstd**3", f"-0.5 * {factor} * rstd**3"))
    assert answer.line.name == "dvar"
    assert says in answer.reason
    assert ("eps" in answer.reason) == ("xhat" in factor)


def test_a_missing_eps_is_named():
    without = "-0.5 * (centred**2).mean(axis=(0, 2, 3)) ** -1.5"
    answer = answered("05", ("-0.5 * rstd**3", without))
    assert "apart by 6e-06 of it, like eps of var: is an eps left out" in answer.reason


def test_the_likely_mistake_is_below_with_the_case_that_shows_it():
    answer = answered("05", ("dbeta = dout.sum", "dbeta = dout.mean"))
    lines = [line.strip() for line in str(answer).splitlines()]
    first = next(k for k, line in enumerate(lines) if line.startswith("WRONG"))
    assert lines[first + 1] == "dbeta[0] is -0.732323, forward's slope is -2.19697"
    assert lines[first + 2].endswith("shows it: N = 1, C = 1, H = 1, W = 3, training = True")
    assert lines[first + 3].startswith(
        "likely (at N = 2, C = 3, H = 5, W = 4, training = True): the gradient is"
    )
    assert "the gradient is too small by a factor of N*H*W = 40" in lines[first + 3]
    assert answer._repr_html_().index(answer.case) < answer._repr_html_().index("N*H*W = 40")


@pytest.mark.parametrize(
    ("number", "old", "new", "says"),
    [
        (
            "05",
            "(dout * xhat).sum(axis=(0, 2, 3))",
            "dout",
            "is a sum over axes (0, 2, 3) missing?",
        ),
        ("05", "(dout * xhat).sum(axis=(0, 2, 3))", "2 * dout.sum(axis=0)", "is a sum missing?"),
        ("06", "dv.sum(axis=(0, 2, 3))", "dout", "is a sum over axes (0, 2, 3) missing?"),
    ],
)
def test_extra_axes_are_to_be_summed(number, old, new, says):
    answer = answered(number, (old, new))
    assert new in answer.line.text
    assert answer.reason.endswith(says)


@pytest.mark.parametrize(
    ("number", "line", "wrong", "blank"),
    [
        ("06", "dx_scale = dout * s", "dx_scale = dout", "dv = ds * s * (1 - s)"),
        (
            "03",
            'dweight[:, :, i, j] = np.einsum("nkpq,ncpq->kc", dout, seen)',
            'dweight[:, :, i, j] = np.einsum("nkpq,ncpq->kc", dout[::-1], seen)',
            'dseen = np.einsum("kc,nkpq->ncpq", weight[:, :, i, j], dout)',
        ),
    ],
)
def test_a_line_that_is_not_yet_right_is_marked_while_others_are_blank(number, line, wrong, blank):
    rest = (blank, f"{blank.split(' = ')[0]} = ...")
    for text, sign in ((line, "ok"), (wrong, "?")):
        answer = answered(number, (line + "\n", text + "\n"), rest)
        assert answer.line.verdict == "to do"
        (shown,) = (entry for entry in answer.verdicts if entry.text == text.replace('"', "'"))
        assert answer.sign(shown) == sign
        assert shown.note == ("" if sign == "ok" else NOT_YET)
        assert (NOT_YET in str(answer)) == (NOT_YET in answer._repr_html_()) == (sign == "?")


def test_a_product_that_fails_is_reported_with_its_shapes():
    answer = answered("06", ('np.einsum("cr,ncij->nrij", w2, dv)', "w2.T @ dv"))
    assert answer.line.verdict == "fails"
    assert "here w2.T is (2, 3), dv is (1, 3, 1, 1): @ multiplies the last two" in answer.reason
    answer = answered("06", ("dv @ w2", "dv @ w2.T"), text=ROWS)
    assert answer.reason.endswith("; here dv is (1, 3), w2.T is (2, 3)")
    answer = answered("06", ("dv @ w2", "dv @ missing"), text=ROWS)
    assert "here" not in answer.reason

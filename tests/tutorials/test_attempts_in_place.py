"""Attempts that change arrays in place, use a name twice, or loop over images."""

import pytest

from tests.tutorials.attempts import BLANK, NEXT_LINE, answered, signs


@pytest.mark.parametrize("blanks", [(), ("blank",)])
@pytest.mark.parametrize(
    ("number", "old", "new", "line", "what"),
    [
        (
            "06",
            "dx_scale = dout * s",
            f"dx_scale = dout{NEXT_LINE}dx_scale *= s",
            "dx_scale *= s",
            "dout",
        ),
        (
            "05",
            "dxhat = dout * gamma[:, None, None]",
            f"dout *= gamma[:, None, None]{NEXT_LINE}dxhat = dout",
            "dout *= gamma[:, None, None]",
            "dout",
        ),
        (
            "05",
            "dxhat = dout * gamma[:, None, None]",
            f"dxhat = dout{NEXT_LINE}dxhat *= gamma[:, None, None]",
            "dxhat *= gamma[:, None, None]",
            "dout",
        ),
        (
            "05",
            "centred = x - mean[:, None, None]",
            f"x -= mean[:, None, None]{NEXT_LINE}centred = x",
            "x -= mean[:, None, None]",
            "x of the cache",
        ),
    ],
)
def test_a_change_of_an_argument_in_place_is_wrong(number, old, new, line, what, blanks):
    """Also if all returned gradients are right, and while other lines are blank."""
    answer = answered(number, (old, new), *(BLANK[number] for _ in blanks))
    assert answer.line.text == line, str(answer)
    assert answer.reason.startswith(f"it changes {what} in place")
    assert "WRONG" not in {sign for text, sign in signs(answer).items() if text != line}


def test_a_line_that_reads_an_array_changed_in_place_is_marked():
    answer = answered("06", ("dx_scale = dout * s", f"dx_scale = dout{NEXT_LINE}dx_scale *= s"))
    assert signs(answer)["ds = (dout * x).sum(axis=(2, 3), keepdims=True)"] == "after 6"
    both = (
        "dtotal = np.where(cache.out <= 0, 0, dout)",
        f"dtotal = dout{NEXT_LINE}dtotal *= cache.out > 0",
    )
    answer = answered("07", both, ("dshortcut = dtotal", "dshortcut = dout"))
    assert answer.line.text == "dtotal *= cache.out > 0"
    assert signs(answer)["dshortcut = dout"] == "ok"


def test_a_mistake_above_a_change_in_place_comes_first():
    answer = answered(
        "05",
        ("dbeta = dout.sum", "dbeta = dout.mean"),
        (
            "dxhat = dout * gamma[:, None, None]",
            f"dxhat = dout{NEXT_LINE}dxhat *= gamma[:, None, None]",
        ),
    )
    assert answer.line.name == "dbeta"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("dx = dx_scale + dz / (H * W)", f"dx = dx_scale{NEXT_LINE}dx += dz / (H * W)"),
        ("du = np.where(h <= 0, 0, dh)", f"du = dh{NEXT_LINE}du[h <= 0] = 0"),
        ("du = np.where(h <= 0, 0, dh)", f"du = dh{NEXT_LINE}du *= h > 0"),
    ],
)
def test_local_arrays_may_change_in_place(old, new):
    assert answered("06", (old, new)).solved
    answer = answered("06", (old, new), ("dw1 = np.einsum", "dw1 = -np.einsum"))
    assert (answer.line.name, answer.also) == ("dw1", ())


REUSED = [  # the correct line, its replacement, the name that is assigned twice
    ("du = np.where(h <= 0, 0, dh)", f"dh = dh * (h > 0){NEXT_LINE}du = dh", "dh"),
    ("du = np.where(h <= 0, 0, dh)", f"dh *= h > 0{NEXT_LINE}du = dh", "dh"),
    ("du = np.where(h <= 0, 0, dh)", f"dh[h <= 0] = 0{NEXT_LINE}du = dh", "dh"),
    ("dv = ds * s * (1 - s)", f"ds = ds * s * (1 - s){NEXT_LINE}dv = ds", "ds"),
    ("dv = ds * s * (1 - s)", f"ds = ds * s{NEXT_LINE}ds = ds * (1 - s){NEXT_LINE}dv = ds", "ds"),
    ("ds = (dout * x).sum(", f"ds = dout * x{NEXT_LINE}ds = ds.sum(", "ds"),
]


@pytest.mark.parametrize(("old", "new", "name"), REUSED)
def test_a_name_that_is_used_again_is_no_mistake(old, new, name):
    assert answered("06", (old, new)).solved
    blank = answered("06", (old, new), ('np.einsum("rc,nrij->ncij", w1, du)', "..."))
    assert blank.line.text == "dz = ..."
    assert {line.verdict for line in blank.verdicts if line.name == name} <= {"right", "not judged"}
    answer = answered("06", (old, new), ("dz / (H * W)", "dz"))
    assert (answer.line.name, answer.also) == ("dx", ())
    assert {line.verdict for line in answer.verdicts if line.name == name} <= {
        "right",
        "not judged",
    }


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("du = np.where(h <= 0, 0, dh)", f"dh = dh * (h[:1] > 0){NEXT_LINE}du = dh"),
        ("dv = ds * s * (1 - s)", f"ds = ds * s{NEXT_LINE}dv = ds"),
        ("dv = ds * s * (1 - s)", f"ds = ds / 2{NEXT_LINE}dv = ds * s * (1 - s)"),
        ("ds = (dout * x).sum(", f"ds = dout * x{NEXT_LINE}ds = 2 * ds.sum("),
    ],
)
def test_a_mistake_in_a_line_that_uses_a_name_again_is_named(old, new):
    answer = answered("06", (old, new))
    lines = [line for line in answer.verdicts if line.name == answer.line.name]
    assert answer.line == lines[-1], str(answer)
    assert answer.line.name in ("dh", "ds")


LOOP = """
    def squeeze_excite_backward(dout, cache):
        x, *_ = cache
        w1, b1, w2, b2, z, h, s, *_ = cache.gates
        H, W = x.shape[2:]
        dx, dw1, dw2 = np.zeros(x.shape), np.zeros(w1.shape), np.zeros(w2.shape)
        db1, db2 = np.zeros(b1.shape), np.zeros(b2.shape)
        for n in range(len(x)):
            dx_scale = dout[n] * s[n]
            ds = (dout[n] * x[n]).sum(axis=(1, 2))
            dv = ds * s[n, :, 0, 0] * (1 - s[n, :, 0, 0])
            dh = w2.T @ dv
            dw2 += np.outer(dv, h[n, :, 0, 0])
            db2 += dv
            du = np.where(h[n, :, 0, 0] <= 0, 0, dh)
            dz = w1.T @ du
            dw1 += np.outer(du, z[n, :, 0, 0])
            db1 += du
            dx[n] = dx_scale + dz[:, None, None] / (H * W)
        return dx, dw1, db1, dw2, db2
"""


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("dout[n] * s[n]", "dout[n]", "dx_scale"),
        ("dout[n] * x[n]", "dout[n] * x[0]", "ds"),
        ("ds * s[n, :, 0, 0]", "ds", "dv"),
        ("ds * s[n, :, 0, 0]", "ds * s[0, :, 0, 0]", "dv"),
        ("dw2 += np", "dw2 = np", "dw2"),
        ("db2 += dv", "db2 += ds", "db2"),
        ("<= 0, 0, dh", ">= 0, 0, dh", "du"),
        ("w1.T @ du", "2 * w1.T @ du", "dz"),
        ("w1.T @ du", "w1 @ du", "dz"),
        ("db1 += du", "db1 = du", "db1"),
        ("dz[:, None, None] / (H * W)", "dz[:, None, None]", "dx"),
    ],
)
def test_a_slip_in_a_loop_over_images_is_named_at_its_line(old, new, name):
    answer = answered("06", (old, new), text=LOOP)
    assert (answer.line.name, answer.also) == (name, ()), str(answer)
    above = [line.verdict for line in answer.verdicts if line.number < answer.line.number]
    assert {"wrong", "follows"}.isdisjoint(above)


def test_sums_of_a_loop_over_images_are_not_judged_before_its_end():
    assert answered("06", text=LOOP).solved
    for old, new in (("w1.T @ du", "..."), ("np.outer(du, z[n, :, 0, 0])", "...")):
        answer = answered("06", (old, new), text=LOOP)
        assert answer.line.verdict == "to do", str(answer)
        assert "wrong" not in {line.verdict for line in answer.verdicts}


def test_a_line_that_writes_into_an_array_is_shown_while_others_are_blank():
    edit = ("du = np.where(h <= 0, 0, dh)", f"dh[h <= 0] = 0{NEXT_LINE}du = dh")
    answer = answered("06", edit, ('np.einsum("rc,nrij->ncij", w1, du)', "..."))
    assert signs(answer)["dh[h <= 0] = 0"] == "ok"


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("dx_scale = dout * s", f"dx_scale = dout{NEXT_LINE}np.multiply(dout, s, out=dx_scale)", 6),
        ("dx_scale = dout * s", "dx_scale = np.multiply(dout, s, out=dout)", 5),
        (
            "dx_scale = dout * s",
            f"for image in dout:{NEXT_LINE}    image += 0.5{NEXT_LINE}dx_scale = dout",
            6,
        ),
        ("return dx, dw1", "return dx, np.add(dw1, 0, out=w1)", 16),
    ],
)
def test_every_way_to_change_an_argument_in_place_is_wrong(old, new, line):
    answer = answered("06", (old, new))
    assert answer.line.number == line, str(answer)
    assert "in place" in answer.reason

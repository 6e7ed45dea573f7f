"""A wrong line is told apart from right lines that inherit its error."""

import numpy as np
import pytest

from minise import nn
from minise.ops.backend import load_ops
from minise.ops.reference import linear, norm
from minise.walk import trace
from minise.walk.cases import case
from minise.walk.faults import mark_of, sentence_of
from minise.walk.text import lines
from tests.walk.students import CONV, RIGHT, edited, module, replaced

DV = ("dv = ds * s * (1 - s)", "dv = ds * s")
DU = ('* (cache["h"] > 0)', '* (cache["h"] >= 0)')
DH = ('dv @ cache["w2"]', '2 * dv @ cache["w2"]')


def walked(path, op, *edits, text=None, of=None, **settings):
    """Walk through an op of a file with planted mistakes."""
    ops = edited(path, *edits, of=of) if text is None else module(path, replaced(text, *edits))
    chosen = case(op, settings=settings)
    return trace(op, chosen.x, ops=ops, file=path, **chosen.settings)


def faults(walk):
    """Return the names of culprits, and by heir the names of the culprits that it inherits from."""
    wrong = [step for step in walk.steps if step.is_wrong]
    assert all(step.fault for step in wrong)
    assert all(step.fault is None for step in walk.steps if not step.is_wrong)
    culprits = [step.name for step in wrong if step.fault.is_culprit]
    inherits = {s.name: [walk.steps[k].name for k in s.fault.inherits] for s in wrong}
    return culprits, {name: origins for name, origins in inherits.items() if origins}


BELOW_DV = ["dh", "du", "dz", "dx", "dw1", "db1", "dw2", "db2"]
PLANTED = {
    "the gate's slope": ([DV], ["dv"], {key: ["dv"] for key in BELOW_DV}),
    "a factor": ([DH], ["dh"], {key: ["dh"] for key in ["du", "dz", "dx", "dw1", "db1"]}),
    "the factor of one route": (
        [("ds = (dout * x)", "ds = (dout)")],
        ["ds"],
        {key: ["ds"] for key in ["dv", *BELOW_DV]},
    ),
    "a weight transposed": (
        [('du @ cache["w1"]', 'du @ cache["w1"][::-1]')],
        ["dz"],
        {"dx": ["dz"]},
    ),
    "a route left out": ([(" + share[:, :, None, None]", "")], ["dx"], {}),
    "a mean for a sum, read by no line": ([("dv.sum(axis=0)\n", "dv.mean(axis=0)\n")], ["db2"], {}),
    "two lines": (
        [DV, DH],
        ["dv", "dh"],
        {
            "dh": ["dv"],
            **{key: ["dv", "dh"] for key in ["du", "dz", "dx", "dw1", "db1"]},
            **{key: ["dv"] for key in ["dw2", "db2"]},
        },
    ),
}


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
def test_planted_mistakes_of_squeeze_excite(planted, tmp_path):
    edits, culprits, heirs = planted
    walk = walked(tmp_path / "mine.py", "squeeze_excite", *edits, text=RIGHT)
    assert faults(walk) == (culprits, heirs)
    assert [step.name for step in walk.culprits] == culprits


def test_a_line_without_a_check_is_named_beside_the_first_checked_line(tmp_path):
    edit = ("share = dz / (x.shape[2] * x.shape[3])", "share = dz / x.shape[2]")
    walk = walked(tmp_path / "mine.py", "squeeze_excite", edit, text=RIGHT)
    assert faults(walk) == (["dx"], {})
    (step,) = walk.culprits
    assert [walk.steps[number].name for number in step.fault.unchecked] == ["share"]
    assert "this line or the line of share (step 12), which has no check" in sentence_of(walk, step)


def test_planted_mistakes_of_batch_norm(tmp_path):
    """Three routes meet in dx, and dvar is a small term of it."""
    edit = ("dvar = -0.5 * rstd**3 * drstd", "dvar = -0.5 * rstd**2 * drstd")
    walk = walked(tmp_path / "mine.py", "batch_norm2d", edit, of=norm)
    culprits, heirs = faults(walk)
    assert culprits == ["dvar"]
    assert heirs["dx"] == ["dvar"]
    assert "dgamma" not in heirs
    assert "dmean" not in heirs


def test_planted_mistake_of_linear(tmp_path):
    edit = ("dweight = matmul(dout.T, x)", "dweight = matmul(dout.T, abs(x))")
    assert faults(walked(tmp_path / "mine.py", "linear", edit, of=linear)) == (["dweight"], {})


IN_A_LOOP = ('+= np.einsum("nk,kcab', '= np.einsum("nk,kcab')
OUTSIDE = ("dx = dpadded[:, :, ph", "dx = 2 * dpadded[:, :, ph")


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        ([], ([], {})),
        ([IN_A_LOOP], (["dpadded"], {"dx": ["dpadded"]})),
        ([OUTSIDE], (["dx"], {})),
        ([IN_A_LOOP, OUTSIDE], (["dpadded", "dx"], {"dx": ["dpadded"]})),
        ([("g, window)", "2 * g, window)")], (["dweight"], {})),
    ],
    ids=["right", "in a loop", "outside", "both", "added to"],
)
def test_loops_that_fill_gradients_in_place(edits, expected, tmp_path):
    walk = walked(tmp_path / "mine.py", "conv2d", *edits, text=CONV, padding=(1, 1))
    assert faults(walk) == expected
    assert walk.ok == (not edits)
    for step in walk.culprits:
        if step.name == "dpadded":
            assert "this line or a later line that fills dpadded" in sentence_of(walk, step)


SIGMOID = """
import numpy as np


def sigmoid_forward(x):
    out = 1 / (1 + np.exp(-x))
    return out, out


def sigmoid_backward(dout, cache):
    dx = dout * cache
    return (dx,)
"""


def test_an_error_is_inherited_from_layer_to_layer(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(SIGMOID)
    first, last = (nn.Linear(2, 2, rng=seed, dtype=float) for seed in (0, 1))
    net = nn.Chain(("first", first), ("gate", nn.Sigmoid()), ("last", last))
    walk = trace(net, np.random.default_rng(2).standard_normal((3, 2)), ops=load_ops(str(path)))
    (culprit,) = walk.culprits
    assert (culprit.name, culprit.layer, culprit.file) == ("dx", "gate", "mine.py")
    heirs = [step for step in walk.steps if step.is_wrong and step is not culprit]
    assert {(step.layer, step.gradient_of) for step in heirs} == {
        ("first", "x"),
        ("first", "first.weight"),
        ("first", "first.bias"),
    }
    assert all(step.fault.inherits == (culprit.number,) for step in heirs)
    assert not any(step.fault.is_culprit for step in heirs)


def test_a_backward_that_branches_on_its_gradients_has_no_faults(tmp_path):
    """It raises when a gradient is replaced: no line is then called right."""
    guard = "dv = ds * s\n    if not np.array_equal(dv, ds * s): raise ValueError"
    walk = walked(tmp_path / "mine.py", "squeeze_excite", (DV[0], guard), text=RIGHT)
    assert [step.name for step in walk.culprits] == ["dv"]
    assert all(step.fault is None for step in walk.steps)
    assert sentence_of(walk, walk.culprits[0]).startswith("Wrong: the mistake is in this line or")


def test_a_gradient_of_the_wrong_shape_is_refused(tmp_path):
    edit = ('du.T @ cache["z"]', 'cache["z"].T @ du')
    message = r"returns a gradient of shape \(3, 2\) for w1, expected \(2, 3\), the shape of w1"
    with pytest.raises(ValueError, match=message):
        walked(tmp_path / "mine.py", "squeeze_excite", edit, text=RIGHT)


def test_the_text_says_which_line_is_wrong(tmp_path):
    walk = walked(tmp_path / "mine.py", "squeeze_excite", DV, DH, text=RIGHT)
    marks = {step.name: mark_of(walk, step) for step in walk.steps if step.is_wrong}
    assert marks["dv"] == "wrong line"
    assert marks["dh"] == "wrong line, inherits from dv too"
    assert marks["db2"] == "inherits from dv"
    assert marks["dx"] == "inherits from dv, dh"
    text = "\n".join(line.plain for line in lines(walk))
    assert "Inherits from dv: this line is right, and reads the error of dv (step 8)." in text
    assert text.endswith(
        "the wrong lines are dv (step 8): mine.py:18, dh (step 9): mine.py:19; "
        "du, dz, dx and 4 more inherit the error"
    )


@pytest.mark.parametrize("factor", ["np.inf", "np.log(-s)"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_backward_that_is_not_finite_names_its_first_line(factor, tmp_path):
    """Not the last line, to which NaN has spread; and no page can show NaN."""
    edit = "dv = ds * s * (1 - s)", f"dv = ds * s * (1 - s) * {factor}"
    with pytest.raises(ValueError, match="walk: dv has NaN or infinity in line 18, expected"):
        walked(tmp_path / "mine.py", "squeeze_excite", edit, text=RIGHT)

"""The walk as a user of the command line meets it."""

import sys
from pathlib import Path

import numpy as np
import pytest

from minise.pictures import OF_WALKS, PICTURES, se_block
from minise.walk.cases import case, names
from minise.walk.pages import Page
from tests.cli.commands import call
from tests.walk.students import RIGHT

WRONG = RIGHT.replace("dv = ds * s * (1 - s)", "dv = ds * s")


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    Path("right.py").write_text(RIGHT)
    Path("wrong.py").write_text(WRONG)
    Path("text.npz").write_text("no archive")
    np.save("one.npy", np.ones((2, 2)))
    _, x, w1, b1, w2, b2 = (None, *case("se", (1, 2, 2, 2), 3).x)
    np.savez("mine.npz", x=x[:, :, :, ::-1], w1=w1[:, :2], b1=b1, w2=w2[:2], b2=b2[:2], gate="tanh")
    np.savez("few.npz", x=x, w1=w1)


def test_text_shows_both_passes_with_code_and_verdict(capsys):
    status, out, err = call("walk se --shape 1 2 2 2 --seed 3", capsys)
    assert (status, err) == (0, "")
    assert out.index("forward pass") < out.index("loss = <dout, out>") < out.index("backward pass")
    assert "dx = dx_scale + dx_gate  minise/ops/reference/squeeze_excite.py:" in out
    assert "correct: the complex-step derivative with respect to x agrees" in out
    assert "gradient entries agree with numerical derivatives of forward" in out


def test_shape_seed_and_settings_choose_the_case(capsys):
    _, pairs, _ = call("walk conv --shape 1 1 3 3 --settings stride=2,2 padding=1,1", capsys)
    assert "x (1, 1, 3, 3)" in pairs
    assert "out (1, 2, 2, 2)" in pairs
    _, same, _ = call("walk conv --shape 1 1 3 3 --settings stride=2 padding=1", capsys)
    assert same == pairs
    _, two, _ = call("walk linear --seed 1", capsys)
    _, three, _ = call("walk linear --seed 2", capsys)
    assert two != three


def test_a_file_of_ones_own_arrays(capsys):
    status, out, _ = call("walk se --file mine.npz", capsys)
    assert status == 0
    assert "gate = 'tanh'" in out
    assert "s = tanh(v)" in out
    assert "x (1, 2, 2, 2)" in out


def test_a_file_of_ones_own_ops(capsys):
    assert call("walk se --ops right.py", capsys)[0] == 0
    status, out, err = call("walk se --ops wrong.py", capsys)
    assert status == 1
    assert "WRONG: 6 of 6 entries" in out
    assert "dv is not forward's gradient, see wrong.py:18: dv = ds * s" in err


@pytest.mark.long
def test_a_net_with_a_files_ops_and_the_references(capsys):
    status, out, _ = call("walk block --shape 1 2 2 2 --ops right.py", capsys)
    assert status == 0
    assert "s = 1 / (1 + np.exp(-v))  right.py:" in out
    assert "minise/ops/reference/conv.py:" in out
    assert call("walk block --shape 1 2 2 2 --ops wrong.py", capsys)[0] == 1


def test_a_page_of_a_wrong_op_is_written_too(capsys):
    assert call("walk se --ops wrong.py --html page.html", capsys)[0] == 1
    assert Path("page.html").stat().st_size > 50_000


def test_what_the_specifications_lack_is_told_in_one_line(capsys, monkeypatch):
    """They are read when minise.walk.cases is imported: any error of an import stands for it."""
    monkeypatch.setitem(sys.modules, "minise.walk.cases", None)
    status, _, err = call("walk silu", capsys)
    assert (status, err.count("\n")) == (2, 1)
    assert err.startswith("minise: ")


def test_a_page_has_the_picture_of_its_op(capsys):
    for subject in ("se", "relu"):
        call(f"walk {subject} --html {subject}.html", capsys)
    call("walk se --settings squeeze=max --html max.html", capsys)
    assert Path("se.html").read_text().count(se_block().svg) == 1
    for other in ("relu.html", "max.html"):  # the picture shows the default settings
        assert '<template id="picture"></template>' in Path(other).read_text()
    assert set(OF_WALKS) <= set(names())
    assert set(PICTURES.values()) == set(OF_WALKS.values())


def test_all_pages_with_an_index(capsys, monkeypatch):
    few = {"Activations": [Page("relu"), Page("tanh")]}
    monkeypatch.setattr("minise.walk.pages.GROUPS", few)
    status, out, _ = call("walk --all pages", capsys)
    assert (status, out) == (0, "2 pages and pages/index.html\n")
    assert {path.name for path in Path("pages").iterdir()} == {
        "index.html",
        "relu.html",
        "tanh.html",
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("walk", "walk: name an op to walk through, for example `minise walk se`"),
        ("walk seq", "'seq' is unknown, expected one of batch-norm, conv"),
        ("walk se --shape 4 64 32 32", "at most 3,000, because each is shown and checked: try ("),
        (
            "walk se --shape 4 4",
            "shape is (4, 4), expected 4 numbers: x of squeeze_excite has",
        ),
        ("walk se --settings gate", "settings has 'gate', expected name=value"),
        ("walk se --settings gate=soft", "gate is 'soft', expected one of sigmoid"),
        ("walk conv --settings stride=0", "stride (rows) is 0, expected at least 1"),
        ("walk conv --settings stride=x", "stride is 'x', expected a pair (rows, columns)"),
        (
            "walk conv --settings bogus=1",
            "settings has bogus, expected some of stride, padding, dilation, groups: conv2d has no",
        ),
        ("walk relu --settings p=1", "settings has p, expected none: relu has no setting p"),
        ("walk se --ops right.py --settings bogus=1", "settings has bogus, expected some of"),
        ("walk net --settings stride=1", "settings has stride, expected none: net has no settings"),
        ("walk relu --seed -1", "walk: seed is -1, expected at least 0"),
        ("walk net --seed -1", "walk: seed is -1, expected at least 0"),
        ("walk --all pages --seed -1", "walk: seed is -1, expected at least 0"),
        ("walk --all right.py", "walk: all is the file right.py, expected a folder"),
        ("walk block --html /nonexist/a.html", "existing folder: create the folder /nonexist"),
        ("walk se --html .", "walk: html is the folder ., expected a file: pass page.html"),
        ("walk se --file none.npz", "none.npz does not exist, expected a .npz file"),
        ("walk se --file text.npz", ", expected a .npz file of plain arrays"),
        ("walk se --file one.npy", "one.npy is a .npy file with one array, expected a .npz file"),
        ("walk se --file few.npz", "few.npz has x, w1, expected w2 too for squeeze_excite"),
        ("walk conv --ops right.py", "right.py has no conv2d_forward and no conv2d_backward"),
        ("walk se --ops jit", "ops is 'jit', expected reference or a .py file"),
        ("walk se --ops none.py", "'none.py' does not exist"),
        ("walk se --html no/folder/page.html", "create the folder no/folder"),
    ],
)
def test_misuse_is_one_line_and_status_2(line, message, capsys):
    status, _, err = call(line, capsys)
    assert status == 2
    assert err.startswith("minise: ")
    assert err.count("\n") == 1
    assert message in err

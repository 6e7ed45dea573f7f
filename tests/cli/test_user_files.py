"""Files of the user's own, right and broken, through every verb that takes one: one line each."""

import re
from pathlib import Path

import pytest

from minise.bench.profile import Rates
from tests.cli.broken_files import AT_IMPORT, AT_RUN, FORM
from tests.cli.commands import call

NET = "se_resnet8"
TRAIN = f"train --data shapes10 --limit 4 --val 0 --epochs 1 --batch-size 4 --model {NET}"
VERBS = {
    "check": "check --cases 5 --ops",
    "walk": "walk relu --shape 2 3 --ops",
    "train": f"{TRAIN} --ops",
    "profile": f"profile --batch 2 --steps 1 --threads 1 --net {NET} --ops",
}


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 20)  # all classes
    monkeypatch.setattr("minise.bench.profile.measure_rates", lambda *_: Rates(1e9, 1e9))
    Path("sibling.py").write_text("x = 1\nyy\n")
    Path("typo.py").write_text("x = (1\n")
    Path("circle.py").write_text("from my_ops import relu_forward\n")


def write(text, name="my_ops.py"):
    Path(name).write_bytes(text if isinstance(text, bytes) else text.encode())


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", AT_IMPORT)
def test_what_cannot_be_imported_is_misuse(name, verb, capsys):
    text, words = AT_IMPORT[name]
    write(text)
    status, _, err = call(f"{VERBS[verb]} my_ops.py", capsys)
    assert status == 2, err
    assert re.fullmatch(r"minise: .*\n", err)
    assert re.search(words, err.rstrip("\n")), err


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", AT_RUN)
def test_what_fails_when_it_is_run_is_a_failed_run(name, verb, capsys):
    text, words = AT_RUN[name]
    write(text)
    status, out, err = call(f"{VERBS[verb]} my_ops.py", capsys)
    assert status == 1, err
    assert re.fullmatch(r"minise: .*my_ops.py:\d+.*\n", err), err
    assert re.search(words, out + err) or verb == "check", err  # its smallest case is another


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("name", FORM)
def test_form_stops_nothing(name, verb, capsys):
    write(FORM[name])
    status, _, err = call(f"{VERBS[verb]} my_ops.py", capsys)
    assert (status, err) == (0, "")


def test_a_run_is_evaluated_from_any_folder_and_says_where_its_file_is_missing(capsys, monkeypatch):
    write(FORM["one array"])
    assert call(f"{TRAIN} --ops my_ops.py --name mine", capsys)[0] == 0
    run = Path("runs/mine").resolve()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    status, out, err = call(f"eval {run}", capsys)
    assert (status, err) == (0, "")
    assert "test accuracy" in out
    Path("../my_ops.py").rename("moved.py")
    status, _, err = call(f"eval {run}", capsys)
    assert status == 2
    assert re.fullmatch(r"minise: eval: ops is .*/my_ops.py, expected the file .* --ops .*\n", err)
    for ops in ("moved.py", "reference"):
        assert call(f"eval {run} --ops {ops}", capsys)[1] == out


def test_what_check_says_beside_its_table(capsys):
    write(
        FORM["one array"] + "def mine_forward(x): return x, 1\ndef mine_backward(d, c): return d\n"
    )
    status, out, _ = call("check --ops my_ops.py --cases 6", capsys)
    assert status == 0
    assert "notes on form (the numbers are right):\n  relu: the cache is an array" in out
    assert "  relu: relu_backward returns an array, expected a tuple\n" in out
    assert "the ops that my_ops.py does not define are the reference's\n" in out
    assert "not checked, because minise has no such op: mine; call minise.gradcheck.check\n" in out
    status, _, err = call("check --ops my_ops.py --op tanh", capsys)
    assert status == 2
    assert err == "minise: check: op is 'tanh', expected an op of my_ops.py, which has relu\n"


SOME_OPS = "from minise.ops.reference import conv2d_forward, conv2d_backward\n"
NORM = """
def batch_norm2d_forward(x, gamma, beta, eps=1e-5):
    return x * gamma[:, None, None], (x, gamma)
def batch_norm2d_backward(dout, cache):
    x, gamma = cache
    return dout * gamma[:, None, None], (dout * x).sum((0, 2, 3)), 0 * gamma
"""


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SOME_OPS + "def asarray(a, dtype=None): return [a]\n", "asarray returns a list of 1, exp"),
        (
            SOME_OPS + "def sgd_update(*a, **b): raise OSError('x')\n",
            r"OSError: x \(in sgd_update\)",
        ),
        (
            "from minise.ops.reference import *\ndef run_conv2d(*a): pass\n",
            "run_conv2d returns None",
        ),
        (
            SOME_OPS + "def conv2d_backward(d, c, needs_dx=True): return 3 * (None,)\n",
            "conv2d_backward returns as dx None, expected an array",
        ),
        (NORM, "batch_norm2d_forward takes no training, but is called with training=False"),
    ],
)
def test_what_only_training_calls(text, words, capsys):
    write(text)
    status, _, err = call(f"{TRAIN} --ops my_ops.py", capsys)
    assert status == 1
    assert re.fullmatch(r"minise: my_ops.py:\d+: .*\n", err)
    assert re.search(words, err)


def test_a_guard_watches_the_users_ops_too(capsys):
    write(FORM["one array"].replace("np.maximum(x, 0)", "x * np.nan"))
    status, _, err = call(f"{TRAIN} --ops my_ops.py --guard", capsys)
    assert status == 1
    assert "layer bn1, relu_forward: its result out has " in err
    write(FORM["one array"])
    assert call(f"{TRAIN} --ops my_ops.py --guard", capsys)[::2] == (0, "")


def test_a_profile_shows_the_users_op_by_its_name(capsys):
    write(FORM["one array"])
    _, out, _ = call(f"{VERBS['profile']} my_ops.py", capsys)
    assert re.search(r"\n relu +backward +7 ", out)
    assert re.search(r"\n batch_norm2d +forward +9 ", out)
    assert "batch_norm2d_relu" not in out

"""Files of the user's own, right and broken, through every verb that takes one: one line each."""

import re
from pathlib import Path

import pytest

from minise.bench.roofline import Rates
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
    monkeypatch.setattr("minise.train.setup.SHAPES10_TEST", 4)
    monkeypatch.setattr("minise.bench.profile.measure", lambda *_: Rates(1e9, 1e9))
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
